"""Bodies of the preflight routes, which check a job before it is created."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from api.schemas.base import ResponseModel
from api.schemas.fine_tuning.jobs import JobIn
from storage.tables import Job
from training import estimate, run_events
from training.artifacts.serving_compat import list_compatible_engines
from training.run_events import PreviewRow
from training.run_reports import DatasetError, FileReport, Plan, Problem, Range


class PreviewIn(JobIn):
    """The body of a job, and the number of rows to show."""

    rows: Annotated[int, Field(ge=1, le=20)] = 3


class EstimateOut(ResponseModel):
    """Estimated cost of the training on this installation."""

    seconds: Range
    peak_memory_bytes: Range
    """Memory of the device that trains."""
    tokens_per_second: float
    basis: Literal["measured", "rule"]
    """``measured``: from earlier jobs with this base model. ``rule``: from its size and the speed
    of the workers' device."""


class PreflightOut(ResponseModel):
    """Result of checking a job without creating it."""

    object: Literal["fine_tuning.preflight"] = "fine_tuning.preflight"
    valid: bool
    """True if the files would pass ``validating_files``."""
    error: Problem | None
    """Error with which the job would fail."""
    model: str
    task: str
    method: str
    update: dict[str, Any]
    files: dict[str, FileReport]
    """Reports on ``training_file`` and, if sent, ``validation_file`` and ``general_file``."""
    faults: list[DatasetError]
    """The first 100 errors, each with its physical line, its field, and what to change."""
    fault_count: int
    warnings: list[str]
    total_steps: int | None
    total_tokens: int | None
    """Tokens trained on in all steps."""
    hyperparameters: dict[str, Any] | None
    """Hyperparameters with every ``auto`` replaced by the value that the job would use on the
    workers' device."""
    trainable_parameters: int | None
    """Null for a large base model, which would have to be loaded to count them."""
    total_parameters: int | None
    estimate: EstimateOut | None
    servable_by: list[str]


class PreviewOut(ResponseModel):
    """Rows as the training sees them: each token, and whether it is trained on."""

    object: Literal["list"] = "list"
    data: list[PreviewRow]
    model: str
    task: str


def to_preflight_out(job: Job, result: run_events.Preflight | run_events.Failure, speeds: list[float]) -> PreflightOut:
    """Convert a preflight result. ``speeds``: tokens per second of similar earlier jobs."""
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
