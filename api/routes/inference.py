"""Answers of base and tuned models: chat completions and predictions."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api import naming
from api.deps import PrincipalDep, RoomsDep
from api.errors import documented
from api.streaming import Chunks, event_stream, while_connected
from api.strict_json import StrictRoute
from api.wire.inference import ChatCompletion, Predictions
from inference.protocol import ChatRequest, PredictionRequest
from training.tasks import TASKS

router = APIRouter(tags=["inference"], route_class=StrictRoute, responses=documented(404, 413))

CHAT_TASKS = frozenset({"chat"})
PREDICTION_TASKS = frozenset(name for name, task in TASKS.items() if not task.generative)


@router.post(
    "/chat/completions",
    response_model=ChatCompletion,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def create_chat_completion(
    body: ChatRequest, request: Request, rooms: RoomsDep, principal: PrincipalDep
) -> Response:
    """A chat model's answer, whole or, with ``stream``, as server-sent events."""
    ref = await naming.answering_ref(
        rooms, principal.project_id, body.model, CHAT_TASKS, "ask it at POST /v1/predictions."
    )
    asked = body.model_dump(exclude_unset=True)
    if body.stream:
        return await event_stream(request, Chunks(rooms.engine.chat_stream(ref, asked)))
    return JSONResponse(await while_connected(request, rooms.engine.chat(ref, asked)))


@router.post("/predictions", response_model=Predictions)
async def create_predictions(
    body: PredictionRequest, request: Request, rooms: RoomsDep, principal: PrincipalDep
) -> Response:
    """A tuned model's answers to texts or rows, in their order."""
    ref = await naming.answering_ref(
        rooms, principal.project_id, body.model, PREDICTION_TASKS, "ask it at POST /v1/chat/completions."
    )
    return JSONResponse(await while_connected(request, rooms.engine.predict(ref, body.model_dump(exclude_unset=True))))
