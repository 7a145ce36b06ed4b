"""Retry rules: which requests are sent again and after how long. They match OpenAI's clients."""

from __future__ import annotations

import email.utils
import random
import time
import uuid

import httpx

RETRY_STATUSES = frozenset({408, 409, 429})
"""Statuses to retry, in addition to every status from 500."""
INITIAL_DELAY_SECONDS = 0.5
MAX_DELAY_SECONDS = 8.0
MAX_RETRY_AFTER_SECONDS = 120.0
"""Longest ``retry-after`` that the client accepts. With a longer one, the request fails."""

_INFERENCE_PATHS = ("/chat/completions", "/completions", "/embeddings", "/predictions")


def add_idempotency_key(request: httpx.Request) -> None:
    """Add an idempotency key to a request that changes something, so that a retry does not repeat
    the change.
    """
    # Inference changes nothing, so the server does not need to store the response.
    if request.method == "POST" and not request.url.path.endswith(_INFERENCE_PATHS):
        request.headers.setdefault("idempotency-key", f"luthier-{uuid.uuid4().hex}")


def compute_retry_delay(outcome: httpx.Response | httpx.TransportError, attempt: int) -> float | None:
    """Return the seconds until attempt ``attempt + 1``, or None if a retry would not help.

    Attempts count from 0.
    """
    if isinstance(outcome, httpx.TransportError):
        return _compute_backoff(attempt)
    should_retry = outcome.headers.get("x-should-retry")
    if should_retry == "false" or (
        should_retry != "true" and outcome.status_code < 500 and outcome.status_code not in RETRY_STATUSES
    ):
        return None
    retry_after = _parse_retry_after(outcome.headers)
    if retry_after is not None:
        return retry_after if retry_after <= MAX_RETRY_AFTER_SECONDS else None
    return _compute_backoff(attempt)


def _compute_backoff(attempt: int) -> float:
    """Return an exponential delay with jitter. It is reduced by up to 25% to spread retries."""
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
