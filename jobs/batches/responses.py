"""Response to one line of a batch: the response or error of its route, as a line of output."""

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
"""Maximum delay between two requests to an unavailable engine."""


@dataclass(frozen=True)
class Endpoint:
    """Request model and engine method of one URL."""

    route: Route
    usage_kind: str
    """The kind under which usage is recorded."""
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
    """Model that produced the response; empty for an error."""
    usage: UsageAmount = field(default_factory=UsageAmount)


async def process_request(
    resources: Resources, project_id: str, endpoint: Endpoint, request: BatchRequest
) -> BatchResponse:
    """Run one request. Retry indefinitely while the engine is unavailable or overloaded.

    Every other error becomes the response to the line.
    """
    try:
        body = await _call_engine(resources, project_id, endpoint, request.body)
    except EngineError as error:
        return _build_response(request, error.status, error.to_body())
    usage: dict[str, int] = body["usage"]
    amount = UsageAmount(1, usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0))
    return replace(_build_response(request, 200, body), model=body["model"], usage=amount)


async def _call_engine(
    resources: Resources, project_id: str, endpoint: Endpoint, raw_body: dict[str, Any]
) -> dict[str, Any]:
    try:
        body = endpoint.body_model.model_validate(raw_body)
    except ValidationError as error:
        # The same errors as the route's: FastAPI puts the source before each location.
        details = [{**detail, "loc": ("body", *detail["loc"])} for detail in error.errors(include_url=False)]
        issue = to_validation_issue(details, raw_body)
        raise EngineError(issue.code, issue.message, issue.param) from error
    if raw_body.get("stream"):
        raise EngineError("unsupported_parameter", "Batches do not stream responses. Remove 'stream'.", "stream")
    ref = await resolve_model(resources, project_id, raw_body["model"], endpoint)
    payload, delay = body.model_dump(exclude_unset=True), 0.5
    while True:
        try:
            return await endpoint.call_engine(resources.engine, ref, payload)
        except EngineUnavailable:
            await asyncio.sleep(delay * random.uniform(0.75, 1.25))
            delay = min(2 * delay, MAX_RETRY_DELAY_SECONDS)


async def resolve_model(resources: Resources, project_id: str, name: str, endpoint: Endpoint) -> ModelRef:
    """Return the model that a line names.

    Raises ``EngineError`` if the project has no such model for this endpoint.
    """
    try:
        return await model_lookup.resolve_for_route(resources, project_id, name, endpoint.route)
    except ModelNotPulled as error:
        raise EngineError("base_model_unavailable", str(error), "model") from error


def _build_response(request: BatchRequest, status: int, body: dict[str, Any]) -> BatchResponse:
    return BatchResponse(
        _encode_line(request, {"status_code": status, "request_id": new_id("request"), "body": body}, None)
    )


def build_expired_line(request: BatchRequest) -> bytes:
    """Build the error line for a request that was not processed in time."""
    message = "This request was not processed before the batch's completion window ended. Send it in a new batch."
    return _encode_line(request, None, {"code": "batch_expired", "message": message})


def _encode_line(request: BatchRequest, response: dict[str, Any] | None, error: dict[str, str] | None) -> bytes:
    line = {"id": new_id("batch_request"), "custom_id": request.custom_id, "response": response, "error": error}
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
