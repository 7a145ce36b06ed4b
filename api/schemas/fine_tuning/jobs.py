"""Fine-tuning jobs on the wire: OpenAI's bodies and objects with Luthier's fields beside theirs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.schemas.fine_tuning.integrations import Integration
from training.spec import ColumnName, DpoHyperparameters, Hyperparameters
from training.updates import Update

Reference = Annotated[str, StringConstraints(min_length=1, max_length=256)]
MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]
MethodType = Literal["supervised", "dpo", "reinforcement"]


CheckpointLifetime = Annotated[int, Field(ge=3600, le=31_536_000)]
"""Seconds: an hour to a year."""


class _StrictModel(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class SupervisedIn(_StrictModel):
    hyperparameters: Hyperparameters | None = None


class DpoIn(_StrictModel):
    hyperparameters: DpoHyperparameters | None = None


class MethodIn(_StrictModel):
    """How to train. Blocks of the types that ``type`` does not choose are not looked at."""

    type: MethodType
    supervised: SupervisedIn | None = None
    dpo: DpoIn | None = None
    reinforcement: Annotated[dict[str, Any], Field(max_length=16)] | None = None


class JobFields(_StrictModel):
    """What can be said of a job, but for its training file."""

    model: Reference | None = None
    """A base model's id or alias, or a fine-tuned model or checkpoint to go on from. Not needed with
    ``from_checkpoint``."""
    from_checkpoint: Reference | None = None
    """``{job id or model}[:step]`` to go on from: that step's checkpoint, or the finished model, or the newest
    checkpoint of a job that has not finished."""
    validation_file: Reference | None = None
    general_file: Reference | None = None
    """Rows that the base is good at, of the same kind: a share of them is mixed into training, and the change of the
    loss on others is told, so that what is forgotten shows."""
    hyperparameters: Hyperparameters | None = None
    """OpenAI's older place for ``method.supervised.hyperparameters``; still read."""
    method: MethodIn | None = None
    suffix: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    """Becomes part of the model's name; characters other than letters, digits, '.', '_' and '-' become '-'."""
    integrations: Annotated[list[Integration], Field(max_length=5)] | None = None
    """Where else the job's figures go: those that the operator has set up."""
    checkpoint_ttl_seconds: CheckpointLifetime | None = None
    """Each kept checkpoint is deleted so long after it was made; where absent they stay. The finished model stays."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """The same seed, data and machine give the same model; chosen at random and told where absent."""
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)] | None = None
    auto_start: bool = True
    """False: once its files are validated the job waits, in the state ``validated``, for ``POST …/start``."""
    task: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    """What is learned; the base model's first task where absent."""
    update: Update | None = None
    """Which parameters change; chosen by task and size of the base model where absent."""
    columns: Annotated[dict[ColumnName, ColumnName], Field(max_length=64)] | None = None
    """Field of the task's rows -> column or key of the file."""


class JobIn(JobFields):
    """The body of ``POST /v1/fine_tuning/jobs``."""

    # As OpenAI documents it; who sends 'from_checkpoint' may leave the model out.
    model_config = ConfigDict(
        json_schema_extra={
            "required": ["model", "training_file"],
            "examples": [
                {
                    "model": "minilm-l6",
                    "training_file": "file-abc",
                    "task": "text-classification",
                    "update": {"type": "full"},
                    "columns": {"label": "category"},
                    "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}},
                }
            ],
        }
    )

    training_file: Reference
    """A file with purpose ``fine-tune``."""


class CloneIn(JobFields):
    """What is to be different from the job that is cloned. Null is a value: it takes the source's away, but not its
    model or training file, which every job has."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"suffix": "longer", "seed": 2}]})

    training_file: Reference | None = None


class JobErrorOut(BaseModel):
    """Why the job failed. ``code`` is one of a closed list."""

    code: str
    message: str
    param: str | None


class HyperparametersOut(BaseModel):
    """OpenAI's three: as asked, and the numbers used once the files are validated."""

    n_epochs: int | Literal["auto"] | None
    batch_size: int | Literal["auto"] | None
    learning_rate_multiplier: float | Literal["auto"] | None


class MethodHyperparametersOut(BaseModel):
    hyperparameters: dict[str, Any]
    """Every hyperparameter: as asked, and the number used in place of every ``auto`` once the files are validated."""


class MethodOut(BaseModel):
    type: MethodType
    supervised: MethodHyperparametersOut | None = None
    dpo: MethodHyperparametersOut | None = None


class ProgressOut(BaseModel):
    """How far the training is. ``eta`` is in seconds."""

    step: int
    total_steps: int
    epoch: float
    tokens_per_second: float | None
    eta: float | None


class JobOut(BaseModel):
    """A fine-tuning job."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
    """Of a running job; of a queued one where it is retrieved alone and what runs before it can be told."""
    estimated_start: int | None
    """Of a queued job, as its ``estimated_finish``."""
    queue_position: int | None
    """Of a queued job that is retrieved alone: 1 is next. Null in lists: it costs a look at the whole queue."""
    auto_start: bool
    model: str
    """What training began from: a base model, or the fine-tuned model that it went on from."""
    base_model: str
    fine_tuned_model: str | None
    organization_id: str
    status: Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
    error: JobErrorOut | None
    hyperparameters: HyperparametersOut
    method: MethodOut
    training_file: str
    validation_file: str | None
    general_file: str | None
    result_files: list[str]
    trained_tokens: int | None
    seed: int
    metadata: dict[str, str] | None
    integrations: list[Integration] | None = None
    user_provided_suffix: str | None

    state: str
    """``status`` in full: also ``validated``, ``paused``, ``pausing`` and ``cancelling``."""
    task: str
    update: dict[str, Any]
    columns: dict[str, str]
    progress: ProgressOut | None
    attempt: int
    """How often a worker took the job; more than 1 after a worker was lost."""
    trainable_parameters: int | None
    final_metrics: dict[str, float | None] | None
    resume_proof: dict[str, Any] | None
    """Hashes of parameters, random state and last batch at the end: equal for a resumed and an unbroken run."""
    checkpoint_ttl_seconds: int | None
    servable_by: list[str]
    """Engines that can serve the result; known from the beginning."""


class EventOut(BaseModel):
    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any] | None


class CheckpointMetricsOut(BaseModel):
    """What was measured at the checkpoint's step; the task's own figures too."""

    model_config = ConfigDict(extra="allow")

    step: float
    train_loss: float | None = None
    train_mean_token_accuracy: float | None = None
    valid_loss: float | None = None
    valid_mean_token_accuracy: float | None = None
    full_valid_loss: float | None = None
    full_valid_mean_token_accuracy: float | None = None


class CheckpointOut(BaseModel):
    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    """A model of its own: name it where a model is asked for."""
    fine_tuning_job_id: str
    step_number: int
    metrics: CheckpointMetricsOut
    expires_at: int | None
    """It is deleted then; null: it stays."""
