"""Answers of base and tuned models: chat completions, completions, embeddings and predictions."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api import naming
from api.deps import PrincipalDep, RoomsDep
from api.errors import documented
from api.streaming import Chunks, event_stream, while_connected
from api.strict_json import StrictRoute
from api.wire.inference import ChatCompletion, Embeddings, Predictions, TextCompletion
from inference.inputs import EmbeddingRequest, PredictionRequest
from inference.protocol import ChatRequest, CompletionRequest

router = APIRouter(tags=["inference"], route_class=StrictRoute, responses=documented(404, 413))

_STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}


@router.post("/chat/completions", response_model=ChatCompletion, responses=_STREAMED)
async def create_chat_completion(
    body: ChatRequest, request: Request, rooms: RoomsDep, principal: PrincipalDep
) -> Response:
    """A chat model's answer, whole or, with ``stream``, as server-sent events."""
    ref = await naming.answering_ref(rooms, principal.project_id, body.model, "chat/completions")
    asked = body.model_dump(exclude_unset=True)
    if body.stream:
        return await event_stream(request, Chunks(rooms.engine.chat_stream(ref, asked)))
    return JSONResponse(await while_connected(request, rooms.engine.chat(ref, asked)))


@router.post("/completions", response_model=TextCompletion, responses=_STREAMED)
async def create_completion(
    body: CompletionRequest, request: Request, rooms: RoomsDep, principal: PrincipalDep
) -> Response:
    """What a model writes after one prompt or several, whole or, with ``stream``, as server-sent events."""
    ref = await naming.answering_ref(rooms, principal.project_id, body.model, "completions")
    asked = body.model_dump(exclude_unset=True)
    if body.stream:
        return await event_stream(request, Chunks(rooms.engine.complete_stream(ref, asked)))
    return JSONResponse(await while_connected(request, rooms.engine.complete(ref, asked)))


@router.post("/embeddings", response_model=Embeddings)
async def create_embeddings(
    body: EmbeddingRequest, request: Request, rooms: RoomsDep, principal: PrincipalDep
) -> Response:
    """A vector for each text, in their order; of a base model untuned, too."""
    ref = await naming.answering_ref(rooms, principal.project_id, body.model, "embeddings")
    return JSONResponse(await while_connected(request, rooms.engine.embed(ref, body.model_dump(exclude_unset=True))))


@router.post("/predictions", response_model=Predictions)
async def create_predictions(
    body: PredictionRequest, request: Request, rooms: RoomsDep, principal: PrincipalDep
) -> Response:
    """A model's answers to texts, rows or images, in their order; their fields depend on the model's task."""
    ref = await naming.answering_ref(rooms, principal.project_id, body.model, "predictions")
    return JSONResponse(await while_connected(request, rooms.engine.predict(ref, body.model_dump(exclude_unset=True))))
