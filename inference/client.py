"""HTTP client of the inference engine, for the API and the workers. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import cached_property
from types import TracebackType
from typing import Any, Self

import aiohttp

from inference.protocol.errors import EngineError, EngineUnavailable
from inference.protocol.model_ref import ModelRef, Variant
from training.tasks.base import Route

DONE = "[DONE]"

_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=600)
_KEEPALIVE_SECONDS = 2.0
"""Lifetime of an idle connection.

It is shorter than the engine's own keep-alive timeout, so that no request is sent on a connection
that the engine is closing.
"""


def connect(url: str, token: str = "") -> EngineClient:
    """Create a client for the engine at ``unix:///path`` or ``http://host:port``.

    Opens no connection yet.
    """
    path = url.removeprefix("unix://")
    is_unix_socket = path != url
    headers = {"authorization": f"Bearer {token}"} if token else {}

    def open_session() -> aiohttp.ClientSession:
        # No limit on connections: every caller limits its own concurrency.
        options: Any = {"limit": 0, "keepalive_timeout": _KEEPALIVE_SECONDS}
        connector = aiohttp.UnixConnector(path, **options) if is_unix_socket else aiohttp.TCPConnector(**options)
        base = "http://engine" if is_unix_socket else url
        return aiohttp.ClientSession(base, connector=connector, headers=headers, timeout=_TIMEOUT)

    return EngineClient(open_session)


class EngineClient:
    """Client of one engine.

    Every method raises ``EngineError``, and ``EngineUnavailable`` if the engine does not respond.
    Cancelling a call (or closing a stream) closes its connection, and the engine stops working on
    it.
    """

    def __init__(self, open_session: Callable[[], aiohttp.ClientSession]) -> None:
        self._open_session = open_session

    @cached_property
    def _session(self) -> aiohttp.ClientSession:
        # The session belongs to the event loop that creates it.
        return self._open_session()

    async def chat(self, ref: ModelRef, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a complete ``chat.completion``.

        ``body`` has the fields of a ``ChatCompletionRequest``. Its ``stream`` is ignored.
        """
        return await self._post_non_streaming("chat/completions", ref, body)

    def chat_stream(self, ref: ModelRef, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Iterate over the chunks of a ``chat.completion.chunk`` stream, without the final
        ``[DONE]``.

        Raises before the first chunk if the request is invalid, and at the current chunk if
        generation fails later. Close the iterator (``aclosing``) to stop early.
        """
        return self._stream("chat/completions", ref, body)

    async def complete(self, ref: ModelRef, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a complete ``text_completion``.

        ``body`` has the fields of a ``CompletionRequest``. Its ``stream`` is ignored.
        """
        return await self._post_non_streaming("completions", ref, body)

    def complete_stream(self, ref: ModelRef, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Iterate over the chunks of a ``text_completion`` stream.

        Raises like :meth:`chat_stream`.
        """
        return self._stream("completions", ref, body)

    async def embed(self, ref: ModelRef, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the response of ``/v1/embeddings``.

        ``body`` has the fields of an ``EmbeddingRequest``.
        """
        return await self._post("/v1/embeddings", ref, body=body)

    async def predict(self, ref: ModelRef, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the response of ``/v1/predictions``.

        ``body`` has the fields of a ``PredictionRequest``.
        """
        return await self._post("/v1/predictions", ref, body=body)

    async def load(self, ref: ModelRef) -> dict[str, Any]:
        """Fetch, verify and load the model, and run a probe request: ``{model, seconds,
        answer}``."""
        return await self._post("/internal/load", ref)

    async def export(self, ref: ModelRef, variant: Variant) -> dict[str, Any]:
        """Write a zip file of the weights to the blob store: ``{blob_key, sha256, bytes}``."""
        return await self._post("/internal/export", ref, variant=variant)

    async def ping(self) -> dict[str, Any]:
        """Return the engine's status and load: ``{status, loaded, running, waiting}``."""
        return await self._read_response(self._session.get("/healthz", timeout=aiohttp.ClientTimeout(total=5)))

    async def close(self) -> None:
        await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _post_non_streaming(self, route: Route, ref: ModelRef, body: Mapping[str, Any]) -> dict[str, Any]:
        return await self._post(f"/v1/{route}", ref, body={**body, "stream": False, "stream_options": None})

    async def _stream(
        self, route: Route, ref: ModelRef, body: Mapping[str, Any]
    ) -> AsyncGenerator[dict[str, Any], None]:
        content = {"ref": ref.model_dump(), "body": {**body, "stream": True}}
        try:
            async with self._session.post(f"/v1/{route}", json=content) as response:
                if response.status != 200:
                    raise EngineError.from_body(await response.json())
                async for line in _iter_lines(response):
                    data = line.removeprefix("data: ")
                    if data == DONE:
                        return
                    if data:
                        yield _parse_chunk(data)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _to_engine_unavailable(error) from error
        raise EngineUnavailable("The inference engine stopped in the middle of the response; try again.")

    async def _post(self, path: str, ref: ModelRef, **fields: Any) -> dict[str, Any]:
        return await self._read_response(self._session.post(path, json={"ref": ref.model_dump(), **fields}))

    async def _read_response(self, request: AbstractAsyncContextManager[aiohttp.ClientResponse]) -> dict[str, Any]:
        try:
            async with request as response:
                content: dict[str, Any] = await response.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _to_engine_unavailable(error) from error
        if response.status != 200:
            raise EngineError.from_body(content)
        return content


async def _iter_lines(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
    """Iterate over lines of any length.

    aiohttp's own iterator rejects lines over 128 KB; the logprobs of a prompt can be longer.
    """
    rest = b""
    async for data in response.content.iter_any():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line.decode()


def _parse_chunk(data: str) -> dict[str, Any]:
    chunk: dict[str, Any] = json.loads(data)
    if "error" in chunk:
        raise EngineError.from_body(chunk)
    return chunk


def _to_engine_unavailable(error: Exception) -> EngineUnavailable:
    return EngineUnavailable(f"The inference engine does not respond ({type(error).__name__}); try again shortly.")
