"""Bodies of the metrics routes."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict

from api.schemas.base import ResponseModel


class MetricOut(ResponseModel):
    """Metrics of one training step, including those of the task.

    Validation metrics are null for steps without validation.
    """

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


class MetricsOut(ResponseModel):
    """Metrics of training steps in ascending order."""

    object: Literal["list"] = "list"
    data: list[MetricOut]
    has_more: bool
