"""What a run is told: the spec that the API validates, the job row keeps and the child reads from ``spec.json``.

Every hyperparameter is ``"auto"`` or a value. ``auto`` is resolved once, in the validating phase, by the rule in
``training/hyperparameters/auto.py``; the training phase is given numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from training.tasks.base import MAX_LENGTH
from training.updates import Update

Auto = Literal["auto"]
Scheduler = Literal["constant", "linear", "cosine"]
Optimizer = Literal["adamw", "sgd", "adafactor"]
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
"""In the folder of a run that only looks at rows, beside ``spec.json``: ``{"rows": n}``."""

_OPTIONAL_HYPERPARAMETERS = frozenset({"max_seconds", "beta", "loss"})
"""Stay ``auto`` where they do not apply."""


class Hyperparameters(BaseModel):
    """OpenAI's three and Luthier's own, in one object."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)

    n_epochs: Auto | Annotated[int, Field(ge=1, le=50)] = "auto"
    """Passes over the training file."""
    batch_size: Auto | Annotated[int, Field(ge=1, le=256)] = "auto"
    """Rows in one optimizer step, gradient accumulation included."""
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0, le=1000)] = "auto"
    """Scales the rate that the rule would choose."""
    learning_rate: Auto | Annotated[float, Field(gt=0, le=10)] = "auto"
    """Peak rate, absolute; refuses a multiplier beside it."""
    lr_scheduler: Auto | Scheduler = "auto"
    warmup_ratio: Auto | Annotated[float, Field(ge=0, lt=1)] = "auto"
    """Share of all steps over which the rate rises from 0 to its peak."""
    weight_decay: Auto | Annotated[float, Field(ge=0, le=1)] = "auto"
    """Decoupled; not applied to biases and norms."""
    max_grad_norm: Auto | Annotated[float, Field(gt=0, le=1000)] = "auto"
    """Gradients are scaled down to this global norm."""
    optimizer: Auto | Optimizer = "auto"
    label_smoothing: Auto | Annotated[float, Field(ge=0, lt=1)] = "auto"
    """Share of each target's weight that is spread over all tokens or labels."""
    class_weights: Auto | ClassWeights = "auto"
    """``balanced``: each label counts alike, however many rows it has; or weights by label, 1 for those not named."""
    neftune_alpha: Auto | Annotated[float, Field(ge=0, le=1000)] = "auto"
    """Noise on the token embeddings while training (NEFTune, arXiv:2310.05914); 0: none."""
    train_on_inputs: Auto | bool = "auto"
    """Learn what the user says too, not the answers only."""
    gradient_accumulation_steps: Auto | Annotated[int, Field(ge=1, le=256)] = "auto"
    """Parts into which a batch is split for memory; the update equals the whole batch's."""
    max_length: Auto | Annotated[int, Field(ge=8, le=MAX_LENGTH)] = "auto"
    """Tokens of a row; a longer row is cut."""
    max_steps: Auto | Annotated[int, Field(ge=1, le=10_000_000)] = "auto"
    """Stop after so many optimizer steps; ``auto`` is what the epochs come to."""
    max_seconds: Auto | Annotated[int, Field(ge=1, le=31_536_000)] = "auto"
    """Stop after so many seconds of training, at a step's end; ``auto`` is no limit."""
    eval_every: Auto | Annotated[int, Field(ge=1, le=10_000_000)] = "auto"
    """Steps between two evaluations on the validation rows; ``auto`` is the end of each epoch."""
    save_every: Auto | Annotated[int, Field(ge=1, le=10_000_000)] = "auto"
    """Steps between two kept checkpoints; ``auto`` is the end of each epoch, or of every few of more than ten."""
    validation_share: Auto | Annotated[float, Field(ge=0, le=0.5)] = "auto"
    """Share of the training rows set aside for validation, where there is no validation file."""
    early_stopping_patience: Auto | Annotated[int, Field(ge=0, le=10_000)] = "auto"
    """Stop after so many evaluations without a lower validation loss, and take the weights of the lowest; 0: never
    stop, take the last weights."""
    general_share: Auto | Annotated[float, Field(ge=0, le=0.9)] = "auto"
    """Share of each epoch's rows that come from the general file, so that the model does not forget them."""
    l2_to_base: Auto | Annotated[float, Field(ge=0, le=1000)] = "auto"
    """Pull of the trained weights towards where they began (L2-SP, arXiv:1802.01483); 0: none."""
    dtype: Auto | Precision = "auto"
    """What the matrix products run in; trained weights stay in float32."""
    gradient_checkpointing: Auto | bool = "auto"
    """Compute each block's activations twice rather than keep them: less memory, a third more time."""

    @model_validator(mode="after")
    def _reject_two_rates(self) -> Hyperparameters:
        # Resolved ones, with no "auto" left, have both: the rate, and how it relates to the rule's.
        asked = any(value == "auto" for name, value in self.__dict__.items() if name not in _OPTIONAL_HYPERPARAMETERS)
        if asked and self.learning_rate != "auto" and self.learning_rate_multiplier != "auto":
            raise ValueError("learning_rate and learning_rate_multiplier exclude each other; send one of them")
        return self


class DpoHyperparameters(Hyperparameters):
    """Of ``method.type: dpo``."""

    beta: Auto | Annotated[float, Field(gt=0, le=2)] = "auto"
    """How strongly the model is held to the one that it began as."""
    loss: Auto | Literal["sigmoid", "ipo"] = "auto"
    """``sigmoid`` (DPO, arXiv:2305.18290) or ``ipo`` (arXiv:2310.12036)."""


class TrainSpec(BaseModel):
    """One run, whole. Paths are the worker's, never a client's."""

    model_config = ConfigDict(extra="forbid")

    task: str
    """A key of ``training.tasks.TASKS``."""
    method: Method = "supervised"
    update: Update
    hyperparameters: DpoHyperparameters = DpoHyperparameters()
    """Those of DPO are of no effect on a supervised run."""
    columns: dict[ColumnName, ColumnName] = {}
    """Row field -> column or key of the file."""
    seed: int = Field(ge=0, le=2**31 - 1)
    base: Path
    """Directory of the base model: safetensors, tokenizer, config."""
    base_id: str
    """The registry's name of it, kept in the result."""
    training_file: str
    """File name inside the run's folder."""
    validation_file: str | None = None
    general_file: str | None = None
    """Rows of the kind that the base is good at: mixed in, and measured before and after."""
    start: str | None = None
    """Folder, inside the run's, of an earlier result to go on from."""
    threads: int | None = None
    """CPU threads; the same number gives the same bits. None: what torch chooses."""
    save_seconds: float = 30.0
    """At most so much work is lost by a crash: a checkpoint to resume from is written this often."""

    def write(self, folder: Path) -> None:
        (folder / "spec.json").write_text(self.model_dump_json(indent=2))

    @classmethod
    def read(cls, folder: Path) -> TrainSpec:
        return cls.model_validate_json((folder / "spec.json").read_text())
