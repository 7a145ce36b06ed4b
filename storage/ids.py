"""Identifiers in OpenAI's format: a prefix for the kind of object, then 24 random characters."""

from __future__ import annotations

import secrets
import string

_ALPHABET = string.ascii_letters + string.digits
_BYTE_LIMIT = 256 // len(_ALPHABET) * len(_ALPHABET)

PREFIXES = {
    "file": "file-",
    "job": "ftjob-",
    "event": "ftevent-",
    "checkpoint": "ftckpt_",
    "organization": "org_",
    "project": "proj_",
    "key": "key_",
    "audit": "audit_",
    "upload": "upload_",
    "part": "part_",
    "permission": "cp_",
    "batch": "batch_",
    "batch_request": "batch_req_",
    "webhook": "wh_",
    "delivery": "evt_",
    "chat": "chatcmpl-",
    "completion": "cmpl-",
    "request": "req_",
}


def new_id(kind: str) -> str:
    """Create an id with 143 random bits, so that ids are unique and cannot be guessed."""
    return PREFIXES[kind] + random_text(24)


def random_text(length: int) -> str:
    """Return uniformly random letters and digits.

    Every request gets an id, so the bytes come from one call: ``secrets.choice`` per character
    takes four times as long.
    """
    text = ""
    while len(text) < length:
        # Bytes above the largest multiple of the alphabet's size would favor its first letters.
        text += "".join(
            _ALPHABET[byte % len(_ALPHABET)] for byte in secrets.token_bytes(2 * length) if byte < _BYTE_LIMIT
        )
    return text[:length]
