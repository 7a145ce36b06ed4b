"""What a kind of integration does, and the lines that tell it what to do.

A sink runs in a process of its own, which is given lines of JSON and answers the first and the last of them. What it
imports and whom it waits for, and how it fails, so stays its own affair.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, Field, TypeAdapter

Status = Literal["succeeded", "failed", "cancelled", "left"]
"""How the job ended; ``left``: it has not, and may go on elsewhere."""


class OpenCommand(BaseModel):
    """Begin, or go on with, the run of a job."""

    type: Literal["open"] = "open"
    job_id: str
    target: dict[str, Any]
    """The integration's own part of the job: ``{"project": …}``."""
    config: dict[str, Any]
    """What the job was asked to do."""


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
    """The answer to ``Open``."""

    url: str | None
    """Where people see the run."""
    step: int
    """The last one that the run already has."""


class CloseResponse(BaseModel):
    """The answer to ``Close``: everything is where it should be."""

    closed: Literal[True] = True


COMMANDS: TypeAdapter[OpenCommand | StepCommand | CloseCommand] = TypeAdapter(
    Annotated[OpenCommand | StepCommand | CloseCommand, Field(discriminator="type")]
)


class Sink(Protocol):
    """One run at one kind of service."""

    def open(self, command: OpenCommand) -> OpenResponse:
        """Find the job's run, or make it."""

    def log_step(self, wall_time: float, step: int, values: Mapping[str, float]) -> None:
        """Add figures; steps come in order."""

    def close(self, status: Status) -> None:
        """Send what is left."""
