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
from inference.protocol.fields import StrictModel
from inference.protocol.generation import ChatCompletionRequest, CompletionRequest
from inference.protocol.model_ref import ModelRef
from inference.protocol.pooling import EmbeddingRequest, PredictionRequest
from inference.protocol.validation import to_validation_issue
from jobs import model_lookup
from jobs.batches.input_file import BatchRequest
from jobs.resources import Resources
from storage.access.usage import UsageAmount
from storage.errors import ModelNotPulled
from storage.ids import new_id
from training.tasks.base import Route

MAX_RETRY_DELAY_SECONDS = 20.0
"""Between two tries at an engine that does not answer, at most."""


@dataclass(frozen=True)
class Endpoint:
    """How lines of one URL are read and answered."""

    route: Route
    usage_kind: str
    """As what its use is counted."""
    body_model: type[StrictModel]
    call_engine: Callable[[EngineClient, ModelRef, Mapping[str, Any]], Awaitable[dict[str, Any]]]


ENDPOINTS: Mapping[str, Endpoint] = {
    "/v1/chat/completions": Endpoint("chat/completions", "chat", ChatCompletionRequest, EngineClient.chat),
    "/v1/completions": Endpoint("completions", "completion", CompletionRequest, EngineClient.complete),
    "/v1/embeddings": Endpoint("embeddings", "embedding", EmbeddingRequest, EngineClient.embed),
    "/v1/predictions": Endpoint("predictions", "prediction", PredictionRequest, EngineClient.predict),
}


@dataclass(frozen=True)
class BatchResponse:
    """A line of the output file, or of the error file."""

    line: bytes
    model: str = ""
    """The one that answered; empty where none did."""
    usage: UsageAmount = field(default_factory=UsageAmount)


async def process_request(
    resources: Resources, project_id: str, endpoint: Endpoint, request: BatchRequest
) -> BatchResponse:
    """Waits for an engine that is away or full for as long as it takes; every other error is the line's answer."""
    try:
        body = await _call_engine(resources, project_id, endpoint, request.body)
    except EngineError as error:
        return _build_response(request, error.status, error.to_body())
    usage: dict[str, int] = body["usage"]
    used = UsageAmount(1, usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0))
    return replace(_build_response(request, 200, body), model=body["model"], usage=used)


async def _call_engine(
    resources: Resources, project_id: str, endpoint: Endpoint, raw_body: dict[str, Any]
) -> dict[str, Any]:
    try:
        body = endpoint.body_model.model_validate(raw_body)
    except ValidationError as error:
        # In the words of the route, which FastAPI has begin with the source.
        faults = [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors(include_url=False)]
        fault = to_validation_issue(faults, raw_body)
        raise EngineError(fault.code, fault.message, fault.param) from error
    if raw_body.get("stream"):
        raise EngineError("unsupported_parameter", "Lines of a batch are answered whole; remove 'stream'.", "stream")
    ref = await resolve_model(resources, project_id, raw_body["model"], endpoint)
    asked, pause = body.model_dump(exclude_unset=True), 0.5
    while True:
        try:
            return await endpoint.call_engine(resources.engine, ref, asked)
        except EngineUnavailable:
            await asyncio.sleep(pause * random.uniform(0.75, 1.25))
            pause = min(2 * pause, MAX_RETRY_DELAY_SECONDS)


async def resolve_model(resources: Resources, project_id: str, name: str, endpoint: Endpoint) -> ModelRef:
    """The one that a line asks. Raises ``EngineError`` where this project has no such one at this endpoint."""
    try:
        return await model_lookup.resolve_for_route(resources, project_id, name, endpoint.route)
    except ModelNotPulled as error:
        raise EngineError("base_model_unavailable", str(error), "model") from error


def _build_response(request: BatchRequest, status: int, body: dict[str, Any]) -> BatchResponse:
    return BatchResponse(
        _encode_line(request, {"status_code": status, "request_id": new_id("request"), "body": body}, None)
    )


def build_expired_line(request: BatchRequest) -> bytes:
    """For a line that nobody got to."""
    message = "This request was not answered before the batch's completion window ended."
    return _encode_line(request, None, {"code": "batch_expired", "message": message})


def _encode_line(request: BatchRequest, response: dict[str, Any] | None, error: dict[str, str] | None) -> bytes:
    found = {"id": new_id("batch_request"), "custom_id": request.custom_id, "response": response, "error": error}
    return json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
