"""Bodies of the batch routes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from api.schemas.base import ResponseModel, StrictModel
from api.schemas.fine_tuning.jobs import MetadataKey, MetadataValue, Reference
from storage.tables import Batch

BatchEndpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/predictions"]


class OutputExpiresAfterIn(StrictModel):
    anchor: Literal["created_at"]
    """Creation of the output file."""
    seconds: int = Field(ge=3600, le=2_592_000)


class BatchIn(StrictModel):
    """The body of ``POST /v1/batches``."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"input_file_id": "file-abc", "endpoint": "/v1/chat/completions", "completion_window": "24h"},
            ]
        }
    )

    input_file_id: Reference
    """A file with purpose ``batch``: JSON lines ``{custom_id, method: "POST", url, body}``."""
    endpoint: BatchEndpoint
    """The ``url`` of every line."""
    completion_window: Literal["24h"]
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)] | None = None
    output_expires_after: OutputExpiresAfterIn | None = None
    """Lifetime of the output and error files; without it, they do not expire."""


class BatchErrorOut(ResponseModel):
    code: str
    message: str
    param: str | None
    line: int | None
    """Line of the input file, counted from 1."""


class BatchErrorsOut(ResponseModel):
    """The first 100 errors that validation found in the input file."""

    object: Literal["list"] = "list"
    data: list[BatchErrorOut]


class RequestCountsOut(ResponseModel):
    """Counts of the batch's requests. ``completed`` and ``failed`` lag by a few seconds at most."""

    total: int
    completed: int
    failed: int


class InputTokensOut(ResponseModel):
    cached_tokens: int = 0


class OutputTokensOut(ResponseModel):
    reasoning_tokens: int = 0


class BatchUsageOut(ResponseModel):
    input_tokens: int
    input_tokens_details: InputTokensOut
    output_tokens: int
    output_tokens_details: OutputTokensOut
    total_tokens: int


class BatchOut(ResponseModel):
    """A batch, which processes the requests of an input file and writes an output file."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None
    """Model of all lines; null if the lines name several models, or before validation."""
    errors: BatchErrorsOut | None
    input_file_id: str
    completion_window: str
    status: Literal[
        "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
    ]
    output_file_id: str | None
    """Responses in the order of the lines; null until the batch ends, and if no line succeeded."""
    error_file_id: str | None
    """Lines that failed or expired; null until the batch ends, and if there are none."""
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCountsOut
    usage: BatchUsageOut
    metadata: dict[str, str] | None


def to_batch_out(batch: Batch) -> BatchOut:
    return BatchOut(
        id=batch.id,
        endpoint=batch.endpoint,
        model=batch.model,
        errors=None
        if batch.errors is None
        else BatchErrorsOut(data=[BatchErrorOut(**error) for error in batch.errors]),
        input_file_id=batch.input_file_id,
        completion_window=batch.completion_window,
        status=batch.status,
        output_file_id=batch.output_file_id,
        error_file_id=batch.error_file_id,
        created_at=int(batch.created_at),
        in_progress_at=_to_seconds(batch.in_progress_at),
        expires_at=int(batch.expires_at),
        finalizing_at=_to_seconds(batch.finalizing_at),
        completed_at=_to_seconds(batch.completed_at),
        failed_at=_to_seconds(batch.failed_at),
        expired_at=_to_seconds(batch.expired_at),
        cancelling_at=_to_seconds(batch.cancelling_at),
        cancelled_at=_to_seconds(batch.cancelled_at),
        request_counts=RequestCountsOut(total=batch.total, completed=batch.completed, failed=batch.failed),
        usage=BatchUsageOut(
            input_tokens=batch.input_tokens,
            input_tokens_details=InputTokensOut(),
            output_tokens=batch.output_tokens,
            output_tokens_details=OutputTokensOut(),
            total_tokens=batch.input_tokens + batch.output_tokens,
        ),
        metadata=batch.meta,
    )


def _to_seconds(time: float | None) -> int | None:
    return None if time is None else int(time)
