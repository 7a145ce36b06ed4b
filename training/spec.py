"""Specification of a run: validated by the API, stored in the job's row, and read by the child
process from ``spec.json``.

Every hyperparameter is ``"auto"`` or a value. The validation phase resolves each ``auto`` that
model and data decide, by the rule in ``training/hyperparameters/auto.py``. The first training phase
resolves those of the device that trains, and later ones get numbers only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from training.tasks import TASKS_BY_METHOD
from training.tasks.base import MAX_LENGTH, AnyTask
from training.updates import Update

Auto = Literal["auto"]
Scheduler = Literal["constant", "linear", "cosine"]
Optimizer = Literal["adamw", "adamw8bit", "sgd", "adafactor"]
Precision = Literal["float32", "bfloat16"]
Method = Literal["supervised", "dpo"]
ClassWeights = (
    Literal["none", "balanced"]
    | Annotated[
        dict[Annotated[str, StringConstraints(max_length=256)], Annotated[float, Field(gt=0, le=1e6)]],
        Field(max_length=10_000),
    ]
)
ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=256)]

PREVIEW_FILE = "preview.json"
"""File beside ``spec.json`` in the folder of a preview run: ``{"rows": n}``."""

DEVICE_FILE = "device.json"
"""File beside ``spec.json`` in the folder of a preflight: a worker's ``DeviceReport``."""

DEVICE_HYPERPARAMETERS = frozenset({"dtype", "gradient_accumulation_steps", "gradient_checkpointing"})
"""Hyperparameters that depend on the device that trains, ``auto`` until training starts."""
_OPTIONAL_HYPERPARAMETERS = frozenset({"max_seconds", "beta", "loss", "train_on_reasoning"}) | DEVICE_HYPERPARAMETERS
"""Hyperparameters that validation may leave ``auto``."""


class Hyperparameters(BaseModel):
    """Hyperparameters of a job: OpenAI's three and Luthier's own."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True, use_attribute_docstrings=True)

    n_epochs: Auto | Annotated[int, Field(ge=1, le=50)] = "auto"
    """Passes over the training file."""
    batch_size: Auto | Annotated[int, Field(ge=1, le=256)] = "auto"
    """Rows in one optimizer step, gradient accumulation included."""
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0, le=1000)] = "auto"
    """Factor of the learning rate that the ``auto`` rule chooses."""
    learning_rate: Auto | Annotated[float, Field(gt=0, le=10)] = "auto"
    """Absolute peak rate. Excludes ``learning_rate_multiplier``."""
    lr_scheduler: Auto | Scheduler = "auto"
    warmup_ratio: Auto | Annotated[float, Field(ge=0, lt=1)] = "auto"
    """Share of all steps over which the learning rate rises from 0 to its peak."""
    weight_decay: Auto | Annotated[float, Field(ge=0, le=1)] = "auto"
    """Decoupled; not applied to biases and norms."""
    max_grad_norm: Auto | Annotated[float, Field(gt=0, le=1000)] = "auto"
    """Gradients are scaled down to this global norm."""
    optimizer: Auto | Optimizer = "auto"
    label_smoothing: Auto | Annotated[float, Field(ge=0, lt=1)] = "auto"
    """Share of each target's weight that is distributed over all tokens or labels."""
    class_weights: Auto | ClassWeights = "auto"
    """``balanced`` gives every label the same total weight. A mapping sets weights by label; a
    label that is not listed has weight 1."""
    neftune_alpha: Auto | Annotated[float, Field(ge=0, le=1000)] = "auto"
    """Noise on the token embeddings during training (NEFTune, arXiv:2310.05914); 0 disables it."""
    train_on_inputs: Auto | bool = "auto"
    """Train on the input tokens too, not only on the outputs."""
    train_on_reasoning: Auto | bool = "auto"
    """Train on the reasoning of an assistant's answers, and not only on what follows it. With
    ``false`` the model reads the reasoning as context."""
    gradient_accumulation_steps: Auto | Annotated[int, Field(ge=1, le=256)] = "auto"
    """Micro-batches per batch, to save memory. The update equals that of the full batch."""
    max_length: Auto | Annotated[int, Field(ge=8, le=MAX_LENGTH)] = "auto"
    """Maximum tokens per row; longer rows are truncated, those of ``completion`` split."""
    max_steps: Auto | Annotated[int, Field(ge=1, le=10_000_000)] = "auto"
    """Stop after this many optimizer steps; ``auto`` follows from the epochs."""
    max_seconds: Auto | Annotated[int, Field(ge=1, le=31_536_000)] = "auto"
    """Stop after this many seconds of training, at the end of a step; ``auto`` is no limit."""
    eval_every: Auto | Annotated[int, Field(ge=1, le=10_000_000)] = "auto"
    """Steps between two evaluations on the validation rows; ``auto`` is the end of each epoch."""
    save_every: Auto | Annotated[int, Field(ge=1, le=10_000_000)] = "auto"
    """Steps between two published checkpoints. ``auto`` is the end of each epoch, or with more than
    ten epochs, at most ten epoch ends."""
    validation_share: Auto | Annotated[float, Field(ge=0, le=0.5)] = "auto"
    """Share of the training rows held out for validation if there is no validation file."""
    early_stopping_patience: Auto | Annotated[int, Field(ge=0, le=10_000)] = "auto"
    """Stop after this many evaluations without a lower validation loss and use the weights with the
    lowest loss. 0 never stops early and uses the last weights."""
    general_share: Auto | Annotated[float, Field(ge=0, le=0.9)] = "auto"
    """Share of each epoch's rows that come from the general file, to prevent forgetting."""
    l2_to_base: Auto | Annotated[float, Field(ge=0, le=1000)] = "auto"
    """L2 penalty that pulls trained weights toward their initial values (L2-SP, arXiv:1802.01483);
    0 disables it."""
    dtype: Auto | Precision = "auto"
    """Dtype of the matrix products. Trained weights stay in float32."""
    gradient_checkpointing: Auto | bool = "auto"
    """Recompute the activations of each block in the backward pass instead of storing them: less
    memory, a third more time."""

    @model_validator(mode="after")
    def _reject_two_rates(self) -> Hyperparameters:
        # Hyperparameters after validation contain both the learning rate and its ratio to the
        # rule's rate.
        is_unresolved = any(
            value == "auto" for name, value in self.__dict__.items() if name not in _OPTIONAL_HYPERPARAMETERS
        )
        if is_unresolved and self.learning_rate != "auto" and self.learning_rate_multiplier != "auto":
            raise ValueError("learning_rate and learning_rate_multiplier exclude each other; send one of them")
        return self


class DpoHyperparameters(Hyperparameters):
    """Hyperparameters of ``method.type: dpo``."""

    beta: Auto | Annotated[float, Field(gt=0, le=2)] = "auto"
    """Strength of the penalty for diverging from the reference model."""
    loss: Auto | Literal["sigmoid", "ipo"] = "auto"
    """``sigmoid`` (DPO, arXiv:2305.18290) or ``ipo`` (arXiv:2310.12036)."""


class TrainSpec(BaseModel):
    """Specification of one run. Paths are set by the worker, never by a client."""

    model_config = ConfigDict(extra="forbid")

    task: str
    """Key of ``training.tasks.TASKS``."""
    method: Method = "supervised"
    update: Update
    hyperparameters: DpoHyperparameters = DpoHyperparameters()
    """DPO's own have no effect on a supervised run."""
    columns: dict[ColumnName, ColumnName] = {}
    """Row field -> column or key of the file."""
    seed: int = Field(ge=0, le=2**31 - 1)
    base: Path
    """Directory of the base model: safetensors, tokenizer, config."""
    base_id: str
    """Name of the base in the registry, stored in the result."""
    chat_template: str | None = None
    """Name of the chat template that replaces the base's own."""
    training_file: str
    """File name inside the run's folder."""
    validation_file: str | None = None
    general_file: str | None = None
    """General rows, of a kind that the base is good at. Training mixes them in; their loss is
    measured before and after."""
    start: str | None = None
    """Folder inside the run's folder with an earlier result to continue from."""
    threads: int | None = None
    """CPU threads; the same number gives the same bits. None: torch's default."""
    save_seconds: float = 30.0
    """Seconds between checkpoints to resume from: at most this much work is lost in a crash."""
    cache: Path | None = None
    """Folder of encoded rows that runs share. None: a folder inside the run's folder."""
    cache_bytes: int | None = None
    """Size to which a run shrinks the cache after adding to it. None: no limit."""

    def create_task(self) -> AnyTask:
        """Return the task with the options that decide how its rows are encoded."""
        requested = self.hyperparameters
        return TASKS_BY_METHOD[self.method][self.task].with_options(
            requested.train_on_inputs is True, requested.train_on_reasoning is not False
        )

    def write(self, folder: Path) -> None:
        (folder / "spec.json").write_text(self.model_dump_json(indent=2))

    @classmethod
    def read(cls, folder: Path) -> TrainSpec:
        return cls.model_validate_json((folder / "spec.json").read_text())
