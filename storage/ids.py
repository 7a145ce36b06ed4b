"""Identifiers in OpenAI's spelling: a prefix that names the kind, then 24 random characters."""

from __future__ import annotations

import secrets
import string

_ALPHABET = string.ascii_letters + string.digits

PREFIXES = {
    "file": "file-",
    "job": "ftjob-",
    "event": "ftevent-",
    "checkpoint": "ftckpt_",
    "project": "proj_",
    "key": "key_",
    "chat": "chatcmpl-",
    "completion": "cmpl-",
    "request": "req_",
}


def new_id(kind: str) -> str:
    """143 random bits, so that ids can be neither guessed nor met twice."""
    return PREFIXES[kind] + random_text(24)


def random_text(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
