"""Answers of base and tuned models: chat completions, completions, embeddings and predictions."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.deps import MeterDep, PrincipalDep, RoomsDep
from api.errors import documented
from api.http.streaming import Chunks, event_stream, while_connected
from api.http.strict_json import StrictRoute
from api.schemas.inference import ChatCompletion, Embeddings, Predictions, TextCompletion
from inference.protocol.generation import ChatRequest, CompletionRequest
from inference.protocol.pooling import EmbeddingRequest, PredictionRequest
from jobs import model_lookup

router = APIRouter(tags=["inference"], route_class=StrictRoute, responses=documented(404, 413))

_STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}

# The engine tells the usage of every stream, to be counted; clients are told where they asked.
_TOLD = {"stream_options": {"include_usage": True}}


@router.post("/chat/completions", response_model=ChatCompletion, responses=_STREAMED)
async def create_chat_completion(
    body: ChatRequest, request: Request, rooms: RoomsDep, principal: PrincipalDep, meter: MeterDep
) -> Response:
    """A chat model's answer, whole or, with ``stream``, as server-sent events."""
    ref = await model_lookup.answering_ref(rooms, principal.project_id, body.model, "chat/completions")
    asked = body.model_dump(exclude_unset=True)
    if body.stream:
        chunks = rooms.engine.chat_stream(ref, asked | _TOLD)
        return await event_stream(request, Chunks(meter.stream(principal, "chat", chunks, body.tells_usage)))
    answer = await while_connected(request, rooms.engine.chat(ref, asked))
    return JSONResponse(await meter.answer(principal, "chat", answer))


@router.post("/completions", response_model=TextCompletion, responses=_STREAMED)
async def create_completion(
    body: CompletionRequest, request: Request, rooms: RoomsDep, principal: PrincipalDep, meter: MeterDep
) -> Response:
    """What a model writes after one prompt or several, whole or, with ``stream``, as server-sent events."""
    ref = await model_lookup.answering_ref(rooms, principal.project_id, body.model, "completions")
    asked = body.model_dump(exclude_unset=True)
    if body.stream:
        chunks = rooms.engine.complete_stream(ref, asked | _TOLD)
        return await event_stream(request, Chunks(meter.stream(principal, "completion", chunks, body.tells_usage)))
    answer = await while_connected(request, rooms.engine.complete(ref, asked))
    return JSONResponse(await meter.answer(principal, "completion", answer))


@router.post("/embeddings", response_model=Embeddings)
async def create_embeddings(
    body: EmbeddingRequest, request: Request, rooms: RoomsDep, principal: PrincipalDep, meter: MeterDep
) -> Response:
    """A vector for each text, in their order; of a base model untuned, too."""
    ref = await model_lookup.answering_ref(rooms, principal.project_id, body.model, "embeddings")
    answer = await while_connected(request, rooms.engine.embed(ref, body.model_dump(exclude_unset=True)))
    return JSONResponse(await meter.answer(principal, "embedding", answer))


@router.post("/predictions", response_model=Predictions)
async def create_predictions(
    body: PredictionRequest, request: Request, rooms: RoomsDep, principal: PrincipalDep, meter: MeterDep
) -> Response:
    """A model's answers to texts, rows or images, in their order; their fields depend on the model's task."""
    ref = await model_lookup.answering_ref(rooms, principal.project_id, body.model, "predictions")
    answer = await while_connected(request, rooms.engine.predict(ref, body.model_dump(exclude_unset=True)))
    return JSONResponse(await meter.answer(principal, "prediction", answer))
