"""A job's measured steps on the wire."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class MetricOut(BaseModel):
    """One measured step, with the task's own figures too. Those of the validation rows are null where none were looked
    at."""

    model_config = ConfigDict(extra="allow")

    step: int
    total_steps: int
    epoch: float
    learning_rate: float
    train_loss: float
    train_accuracy: float | None = None
    valid_loss: float | None = None
    valid_accuracy: float | None = None
    general_loss: float | None = None
    grad_norm: float | None = None
    tokens: int | None = None
    tokens_per_second: float | None = None
    eta_seconds: float | None = None


class MetricsOut(BaseModel):
    """Measured steps, the first first."""

    object: Literal["list"] = "list"
    data: list[MetricOut]
    has_more: bool
