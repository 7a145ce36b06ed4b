"""Answers of base and tuned models: chat completions, completions, embeddings and predictions."""

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

# The engine tells the usage of every stream, to be counted; clients are told where they asked.
_INCLUDE_USAGE = {"stream_options": {"include_usage": True}}


@router.post("/chat/completions", response_model=ChatCompletion, responses=_STREAM_RESPONSES)
async def create_chat_completion(
    body: ChatCompletionRequest,
    request: Request,
    resources: ResourcesDep,
    principal: PrincipalDep,
    meter: UsageMeterDep,
) -> Response:
    """A chat model's answer, whole or, with ``stream``, as server-sent events."""
    ref = await model_lookup.resolve_for_route(resources, principal.project_id, body.model, "chat/completions")
    asked = body.model_dump(exclude_unset=True)
    if body.stream:
        chunks = resources.engine.chat_stream(ref, asked | _INCLUDE_USAGE)
        return await open_event_stream(
            request, ChunkReader(meter.record_stream(principal, "chat", chunks, body.has_usage_chunk))
        )
    answer = await cancel_on_disconnect(request, resources.engine.chat(ref, asked))
    return JSONResponse(await meter.record_response(principal, "chat", answer))


@router.post("/completions", response_model=TextCompletion, responses=_STREAM_RESPONSES)
async def create_completion(
    body: CompletionRequest, request: Request, resources: ResourcesDep, principal: PrincipalDep, meter: UsageMeterDep
) -> Response:
    """What a model writes after one prompt or several, whole or, with ``stream``, as server-sent events."""
    ref = await model_lookup.resolve_for_route(resources, principal.project_id, body.model, "completions")
    asked = body.model_dump(exclude_unset=True)
    if body.stream:
        chunks = resources.engine.complete_stream(ref, asked | _INCLUDE_USAGE)
        return await open_event_stream(
            request, ChunkReader(meter.record_stream(principal, "completion", chunks, body.has_usage_chunk))
        )
    answer = await cancel_on_disconnect(request, resources.engine.complete(ref, asked))
    return JSONResponse(await meter.record_response(principal, "completion", answer))


@router.post("/embeddings", response_model=Embeddings)
async def create_embeddings(
    body: EmbeddingRequest, request: Request, resources: ResourcesDep, principal: PrincipalDep, meter: UsageMeterDep
) -> Response:
    """A vector for each text, in their order; of a base model untuned, too."""
    ref = await model_lookup.resolve_for_route(resources, principal.project_id, body.model, "embeddings")
    answer = await cancel_on_disconnect(request, resources.engine.embed(ref, body.model_dump(exclude_unset=True)))
    return JSONResponse(await meter.record_response(principal, "embedding", answer))


@router.post("/predictions", response_model=Predictions)
async def create_predictions(
    body: PredictionRequest, request: Request, resources: ResourcesDep, principal: PrincipalDep, meter: UsageMeterDep
) -> Response:
    """A model's answers to texts, rows or images, in their order; their fields depend on the model's task."""
    ref = await model_lookup.resolve_for_route(resources, principal.project_id, body.model, "predictions")
    answer = await cancel_on_disconnect(request, resources.engine.predict(ref, body.model_dump(exclude_unset=True)))
    return JSONResponse(await meter.record_response(principal, "prediction", answer))
