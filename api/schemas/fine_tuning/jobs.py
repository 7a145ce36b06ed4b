"""Bodies of the job routes: OpenAI's fields, and Luthier's additional ones."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints

from api.schemas.base import ResponseModel, StrictModel
from api.schemas.fine_tuning.integrations import Integration
from training.run_events import PhaseName
from training.spec import ColumnName, DpoHyperparameters, Hyperparameters
from training.updates import Update

Reference = Annotated[str, StringConstraints(min_length=1, max_length=256)]
MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]
MethodType = Literal["supervised", "dpo", "reinforcement"]


CheckpointLifetime = Annotated[int, Field(ge=3600, le=31_536_000)]
"""Seconds, from one hour to one year."""


class SupervisedIn(StrictModel):
    hyperparameters: Hyperparameters | None = None


class DpoIn(StrictModel):
    hyperparameters: DpoHyperparameters | None = None


class MethodIn(StrictModel):
    """The training method. Only the block that ``type`` names is read."""

    type: MethodType
    supervised: SupervisedIn | None = None
    dpo: DpoIn | None = None
    reinforcement: Annotated[dict[str, Any], Field(max_length=16)] | None = None


class JobFields(StrictModel):
    """Fields of a new job, except its training file."""

    model: Reference | None = None
    """Id or alias of a base model, or a fine-tuned model or checkpoint to continue from. Optional
    with ``from_checkpoint``."""
    from_checkpoint: Reference | None = None
    """``{job id or model}[:step]`` to continue from: the checkpoint of that step, or the finished
    model, or the newest checkpoint of an unfinished job."""
    validation_file: Reference | None = None
    general_file: Reference | None = None
    """Rows of the same format on which the base model performs well. A share of them is mixed into
    the training rows, and the change of the loss on others is reported, which shows forgetting."""
    hyperparameters: Hyperparameters | None = None
    """OpenAI's older field for ``method.supervised.hyperparameters``, still supported."""
    method: MethodIn | None = None
    suffix: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    """Part of the model's name. Characters except letters, digits, '.', '_' and '-' become '-'."""
    integrations: Annotated[list[Integration], Field(max_length=5)] | None = None
    """Other services that receive the job's metrics. The operator must have configured them."""
    checkpoint_ttl_seconds: CheckpointLifetime | None = None
    """Lifetime of each checkpoint; by default unlimited. The finished model does not expire."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """Equal seeds, data and machines give equal models. By default random, and shown in the job."""
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)] | None = None
    auto_start: bool = True
    """False: after validation, the job waits in the state ``validated`` for ``POST …/start``."""
    task: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    """Task to train; by default the base model's first task."""
    update: Update | None = None
    """Parameters to train; by default chosen from the task and the size of the base model."""
    columns: Annotated[dict[ColumnName, ColumnName], Field(max_length=64)] | None = None
    """Field of the task's rows -> column or key in the file."""


class JobIn(JobFields):
    """The body of ``POST /v1/fine_tuning/jobs``."""

    # OpenAI documents 'model' as required. With 'from_checkpoint' it is optional.
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
    """Changes to the cloned job's request.

    Null removes the source's value, except for ``model`` and ``training_file``, which every job
    has.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"suffix": "longer", "seed": 2}]})

    training_file: Reference | None = None


class JobErrorOut(ResponseModel):
    """The reason why the job failed. ``code`` is one of a fixed list."""

    code: str
    message: str
    param: str | None


class HyperparametersOut(ResponseModel):
    """OpenAI's three hyperparameters: as requested, or as used once the files are validated."""

    n_epochs: int | Literal["auto"] | None
    batch_size: int | Literal["auto"] | None
    learning_rate_multiplier: float | Literal["auto"] | None


class MethodHyperparametersOut(ResponseModel):
    hyperparameters: dict[str, Any]
    """All hyperparameters: as requested, with every ``auto`` replaced by the value used once the
    files are validated. ``dtype``, ``gradient_accumulation_steps`` and ``gradient_checkpointing``
    depend on the worker's device, so their ``auto`` is replaced when training starts."""


class MethodOut(ResponseModel):
    type: MethodType
    supervised: MethodHyperparametersOut | None = None
    dpo: MethodHyperparametersOut | None = None


class ProgressOut(ResponseModel):
    """Progress of the training. ``eta`` is in seconds."""

    step: int
    total_steps: int
    epoch: float
    tokens_per_second: float | None
    eta: float | None


class JobOut(ResponseModel):
    """A fine-tuning job."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
    """For running jobs, and for queued ones retrieved by id if the jobs ahead can be estimated."""
    estimated_start: int | None
    """For queued jobs, under the same conditions as ``estimated_finish``."""
    queue_position: int | None
    """For queued jobs retrieved by id; 1 is next. Null in lists, because it needs the entire
    queue."""
    auto_start: bool
    model: str
    """Starting point of the training: a base model, or the fine-tuned model that it continues."""
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
    """Like ``status``, and also ``validated``, ``paused``, ``pausing`` and ``cancelling``."""
    task: str
    update: dict[str, Any]
    columns: dict[str, str]
    phase: PhaseName | None
    """Activity of a running job; null for others. ``encoding``: tokenize the rows. ``reference``:
    compute the log-probabilities of the untrained model. ``features``: compute the outputs of the
    frozen blocks."""
    progress: ProgressOut | None
    attempt: int
    """Number of times a worker has claimed the job; more than 1 after a worker was lost."""
    trainable_parameters: int | None
    final_metrics: dict[str, float | None] | None
    resume_proof: dict[str, Any] | None
    """Hashes of the parameters, the random state and the last batch at the end. They are equal for
    a resumed and an uninterrupted run."""
    checkpoint_ttl_seconds: int | None
    servable_by: list[str]
    """Engines that can serve the result; known from the start."""


class EventOut(ResponseModel):
    """An event of a fine-tuning job."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any] | None


class CheckpointMetricsOut(ResponseModel):
    """Metrics at the checkpoint's step, including those of the task."""

    model_config = ConfigDict(extra="allow")

    step: float
    train_loss: float | None = None
    train_mean_token_accuracy: float | None = None
    valid_loss: float | None = None
    valid_mean_token_accuracy: float | None = None
    full_valid_loss: float | None = None
    full_valid_mean_token_accuracy: float | None = None


class CheckpointOut(ResponseModel):
    """A checkpoint of a fine-tuning job, which can be used as a model."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    """Name of the checkpoint as a model; send it as ``model`` in requests."""
    fine_tuning_job_id: str
    step_number: int
    metrics: CheckpointMetricsOut
    expires_at: int | None
    """Time of deletion; null means that it does not expire."""
