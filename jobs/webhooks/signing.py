"""Signatures of Standard Webhooks (https://www.standardwebhooks.com).

A signature is the HMAC-SHA256 of id, timestamp and body with a shared secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable

SECRET_PREFIX = "whsec_"


def generate_secret() -> str:
    """Generate a secret of 256 random bits."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def mask_secret(secret: str) -> str:
    """Mask a secret except for the last characters, which tell two secrets apart."""
    return f"{SECRET_PREFIX}…{secret[-5:-1]}"


def build_signature_headers(
    signing_secrets: Iterable[str], message_id: str, timestamp: int, body: str
) -> dict[str, str]:
    """Build the signature headers, with one signature per secret.

    During a rotation there are two secrets, and a receiver may have either of them.
    """
    content = f"{message_id}.{timestamp}.{body}".encode()
    signatures = " ".join(_sign(secret, content) for secret in signing_secrets)
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": signatures}


def _sign(secret: str, content: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    return "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
