"""How the API and the workers speak to an engine. Imports no torch."""

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
"""An idle connection's life: less than the engine's own patience, so that no request meets a closing one."""


def connect(url: str, token: str = "") -> EngineClient:
    """Speak to the engine at ``unix:///path`` or ``http://host:port``. No connection is made yet."""
    path = url.removeprefix("unix://")
    over_unix = path != url
    headers = {"authorization": f"Bearer {token}"} if token else {}

    def open_session() -> aiohttp.ClientSession:
        # No bound on connections: whoever calls has one of its own.
        kept: Any = {"limit": 0, "keepalive_timeout": _KEEPALIVE_SECONDS}
        connector = aiohttp.UnixConnector(path, **kept) if over_unix else aiohttp.TCPConnector(**kept)
        base = "http://engine" if over_unix else url
        return aiohttp.ClientSession(base, connector=connector, headers=headers, timeout=_TIMEOUT)

    return EngineClient(open_session)


class EngineClient:
    """One engine. Every method raises ``EngineError``: ``EngineUnavailable`` where no engine answers.

    Cancelling a call (or leaving a stream) closes its connection, and the engine stops working on it.
    """

    def __init__(self, open_session: Callable[[], aiohttp.ClientSession]) -> None:
        self._open_session = open_session

    @cached_property
    def _session(self) -> aiohttp.ClientSession:
        # Belongs to the event loop in which it is made.
        return self._open_session()

    async def chat(self, ref: ModelRef, body: Mapping[str, Any]) -> dict[str, Any]:
        """A whole ``chat.completion``. ``body``: what a ``ChatRequest`` accepts; its ``stream`` is not looked at."""
        return await self._post_non_streaming("chat/completions", ref, body)

    def chat_stream(self, ref: ModelRef, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Chunks of a ``chat.completion.chunk`` stream, without the closing ``[DONE]``.

        A request that cannot be answered raises before the first chunk; a failure in the middle raises where it
        happens. Close the iterator (``aclosing``) when leaving early.
        """
        return self._stream("chat/completions", ref, body)

    async def complete(self, ref: ModelRef, body: Mapping[str, Any]) -> dict[str, Any]:
        """A whole ``text_completion``. ``body``: what a ``CompletionRequest`` accepts, but for its ``stream``."""
        return await self._post_non_streaming("completions", ref, body)

    def complete_stream(self, ref: ModelRef, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Its chunks, as those of :meth:`chat_stream`."""
        return self._stream("completions", ref, body)

    async def embed(self, ref: ModelRef, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of ``/v1/embeddings``. ``body``: what an ``EmbeddingRequest`` accepts."""
        return await self._post("/v1/embeddings", ref, body=body)

    async def predict(self, ref: ModelRef, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of ``/v1/predictions``. ``body``: what a ``PredictionRequest`` accepts."""
        return await self._post("/v1/predictions", ref, body=body)

    async def load(self, ref: ModelRef) -> dict[str, Any]:
        """Fetch, verify and load the model and have it answer one probe: ``{model, seconds, answer}``."""
        return await self._post("/internal/load", ref)

    async def export(self, ref: ModelRef, variant: Variant) -> dict[str, Any]:
        """Put a zip of the weights into the blob store: ``{blob_key, sha256, bytes}``."""
        return await self._post("/internal/export", ref, variant=variant)

    async def ping(self) -> dict[str, Any]:
        """What the engine holds and does: ``{status, loaded, running, waiting}``."""
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
        raise EngineUnavailable("The inference engine broke off in the middle of the answer; try again.")

    async def _post(self, path: str, ref: ModelRef, **fields: Any) -> dict[str, Any]:
        return await self._read_response(self._session.post(path, json={"ref": ref.model_dump(), **fields}))

    async def _read_response(self, request: AbstractAsyncContextManager[aiohttp.ClientResponse]) -> dict[str, Any]:
        try:
            async with request as response:
                answer: dict[str, Any] = await response.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _to_engine_unavailable(error) from error
        if response.status != 200:
            raise EngineError.from_body(answer)
        return answer


async def _iter_lines(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
    """aiohttp's own take no line of more than 128 KB, which a scored prompt has."""
    rest = b""
    async for part in response.content.iter_any():
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            yield line.decode()


def _parse_chunk(data: str) -> dict[str, Any]:
    chunk: dict[str, Any] = json.loads(data)
    if "error" in chunk:
        raise EngineError.from_body(chunk)
    return chunk


def _to_engine_unavailable(error: Exception) -> EngineUnavailable:
    return EngineUnavailable(f"The inference engine does not answer ({type(error).__name__}); try again shortly.")
