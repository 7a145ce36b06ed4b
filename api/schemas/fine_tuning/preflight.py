"""What is told of a job before there is one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from api.schemas.fine_tuning.jobs import JobIn
from storage.tables import Job
from training import estimate, run_events
from training.artifacts.serving_compat import list_compatible_engines
from training.run_events import DatasetError, FileReport, Plan, PreviewRow, Problem, Range


class PreviewIn(JobIn):
    """A job's body, and how many rows to show."""

    rows: Annotated[int, Field(ge=1, le=20)] = 3


class EstimateOut(BaseModel):
    """What training will take on this installation, about."""

    seconds: Range
    peak_memory_bytes: Range
    tokens_per_second: float
    basis: Literal["measured", "rule"]
    """``measured``: by earlier jobs on this base; ``rule``: by its size and this machine's speed."""


class PreflightOut(BaseModel):
    """What a job with this body would meet. Nothing was created."""

    object: Literal["fine_tuning.preflight"] = "fine_tuning.preflight"
    valid: bool
    """Whether its files would pass ``validating_files``."""
    error: Problem | None
    """What the job would fail with."""
    model: str
    task: str
    method: str
    update: dict[str, Any]
    files: dict[str, FileReport]
    """``training_file`` and, where they were sent, ``validation_file`` and ``general_file``."""
    faults: list[DatasetError]
    """The first 100: each with its physical line, its field, and what to change."""
    fault_count: int
    warnings: list[str]
    total_steps: int | None
    total_tokens: int | None
    """Trained on in all steps together."""
    hyperparameters: dict[str, Any] | None
    """With the number used in place of every ``auto``."""
    trainable_parameters: int | None
    """Null for a large base, which would have to be loaded to count them."""
    total_parameters: int | None
    estimate: EstimateOut | None
    servable_by: list[str]


class PreviewOut(BaseModel):
    """Rows as training sees them: each token, and whether it is learnt."""

    object: Literal["list"] = "list"
    data: list[PreviewRow]
    model: str
    task: str


def to_preflight_out(job: Job, result: run_events.Preflight | run_events.Failure, speeds: list[float]) -> PreflightOut:
    """``speeds``: tokens a second of earlier jobs like this one."""
    if isinstance(result, run_events.Failure):
        problem = Problem(code=result.code, message=result.message, param=result.param)
        result = run_events.Preflight(
            files={}, faults=result.faults, fault_count=result.fault_count, error=problem, warnings=[], plan=None
        )
    plan = result.plan
    return PreflightOut(
        valid=result.error is None,
        error=result.error,
        model=job.base_model,
        task=job.task,
        method=job.method["type"],
        update=job.update,
        files=result.files,
        faults=result.faults,
        fault_count=result.fault_count,
        warnings=result.warnings,
        total_steps=plan.total_steps if plan else None,
        total_tokens=plan.total_tokens if plan else None,
        hyperparameters=plan.hyperparameters if plan else None,
        trainable_parameters=plan.trainable_parameters if plan else None,
        total_parameters=plan.total_parameters if plan else None,
        estimate=_to_estimate_out(plan, speeds) if plan else None,
        servable_by=list_compatible_engines(job.task, job.update),
    )


def _to_estimate_out(plan: Plan, speeds: list[float]) -> EstimateOut:
    seconds = estimate.estimate_duration(plan, speeds, plan.hyperparameters.get("max_seconds"))
    return EstimateOut(
        seconds=seconds,
        peak_memory_bytes=plan.peak_memory_bytes,
        tokens_per_second=round(estimate.select_throughput(plan, speeds), 1),
        basis="measured" if speeds else "rule",
    )
