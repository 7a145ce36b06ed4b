"""How the API and the workers speak to an engine. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from inference.errors import EngineError, EngineUnavailable
from inference.refs import ModelRef, Variant
from training.tasks.base import Route

DONE = "[DONE]"

_TIMEOUT = httpx.Timeout(600, connect=5, write=60, pool=30)
_LIMITS = httpx.Limits(max_connections=1000, max_keepalive_connections=64)


def connect(url: str, token: str = "") -> EngineClient:
    """Speak to the engine at ``unix:///path`` or ``http://host:port``. No connection is made yet."""
    path = url.removeprefix("unix://")
    over_unix = path != url
    transport = httpx.AsyncHTTPTransport(uds=path if over_unix else None, limits=_LIMITS)
    headers = {"authorization": f"Bearer {token}"} if token else {}
    base = "http://engine" if over_unix else url
    return EngineClient(httpx.AsyncClient(transport=transport, base_url=base, headers=headers, timeout=_TIMEOUT))


class EngineClient:
    """One engine. Every method raises ``EngineError``: ``EngineUnavailable`` where no engine answers.

    Cancelling a call (or leaving a stream) closes its connection, and the engine stops working on it.
    """

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def chat(self, ref: ModelRef, body: Mapping[str, Any]) -> dict[str, Any]:
        """A whole ``chat.completion``. ``body``: what a ``ChatRequest`` accepts; its ``stream`` is not looked at."""
        return await self._whole("chat/completions", ref, body)

    def chat_stream(self, ref: ModelRef, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Chunks of a ``chat.completion.chunk`` stream, without the closing ``[DONE]``.

        A request that cannot be answered raises before the first chunk; a failure in the middle raises where it
        happens. Close the iterator (``aclosing``) when leaving early.
        """
        return self._stream("chat/completions", ref, body)

    async def complete(self, ref: ModelRef, body: Mapping[str, Any]) -> dict[str, Any]:
        """A whole ``text_completion``. ``body``: what a ``CompletionRequest`` accepts, but for its ``stream``."""
        return await self._whole("completions", ref, body)

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
        return await self._answer(lambda: self._http.get("/healthz", timeout=5))

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _whole(self, route: Route, ref: ModelRef, body: Mapping[str, Any]) -> dict[str, Any]:
        return await self._post(f"/v1/{route}", ref, body={**body, "stream": False, "stream_options": None})

    async def _stream(
        self, route: Route, ref: ModelRef, body: Mapping[str, Any]
    ) -> AsyncGenerator[dict[str, Any], None]:
        content = {"ref": ref.model_dump(), "body": {**body, "stream": True}}
        try:
            async with self._http.stream("POST", f"/v1/{route}", json=content) as response:
                if response.status_code != 200:
                    await response.aread()
                    raise _error_of(response)
                async for line in response.aiter_lines():
                    data = line.removeprefix("data: ")
                    if data == DONE:
                        return
                    if data:
                        yield _chunk(data)
        except httpx.TransportError as error:
            raise _unavailable(error) from error
        raise EngineUnavailable("The inference engine broke off in the middle of the answer; try again.")

    async def _post(self, path: str, ref: ModelRef, **rest: Any) -> dict[str, Any]:
        return await self._answer(lambda: self._http.post(path, json={"ref": ref.model_dump(), **rest}))

    async def _answer(self, call: Callable[[], Awaitable[httpx.Response]]) -> dict[str, Any]:
        try:
            response = await call()
        except httpx.TransportError as error:
            raise _unavailable(error) from error
        if response.status_code != 200:
            raise _error_of(response)
        answer: dict[str, Any] = response.json()
        return answer


def _chunk(data: str) -> dict[str, Any]:
    chunk: dict[str, Any] = json.loads(data)
    if "error" in chunk:
        raise EngineError.from_body(chunk)
    return chunk


def _error_of(response: httpx.Response) -> EngineError:
    return EngineError.from_body(response.json())


def _unavailable(error: httpx.TransportError) -> EngineUnavailable:
    return EngineUnavailable(f"The inference engine does not answer ({type(error).__name__}); try again shortly.")
