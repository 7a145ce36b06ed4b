"""The engine's own small HTTP server: ``python -m inference.server``.

Only the API and the workers speak to it. It knows no key and no database: the model's reference travels beside the
client's body, ``{"ref": {…}, "body": {…}}``.
"""

from __future__ import annotations

import asyncio
import gc
import hmac
import json
import logging
import socket
import sys
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager, closing
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import torch
import transformers
import uvicorn
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from inference.client import DONE
from inference.engine import Engine
from inference.protocol.errors import EngineError
from inference.protocol.generation import ChatRequest, CompletionRequest
from inference.protocol.model_ref import ModelRef, Variant
from inference.protocol.pooling import EmbeddingRequest, PredictionRequest
from storage import logs
from storage.settings import Settings

log = logging.getLogger(__name__)

CLIENT_GONE = 499
"""Nobody reads this status; the name is nginx's."""
STOP_SECONDS = 5
"""How long running answers may take to end once the server is told to stop."""
SWITCH_SECONDS = 0.0005
"""Python's own is ten times as long."""

M = TypeVar("M", bound=BaseModel)
Handler = Callable[[Engine, Request], Coroutine[Any, Any, Response]]


class _Call(BaseModel):
    model_config = ConfigDict(extra="forbid")

    ref: ModelRef
    body: dict[str, Any] = {}
    variant: Variant = "merged"


async def _chat(engine: Engine, request: Request) -> Response:
    call = _parsed(_Call, await request.body())
    body = _parsed(ChatRequest, call.body)
    if body.stream:
        return await _streamed(engine.chat_stream(call.ref, body))
    return JSONResponse(await engine.chat(call.ref, body))


async def _completions(engine: Engine, request: Request) -> Response:
    call = _parsed(_Call, await request.body())
    body = _parsed(CompletionRequest, call.body)
    if body.stream:
        return await _streamed(engine.complete_stream(call.ref, body))
    return JSONResponse(await engine.complete(call.ref, body))


async def _streamed(chunks: AsyncGenerator[dict[str, Any], None]) -> Response:
    # A request that cannot be answered fails here, while the status can still say so.
    first = await anext(chunks)
    return StreamingResponse(_events(first, chunks), media_type="text/event-stream")


async def _embeddings(engine: Engine, request: Request) -> Response:
    call = _parsed(_Call, await request.body())
    return JSONResponse(await engine.embed(call.ref, _parsed(EmbeddingRequest, call.body)))


async def _predictions(engine: Engine, request: Request) -> Response:
    call = _parsed(_Call, await request.body())
    return JSONResponse(await engine.predict(call.ref, _parsed(PredictionRequest, call.body)))


async def _load(engine: Engine, request: Request) -> Response:
    return JSONResponse(await engine.load(_parsed(_Call, await request.body()).ref))


async def _export(engine: Engine, request: Request) -> Response:
    call = _parsed(_Call, await request.body())
    return JSONResponse(await engine.export(call.ref, call.variant))


_POSTS: dict[str, Handler] = {
    "/v1/chat/completions": _chat,
    "/v1/completions": _completions,
    "/v1/embeddings": _embeddings,
    "/v1/predictions": _predictions,
    "/internal/load": _load,
    "/internal/export": _export,
}


def create_app(settings: Settings) -> Starlette:
    """The application; the engine lives as long as it runs."""
    token = settings.inference_token.get_secret_value()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        engine = app.state.engine = await asyncio.to_thread(Engine, settings)
        try:
            yield
        finally:
            await engine.close()

    async def health(request: Request) -> Response:
        engine: Engine = request.app.state.engine
        return JSONResponse(engine.stats())

    def route(path: str, handler: Handler) -> Route:
        async def endpoint(request: Request) -> Response:
            if token and not _authorized(request, token):
                return _error(EngineError("unauthorized", "The engine's token is missing or wrong."))
            try:
                return await _while_connected(request, handler(request.app.state.engine, request))
            except EngineError as error:
                return _error(error)

        return Route(path, endpoint, methods=["POST"])

    async def unexpected(request: Request, error: Exception) -> Response:
        # Starlette raises the error again behind this answer, and the server logs it.
        return _error(EngineError("internal_error", f"The engine failed ({type(error).__name__}); its log says more."))

    routes = [Route("/healthz", health), *(route(path, handler) for path, handler in _POSTS.items())]
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers={Exception: unexpected})


def _parsed(model: type[M], data: bytes | dict[str, Any]) -> M:
    try:
        return model.model_validate_json(data) if isinstance(data, bytes) else model.model_validate(data)
    except ValidationError as error:
        raise EngineError.from_validation(error) from error


def _authorized(request: Request, token: str) -> bool:
    sent = request.headers.get("authorization", "").removeprefix("Bearer ")
    return hmac.compare_digest(sent.encode(), token.encode())


def _error(error: EngineError) -> Response:
    return JSONResponse(error.body(), error.status)


async def _while_connected(request: Request, work: Coroutine[Any, Any, Response]) -> Response:
    """The response, unless the client leaves first: then the work is cancelled."""
    # Read the body first: after it, the only message that can arrive is the disconnect.
    await request.body()
    working, leaving = asyncio.create_task(work), asyncio.ensure_future(_receive(request.receive))
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        return Response(status_code=CLIENT_GONE)
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.wait([working, leaving])


async def _receive(receive: Callable[[], Awaitable[Any]]) -> None:
    await receive()


async def _events(first: dict[str, Any], rest: AsyncGenerator[dict[str, Any], None]) -> AsyncIterator[str]:
    """Server-sent events; a failure in the middle is the last of them, in OpenAI's error shape."""
    async with aclosing(rest):
        yield _event(first)
        try:
            async for chunk in rest:
                yield _event(chunk)
        except EngineError as error:
            yield _event(error.body())
            return
    yield f"data: {DONE}\n\n"


def _event(chunk: dict[str, Any]) -> str:
    return f"data: {json.dumps(chunk, ensure_ascii=False, separators=(',', ':'))}\n\n"


def listen(url: str) -> socket.socket:
    """A listening socket at ``unix:///path`` (for this user alone) or ``http://host:port``."""
    path = url.removeprefix("unix://")
    if path == url:
        where = urlsplit(url)
        return socket.create_server((where.hostname or "127.0.0.1", where.port or 80), reuse_port=False)
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with closing(socket.socket(socket.AF_UNIX)) as probe:
        if probe.connect_ex(path) == 0:
            raise SystemExit(f"An engine already listens at {url}.")
    file.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    file.chmod(0o600)
    listener.listen(1024)
    return listener


def serve(settings: Settings) -> None:
    """Serve at ``settings.inference_bind`` until told to stop."""
    if settings.engine_threads:
        torch.set_num_threads(settings.engine_threads)
    # What the libraries say of their own doings helps nobody who reads the engine's log.
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message=".*(is_gradient_checkpointing|was active which is now deleted)")
    config = uvicorn.Config(
        create_app(settings), log_level="warning", timeout_graceful_shutdown=STOP_SECONDS, access_log=False
    )
    # Looking through all that was imported takes Python 0.4 s, in which every answer would stand still.
    gc.collect()
    gc.freeze()
    # After every operation on tensors the decoding thread waits this long for the event loop's.
    sys.setswitchinterval(SWITCH_SECONDS)
    with closing(listen(settings.inference_bind)) as listener:
        log.info("engine listens at %s", settings.inference_bind)
        uvicorn.Server(config).run(sockets=[listener])


def main() -> None:
    logs.configure()
    serve(Settings())


if __name__ == "__main__":
    main()
