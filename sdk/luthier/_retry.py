"""When a request is sent again, and after how long: what OpenAI's clients do."""

from __future__ import annotations

import email.utils
import random
import time
import uuid

import httpx

RETRY_STATUSES = frozenset({408, 409, 429})
"""Sent again, as every status from 500 on."""
INITIAL_DELAY_SECONDS = 0.5
MAX_DELAY_SECONDS = 8.0
MAX_RETRY_AFTER_SECONDS = 120.0
"""A server that asks for a longer pause is not asked again."""

_INFERENCE_PATHS = ("/chat/completions", "/completions", "/embeddings", "/predictions")


def add_idempotency_key(request: httpx.Request) -> None:
    """Give what makes or changes something a key, the same for all its attempts, so that a retry does it once."""
    # Asking a model changes nothing, so the server need not remember the answer.
    if request.method == "POST" and not request.url.path.endswith(_INFERENCE_PATHS):
        request.headers.setdefault("idempotency-key", f"luthier-{uuid.uuid4().hex}")


def compute_retry_delay(outcome: httpx.Response | httpx.TransportError, attempt: int) -> float | None:
    """Seconds until attempt ``attempt + 1``; None where another would help nobody. Attempts count from 0."""
    if isinstance(outcome, httpx.TransportError):
        return _compute_backoff(attempt)
    told = outcome.headers.get("x-should-retry")
    if told == "false" or (told != "true" and outcome.status_code < 500 and outcome.status_code not in RETRY_STATUSES):
        return None
    asked = _parse_retry_after(outcome.headers)
    if asked is not None:
        return asked if asked <= MAX_RETRY_AFTER_SECONDS else None
    return _compute_backoff(attempt)


def _compute_backoff(attempt: int) -> float:
    """Doubling, less up to a quarter, so that clients which failed together do not return together."""
    return min(INITIAL_DELAY_SECONDS * 2.0**attempt, MAX_DELAY_SECONDS) * (1 - 0.25 * random.random())


def _parse_retry_after(headers: httpx.Headers) -> float | None:
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name, "")
        try:
            return max(0.0, float(value) / scale)
        except ValueError:
            continue
    date = email.utils.parsedate_tz(headers.get("retry-after", ""))
    return None if date is None else max(0.0, email.utils.mktime_tz(date) - time.time())
