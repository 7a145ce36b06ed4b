"""Where else a job's figures go, on the wire. Never a secret: keys are the operator's."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class _StrictModel(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class WandbIn(_StrictModel):
    """A run of Weights & Biases."""

    project: Name
    name: Name | None = None
    """Of the run; the job's id where absent."""
    entity: Name | None = None
    """Team or user; the server's default where absent."""
    tags: Annotated[list[Tag], Field(max_length=32)] | None = None


class MlflowIn(_StrictModel):
    """A run of MLflow."""

    experiment: Name
    """By name; made where there is none."""
    run_name: Name | None = None
    """The job's id where absent."""


class WandbIntegration(_StrictModel):
    type: Literal["wandb"]
    wandb: WandbIn


class MlflowIntegration(_StrictModel):
    type: Literal["mlflow"]
    mlflow: MlflowIn


Integration = Annotated[WandbIntegration | MlflowIntegration, Field(discriminator="type")]
