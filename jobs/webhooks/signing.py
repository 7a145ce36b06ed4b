"""Standard Webhooks (https://www.standardwebhooks.com): HMAC-SHA256 of id, time and body under a shared secret."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable

SECRET_PREFIX = "whsec_"


def generate_secret() -> str:
    """256 random bits."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def mask_secret(secret: str) -> str:
    """Enough to tell two secrets apart, and no more."""
    return f"{SECRET_PREFIX}…{secret[-5:-1]}"


def build_signature_headers(
    signing_secrets: Iterable[str], message_id: str, timestamp: int, body: str
) -> dict[str, str]:
    """One signature for each secret, so that a receiver may hold either of two while they change."""
    signed = " ".join(_sign(key, f"{message_id}.{timestamp}.{body}".encode()) for key in signing_secrets)
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": signed}


def _sign(secret: str, content: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    return "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
