"""HTTP client for one server, with retries, exceptions and pagination."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import quote

import httpx

from luthier._concurrency import async_sleep
from luthier._config import Config
from luthier._retry import add_idempotency_key, compute_retry_delay
from luthier.errors import to_error

CONNECT_TIMEOUT_SECONDS = 5.0
PAGE_SIZE = 100
"""Objects per request when iterating over a list."""


class AsyncHTTP(httpx.AsyncClient):
    """``httpx`` client that retries temporary failures and raises exceptions for error responses.

    The generated functions use it too.
    """

    def __init__(self, config: Config, timeout: float, max_retries: int) -> None:
        super().__init__(
            base_url=config.server_url,
            headers={"authorization": f"Bearer {config.api_key}", "user-agent": f"luthier-sdk/{_get_version()}"},
            timeout=httpx.Timeout(timeout, connect=CONNECT_TIMEOUT_SECONDS),
            follow_redirects=True,
        )
        self.max_retries = max_retries

    async def send(self, request: httpx.Request, *, stream: bool = False, **options: Any) -> httpx.Response:
        """Send a request, with retries.

        Raises ``APIConnectionError`` or ``APIStatusError`` if every attempt fails.
        """
        add_idempotency_key(request)
        for attempt in itertools.count():
            outcome: httpx.Response | httpx.TransportError
            try:
                outcome = await super().send(request, stream=stream, **options)
                if not outcome.is_error:
                    return outcome
                await outcome.aread()
            except httpx.TransportError as error:
                outcome = error
            seconds = compute_retry_delay(outcome, attempt) if attempt < self.max_retries else None
            if seconds is None:
                raise to_error(outcome) from (outcome if isinstance(outcome, Exception) else None)
            await async_sleep(seconds)
        raise AssertionError("the loop ends by return or raise")

    async def request_json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Send a request and return the JSON body.

        ``options`` are those of ``httpx``'s ``request``.
        """
        response = await self.request(method, path, **options)
        body: dict[str, Any] = response.json()
        return body

    async def iter_items(self, path: str, **params: Any) -> AsyncIterator[dict[str, Any]]:
        """Yield every object of a list, page by page. Parameters that are None are not sent."""
        query = {"limit": PAGE_SIZE, **drop_none(params)}
        while True:
            page = await self.request_json("GET", path, params=query)
            for item in page["data"]:
                yield item
            if not (page.get("has_more") and page["data"]):
                return
            query["after"] = page["data"][-1]["id"]


def build_path(*parts: str) -> str:
    """Build a path under ``/v1``. Slashes within a part are escaped."""
    return "/v1/" + "/".join(quote(part, safe=":") for part in parts)


def drop_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def _get_version() -> str:
    try:
        return version("luthier-sdk")
    except PackageNotFoundError:
        # The package is used from source, without an installation.
        return "source"
