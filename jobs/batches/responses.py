"""The answer to one line: what its route would have answered, success or error, in the line's form."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from inference.client import EngineClient
from inference.protocol.errors import EngineError, EngineUnavailable
from inference.protocol.fields import Body
from inference.protocol.generation import ChatRequest, CompletionRequest
from inference.protocol.model_ref import ModelRef
from inference.protocol.pooling import EmbeddingRequest, PredictionRequest
from inference.protocol.validation import fault_of
from jobs import model_lookup
from jobs.batches.input_file import Line
from jobs.resources import Resources
from storage.access.usage import Amount
from storage.errors import ModelNotPulled
from storage.ids import new_id
from training.tasks.base import Route

PATIENCE_SECONDS = 20.0
"""Between two tries at an engine that does not answer, at most."""


@dataclass(frozen=True)
class Endpoint:
    """How lines of one URL are read and answered."""

    route: Route
    kind: str
    """As what its use is counted."""
    body: type[Body]
    ask: Callable[[EngineClient, ModelRef, Mapping[str, Any]], Awaitable[dict[str, Any]]]


ENDPOINTS: Mapping[str, Endpoint] = {
    "/v1/chat/completions": Endpoint("chat/completions", "chat", ChatRequest, EngineClient.chat),
    "/v1/completions": Endpoint("completions", "completion", CompletionRequest, EngineClient.complete),
    "/v1/embeddings": Endpoint("embeddings", "embedding", EmbeddingRequest, EngineClient.embed),
    "/v1/predictions": Endpoint("predictions", "prediction", PredictionRequest, EngineClient.predict),
}


@dataclass(frozen=True)
class Answer:
    """A line of the output file, or of the error file."""

    line: bytes
    model: str = ""
    """The one that answered; empty where none did."""
    used: Amount = field(default_factory=Amount)


async def answer(rooms: Resources, project_id: str, endpoint: Endpoint, line: Line) -> Answer:
    """Waits for an engine that is away or full for as long as it takes; every other error is the line's answer."""
    try:
        body = await _asked(rooms, project_id, endpoint, line.body)
    except EngineError as error:
        return _written(line, error.status, error.body())
    usage: dict[str, int] = body["usage"]
    used = Amount(1, usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0))
    return replace(_written(line, 200, body), model=body["model"], used=used)


async def _asked(rooms: Resources, project_id: str, endpoint: Endpoint, sent: dict[str, Any]) -> dict[str, Any]:
    try:
        body = endpoint.body.model_validate(sent)
    except ValidationError as error:
        # In the words of the route, which FastAPI has begin with the source.
        faults = [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors(include_url=False)]
        fault = fault_of(faults, sent)
        raise EngineError(fault.code, fault.message, fault.param) from error
    if sent.get("stream"):
        raise EngineError("unsupported_parameter", "Lines of a batch are answered whole; remove 'stream'.", "stream")
    ref = await model(rooms, project_id, sent["model"], endpoint)
    asked, pause = body.model_dump(exclude_unset=True), 0.5
    while True:
        try:
            return await endpoint.ask(rooms.engine, ref, asked)
        except EngineUnavailable:
            await asyncio.sleep(pause * random.uniform(0.75, 1.25))
            pause = min(2 * pause, PATIENCE_SECONDS)


async def model(rooms: Resources, project_id: str, name: str, endpoint: Endpoint) -> ModelRef:
    """The one that a line asks. Raises ``EngineError`` where this project has no such one at this endpoint."""
    try:
        return await model_lookup.answering_ref(rooms, project_id, name, endpoint.route)
    except ModelNotPulled as error:
        raise EngineError("base_model_unavailable", str(error), "model") from error


def _written(line: Line, status: int, body: dict[str, Any]) -> Answer:
    return Answer(_bytes(line, {"status_code": status, "request_id": new_id("request"), "body": body}, None))


def expired(line: Line) -> bytes:
    """For a line that nobody got to."""
    message = "This request was not answered before the batch's completion window ended."
    return _bytes(line, None, {"code": "batch_expired", "message": message})


def _bytes(line: Line, response: dict[str, Any] | None, error: dict[str, str] | None) -> bytes:
    found = {"id": new_id("batch_request"), "custom_id": line.custom_id, "response": response, "error": error}
    return json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
