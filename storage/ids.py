"""Identifiers in OpenAI's spelling: a prefix that names the kind, then 24 random characters."""

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
    """143 random bits, so that ids can be neither guessed nor met twice."""
    return PREFIXES[kind] + random_text(24)


def random_text(length: int) -> str:
    """Letters and digits, all as likely. One call for the bytes, since every request has an id: a
    ``secrets.choice`` for each letter takes four times as long."""
    found = ""
    while len(found) < length:
        # Bytes past the last whole alphabet would favour its first letters.
        found += "".join(
            _ALPHABET[byte % len(_ALPHABET)] for byte in secrets.token_bytes(2 * length) if byte < _BYTE_LIMIT
        )
    return found[:length]
