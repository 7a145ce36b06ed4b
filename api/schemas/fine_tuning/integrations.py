"""Integrations of a job: services that receive its metrics.

They hold no secrets; the operator has the keys.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from api.schemas.base import StrictModel

Name = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class WandbIn(StrictModel):
    """A run in Weights & Biases."""

    project: Name
    name: Name | None = None
    """Name of the run; by default the job's id."""
    entity: Name | None = None
    """Team or user; by default the one that the server configures."""
    tags: Annotated[list[Tag], Field(max_length=32)] | None = None


class MlflowIn(StrictModel):
    """A run in MLflow."""

    experiment: Name
    """Name of the experiment; created if it does not exist."""
    run_name: Name | None = None
    """Name of the run; by default the job's id."""


class WandbIntegration(StrictModel):
    type: Literal["wandb"]
    wandb: WandbIn


class MlflowIntegration(StrictModel):
    type: Literal["mlflow"]
    mlflow: MlflowIn


Integration = Annotated[WandbIntegration | MlflowIntegration, Field(discriminator="type")]
