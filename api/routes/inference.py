"""Routes for inference: chat completions, completions, embeddings and predictions."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.deps import PrincipalDep, ResourcesDep, UsageMeterDep
from api.errors import error_responses
from api.http.streaming import ChunkReader, open_event_stream
from api.http.strict_json import StrictRoute
from api.schemas.inference import ChatCompletion, Embeddings, Predictions, TextCompletion
from inference.protocol.disconnect import cancel_on_disconnect
from inference.protocol.generation import ChatCompletionRequest, CompletionRequest
from inference.protocol.pooling import EmbeddingRequest, PredictionRequest
from jobs import model_lookup

router = APIRouter(tags=["inference"], route_class=StrictRoute, responses=error_responses(404, 413))

_STREAM_RESPONSES: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}

# The engine reports the usage of every stream for metering. Clients get it only on request.
_INCLUDE_USAGE = {"stream_options": {"include_usage": True}}


@router.post("/chat/completions", response_model=ChatCompletion, responses=_STREAM_RESPONSES)
async def create_chat_completion(
    body: ChatCompletionRequest,
    request: Request,
    resources: ResourcesDep,
    principal: PrincipalDep,
    meter: UsageMeterDep,
) -> Response:
    """Create a chat completion. With ``stream``, it arrives as server-sent events."""
    ref = await model_lookup.resolve_for_route(resources, principal.project_id, body.model, "chat/completions")
    payload = body.model_dump(exclude_unset=True)
    if body.stream:
        chunks = resources.engine.chat_stream(ref, payload | _INCLUDE_USAGE)
        return await open_event_stream(
            request, ChunkReader(meter.record_stream(principal, "chat", chunks, body.has_usage_chunk))
        )
    completion = await cancel_on_disconnect(request, resources.engine.chat(ref, payload))
    return JSONResponse(await meter.record_response(principal, "chat", completion))


@router.post("/completions", response_model=TextCompletion, responses=_STREAM_RESPONSES)
async def create_completion(
    body: CompletionRequest, request: Request, resources: ResourcesDep, principal: PrincipalDep, meter: UsageMeterDep
) -> Response:
    """Create a completion of one or several prompts.

    With ``stream``, it arrives as server-sent events.
    """
    ref = await model_lookup.resolve_for_route(resources, principal.project_id, body.model, "completions")
    payload = body.model_dump(exclude_unset=True)
    if body.stream:
        chunks = resources.engine.complete_stream(ref, payload | _INCLUDE_USAGE)
        return await open_event_stream(
            request, ChunkReader(meter.record_stream(principal, "completion", chunks, body.has_usage_chunk))
        )
    completion = await cancel_on_disconnect(request, resources.engine.complete(ref, payload))
    return JSONResponse(await meter.record_response(principal, "completion", completion))


@router.post("/embeddings", response_model=Embeddings)
async def create_embeddings(
    body: EmbeddingRequest, request: Request, resources: ResourcesDep, principal: PrincipalDep, meter: UsageMeterDep
) -> Response:
    """Create an embedding of each text, in order. Base models work, too."""
    ref = await model_lookup.resolve_for_route(resources, principal.project_id, body.model, "embeddings")
    embeddings = await cancel_on_disconnect(request, resources.engine.embed(ref, body.model_dump(exclude_unset=True)))
    return JSONResponse(await meter.record_response(principal, "embedding", embeddings))


@router.post("/predictions", response_model=Predictions)
async def create_predictions(
    body: PredictionRequest, request: Request, resources: ResourcesDep, principal: PrincipalDep, meter: UsageMeterDep
) -> Response:
    """Create a prediction for each text, row or image, in order.

    Their fields depend on the model's task.
    """
    ref = await model_lookup.resolve_for_route(resources, principal.project_id, body.model, "predictions")
    predictions = await cancel_on_disconnect(
        request, resources.engine.predict(ref, body.model_dump(exclude_unset=True))
    )
    return JSONResponse(await meter.record_response(principal, "prediction", predictions))
