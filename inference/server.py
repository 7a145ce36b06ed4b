"""HTTP server of the inference engine: ``python -m inference.server``.

Only the API and the workers connect to it. It reads no API keys and no database: each request
carries the model's reference and the client's body, ``{"ref": {…}, "body": {…}}``.
"""

from __future__ import annotations

import gc
import hmac
import json
import logging
import socket
import sys
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager, closing
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import torch
import transformers
import uvicorn
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from inference.client import DONE
from inference.engine import Engine
from inference.protocol.disconnect import cancel_on_disconnect
from inference.protocol.errors import EngineError
from inference.protocol.generation import ChatCompletionRequest, CompletionRequest
from inference.protocol.model_ref import ModelRef, Variant
from inference.protocol.pooling import EmbeddingRequest, PredictionRequest
from storage import logs
from storage.settings import Settings

log = logging.getLogger(__name__)

CLIENT_CLOSED_REQUEST = 499
"""Status for a disconnected client. No client receives it; the name is nginx's."""
GRACEFUL_SHUTDOWN_SECONDS = 5
"""Time that running requests get to finish after the server receives a stop signal."""
SWITCH_INTERVAL_SECONDS = 0.0005
"""Thread switch interval; a tenth of Python's default."""

M = TypeVar("M", bound=BaseModel)
Handler = Callable[[Engine, Request], Coroutine[Any, Any, Response]]


class _EngineRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    ref: ModelRef
    body: dict[str, Any] = {}
    variant: Variant = "merged"


async def _handle_chat(engine: Engine, request: Request) -> Response:
    engine_request = _parse(_EngineRequest, await request.body())
    body = _parse(ChatCompletionRequest, engine_request.body)
    if body.stream:
        return await _start_stream(engine.chat_stream(engine_request.ref, body))
    return JSONResponse(await engine.chat(engine_request.ref, body))


async def _handle_completions(engine: Engine, request: Request) -> Response:
    engine_request = _parse(_EngineRequest, await request.body())
    body = _parse(CompletionRequest, engine_request.body)
    if body.stream:
        return await _start_stream(engine.complete_stream(engine_request.ref, body))
    return JSONResponse(await engine.complete(engine_request.ref, body))


async def _start_stream(chunks: AsyncGenerator[dict[str, Any], None]) -> Response:
    # An invalid request fails here, before the response status is sent.
    first = await anext(chunks)
    return StreamingResponse(_stream_events(first, chunks), media_type="text/event-stream")


async def _handle_embeddings(engine: Engine, request: Request) -> Response:
    engine_request = _parse(_EngineRequest, await request.body())
    return JSONResponse(await engine.embed(engine_request.ref, _parse(EmbeddingRequest, engine_request.body)))


async def _handle_predictions(engine: Engine, request: Request) -> Response:
    engine_request = _parse(_EngineRequest, await request.body())
    return JSONResponse(await engine.predict(engine_request.ref, _parse(PredictionRequest, engine_request.body)))


async def _handle_load(engine: Engine, request: Request) -> Response:
    return JSONResponse(await engine.load(_parse(_EngineRequest, await request.body()).ref))


async def _handle_export(engine: Engine, request: Request) -> Response:
    engine_request = _parse(_EngineRequest, await request.body())
    return JSONResponse(await engine.export(engine_request.ref, engine_request.variant))


_POST_HANDLERS: dict[str, Handler] = {
    "/v1/chat/completions": _handle_chat,
    "/v1/completions": _handle_completions,
    "/v1/embeddings": _handle_embeddings,
    "/v1/predictions": _handle_predictions,
    "/internal/load": _handle_load,
    "/internal/export": _handle_export,
}


def create_app(settings: Settings) -> Starlette:
    """Create the ASGI application. Its lifespan creates and closes the engine."""
    token = settings.inference_token.get_secret_value()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        engine = app.state.engine = Engine(settings)
        try:
            yield
        finally:
            await engine.close()

    async def get_health(request: Request) -> Response:
        engine: Engine = request.app.state.engine
        return JSONResponse(engine.get_stats())

    def create_route(path: str, handler: Handler) -> Route:
        async def endpoint(request: Request) -> Response:
            if token and not _is_authorized(request, token):
                return _to_error_response(
                    EngineError(
                        "unauthorized",
                        "The engine's token is missing or wrong; set LUTHIER_INFERENCE_TOKEN to the engine's value.",
                    )
                )
            await request.body()
            try:
                return await cancel_on_disconnect(request, handler(request.app.state.engine, request))
            except EngineError as error:
                return _to_error_response(error)
            except ClientDisconnect:
                return Response(status_code=CLIENT_CLOSED_REQUEST)

        return Route(path, endpoint, methods=["POST"])

    async def handle_unexpected_error(request: Request, error: Exception) -> Response:
        # Starlette raises the error again after this response, and the server logs it.
        return _to_error_response(
            EngineError("internal_error", f"The engine failed ({type(error).__name__}); see the engine's log.")
        )

    routes = [Route("/healthz", get_health), *(create_route(path, handler) for path, handler in _POST_HANDLERS.items())]
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers={Exception: handle_unexpected_error})


def _parse(model: type[M], data: bytes | dict[str, Any]) -> M:
    try:
        return model.model_validate_json(data) if isinstance(data, bytes) else model.model_validate(data)
    except ValidationError as error:
        raise EngineError.from_validation_error(error) from error


def _is_authorized(request: Request, token: str) -> bool:
    presented = request.headers.get("authorization", "").removeprefix("Bearer ")
    return hmac.compare_digest(presented.encode(), token.encode())


def _to_error_response(error: EngineError) -> Response:
    return JSONResponse(error.to_body(), error.status)


async def _stream_events(first: dict[str, Any], rest: AsyncGenerator[dict[str, Any], None]) -> AsyncIterator[str]:
    """Iterate over server-sent events.

    If generation fails, the last event is an error in OpenAI's shape.
    """
    async with aclosing(rest):
        yield _format_event(first)
        try:
            async for chunk in rest:
                yield _format_event(chunk)
        except EngineError as error:
            yield _format_event(error.to_body())
            return
    yield f"data: {DONE}\n\n"


def _format_event(chunk: dict[str, Any]) -> str:
    return f"data: {json.dumps(chunk, ensure_ascii=False, separators=(',', ':'))}\n\n"


def listen(url: str) -> socket.socket:
    """Open a listening socket at ``unix:///path`` (accessible only to this user) or
    ``http://host:port``.

    Raises ``SystemExit`` if another engine listens at the Unix socket.
    """
    path = url.removeprefix("unix://")
    if path == url:
        address = urlsplit(url)
        return socket.create_server((address.hostname or "127.0.0.1", address.port or 80), reuse_port=False)
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with closing(socket.socket(socket.AF_UNIX)) as probe:
        if probe.connect_ex(path) == 0:
            raise SystemExit(f"An engine already listens at {url}; stop it or change LUTHIER_INFERENCE_URL.")
    file.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    file.chmod(0o600)
    listener.listen(1024)
    return listener


def serve(settings: Settings) -> None:
    """Serve at ``settings.inference_bind`` until a stop signal arrives."""
    if settings.engine_threads:
        torch.set_num_threads(settings.engine_threads)
    # The libraries' progress messages are noise in the engine's log.
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message=".*(is_gradient_checkpointing|was active which is now deleted)")
    config = uvicorn.Config(
        create_app(settings), log_level="warning", timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_SECONDS, access_log=False
    )
    # A full garbage collection over all imported objects takes 0.4 s and would stall every request.
    gc.collect()
    gc.freeze()
    # After every tensor operation the decoding thread can wait this long for the event loop's
    # thread.
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    with closing(listen(settings.inference_bind)) as listener:
        log.info("engine is listening at %s", settings.inference_bind)
        uvicorn.Server(config).run(sockets=[listener])


def main() -> None:
    logs.configure()
    serve(Settings())


if __name__ == "__main__":
    main()
