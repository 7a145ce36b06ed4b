"""Interface of a metrics sink, and the protocol of its process.

A sink runs in its own process. It reads JSON lines and responds to the first and the last of them.
The process isolates the worker from the sink's imports, delays and failures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, Field, TypeAdapter

Status = Literal["succeeded", "failed", "cancelled", "left"]
"""Status of the job when its export ends.

``left``: the job has not ended and may continue on another worker.
"""


class OpenCommand(BaseModel):
    """Open a job's run: create it, or continue an existing one."""

    type: Literal["open"] = "open"
    job_id: str
    target: dict[str, Any]
    """The job's options for this integration: ``{"project": …}``."""
    config: dict[str, Any]
    """The job's configuration, hyperparameters included."""


class StepCommand(BaseModel):
    type: Literal["step"] = "step"
    at: float
    """Seconds since 1970."""
    step: int
    values: dict[str, float]


class CloseCommand(BaseModel):
    type: Literal["close"] = "close"
    status: Status


class OpenResponse(BaseModel):
    """Response to ``OpenCommand``."""

    url: str | None
    """Web page of the run."""
    step: int
    """Last step that the run already has."""


class CloseResponse(BaseModel):
    """Response to ``CloseCommand``: all metrics have been sent."""

    closed: Literal[True] = True


COMMANDS: TypeAdapter[OpenCommand | StepCommand | CloseCommand] = TypeAdapter(
    Annotated[OpenCommand | StepCommand | CloseCommand, Field(discriminator="type")]
)


class Sink(Protocol):
    """One run at one kind of service."""

    def open(self, command: OpenCommand) -> OpenResponse:
        """Find the job's run, or create it."""

    def log_step(self, wall_time: float, step: int, values: Mapping[str, float]) -> None:
        """Log the metrics of a step. Steps arrive in order."""

    def close(self, status: Status) -> None:
        """Send buffered metrics and close the run."""
