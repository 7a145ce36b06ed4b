"""Rules for ``auto`` hyperparameters that depend on model and data, never on a dataset's name.

docs/hyperparameters.md describes them. No torch, because the API chooses the default update here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil, log2
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from training.hyperparameters.learning_rates import compute_peak_rate
from training.spec import Auto, ClassWeights, DpoHyperparameters, Hyperparameters, Optimizer, Precision, Scheduler
from training.tasks import TASKS
from training.tasks.base import Family
from training.updates import AnyUpdate
from training.updates.full import FullUpdate
from training.updates.lora import LoraUpdate

SMALL_ENCODER_PARAMETERS = 200_000_000
"""Parameters below which a model that generates no text is fully fine-tuned by default."""
MIN_RELIABLE_ROWS = 10
DEFAULT_GENERAL_SHARE = 0.1


@dataclass(frozen=True)
class AutoInputs:
    """Inputs of the rules."""

    family: Family
    update: str
    """Key of ``UPDATES``."""
    method: str
    parameters: int
    width: int
    context_length: int
    """Maximum sequence length of the model, tokens."""
    rows: int
    """Rows of an epoch, general rows included."""
    splittable: bool
    """True if a batch may be split into micro-batches."""
    has_general_file: bool


class PlannedHyperparameters(BaseModel):
    """``Hyperparameters`` after validation; None if one does not apply.

    Only those of ``training.spec.DEVICE_HYPERPARAMETERS`` may be ``auto``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float
    learning_rate: float
    lr_scheduler: Scheduler
    warmup_ratio: float
    optimizer: Optimizer
    weight_decay: float
    max_grad_norm: float
    label_smoothing: float
    class_weights: ClassWeights
    neftune_alpha: float
    train_on_inputs: bool
    train_on_reasoning: bool | None = None
    gradient_accumulation_steps: Auto | int
    max_length: int
    max_steps: int
    max_seconds: int | None = None
    eval_every: int
    save_every: int
    validation_share: float
    early_stopping_patience: int
    general_share: float
    l2_to_base: float
    dtype: Auto | Precision
    gradient_checkpointing: Auto | bool
    beta: float | None = None
    loss: Literal["sigmoid", "ipo"] | None = None

    def public(self) -> dict[str, Any]:
        """Return the hyperparameters as a job shows them: without those that do not apply."""
        return self.model_dump(exclude_none=True)


class ResolvedHyperparameters(PlannedHyperparameters):
    """Hyperparameters of a run: the device that trains has resolved the last ``auto``."""

    gradient_accumulation_steps: int
    dtype: Precision
    gradient_checkpointing: bool


def choose_default_update(task: str, parameters: int) -> AnyUpdate:
    """Choose ``full`` for a model under 200M parameters that generates no text, else ``lora``."""
    small = TASKS[task].family not in ("generative", "seq2seq") and parameters < SMALL_ENCODER_PARAMETERS
    return FullUpdate() if small else LoraUpdate()


def resolve(requested: DpoHyperparameters, inputs: AutoInputs) -> PlannedHyperparameters:
    """Replace every ``auto`` that model and data decide. A rule may read the values of the rules
    before it.

    The worker that trains resolves the rest: see ``training.hyperparameters.device_fit``.
    """
    values: dict[str, Any] = {}
    for name, rule in RULES.items():
        value = getattr(requested, name)
        values[name] = rule(inputs, values) if value == "auto" else value
        if name == "max_steps":
            values = _reconcile_steps_and_epochs(requested, inputs, values)
    rate = _resolve_learning_rate(inputs, values)
    if requested.learning_rate == "auto":
        values["learning_rate"] = rate * values["learning_rate_multiplier"]
    else:
        values["learning_rate_multiplier"] = values["learning_rate"] / rate
    return PlannedHyperparameters(**values)


def count_general_rows(requested: Hyperparameters, rows: int, available: int) -> int:
    """Return how many of the ``available`` general rows to mix into an epoch of ``rows`` rows."""
    share = DEFAULT_GENERAL_SHARE if requested.general_share == "auto" else requested.general_share
    return min(available, round(rows * share / (1 - share)))


def warn_if_too_few_rows(rows: int) -> str | None:
    """Return a warning if the training file is too small for a reliable model, else None."""
    if rows >= MIN_RELIABLE_ROWS:
        return None
    return (
        f"The training file has {rows} rows. The model will repeat them rather than learn from them. Evaluate it on "
        "other rows before you rely on it, and add rows: fifty good rows usually make a difference."
    )


def _reconcile_steps_and_epochs(
    requested: Hyperparameters, inputs: AutoInputs, values: dict[str, Any]
) -> dict[str, Any]:
    """Make ``max_steps`` and ``n_epochs`` consistent.

    ``max_steps`` without ``n_epochs`` sets the epochs to as many as it needs. With both, the
    smaller ends the run.
    """
    per_epoch = _count_steps_per_epoch(inputs, values)
    epochs = values["n_epochs"]
    if requested.max_steps != "auto" and requested.n_epochs == "auto":
        epochs = min(ceil(values["max_steps"] / per_epoch), 50)
    return values | {"n_epochs": epochs, "max_steps": min(values["max_steps"], epochs * per_epoch)}


@dataclass(frozen=True)
class _BatchSizeRange:
    """Bounds of the batch size, and the number of steps per epoch to aim for between them."""

    min_size: int
    max_size: int
    steps_per_epoch: int


_BATCH_SIZES: Mapping[Family, _BatchSizeRange] = {
    "generative": _BatchSizeRange(4, 16, 32),
    "seq2seq": _BatchSizeRange(8, 32, 16),
    "preference": _BatchSizeRange(4, 16, 32),
    "discriminative": _BatchSizeRange(8, 32, 16),
    "embedding": _BatchSizeRange(16, 64, 16),
    "vision": _BatchSizeRange(8, 32, 16),
}
_DEFAULT_EPOCHS: Mapping[tuple[Family, str], int] = {
    ("generative", "lora"): 3,
    ("generative", "full"): 3,
    ("generative", "layers"): 3,
    ("seq2seq", "lora"): 5,
    ("seq2seq", "full"): 5,
    ("seq2seq", "layers"): 5,
    ("preference", "lora"): 2,
    ("preference", "full"): 1,
    ("preference", "layers"): 1,
    ("discriminative", "lora"): 10,
    ("discriminative", "full"): 7,
    ("discriminative", "head"): 20,
    ("discriminative", "layers"): 10,
    ("embedding", "lora"): 4,
    ("embedding", "full"): 2,
    ("embedding", "layers"): 3,
    ("vision", "lora"): 10,
    ("vision", "full"): 10,
    ("vision", "head"): 20,
    ("vision", "layers"): 10,
}
"""(family, update) -> epochs for a file that is not small."""


def _resolve_batch_size(inputs: AutoInputs, values: dict[str, Any]) -> int:
    """Choose a power of two that allows a stable gradient and dozens of steps per epoch."""
    limits = _BATCH_SIZES[inputs.family]
    power: int = 2 ** int(log2(max(1, inputs.rows / limits.steps_per_epoch)))
    return min(inputs.rows, max(limits.min_size, min(limits.max_size, power)))


def _compute_min_steps(inputs: AutoInputs) -> int:
    """Return the minimum number of steps: hundreds for a small model, few for a large one.

    A small model needs more steps to learn the task.
    """
    millions = max(1.0, inputs.parameters / 1e6)
    steps: int = round(200 * millions**-0.15)
    return steps


def _count_steps_per_epoch(inputs: AutoInputs, values: dict[str, Any]) -> int:
    steps: int = ceil(inputs.rows / values["batch_size"])
    return steps


def _resolve_n_epochs(inputs: AutoInputs, values: dict[str, Any]) -> int:
    default = _DEFAULT_EPOCHS[inputs.family, inputs.update]
    return max(default, min(50, ceil(_compute_min_steps(inputs) / _count_steps_per_epoch(inputs, values))))


def _resolve_learning_rate(inputs: AutoInputs, values: dict[str, Any]) -> float:
    return compute_peak_rate(inputs.family, inputs.update, inputs.width, values["optimizer"])


def _resolve_max_steps(inputs: AutoInputs, values: dict[str, Any]) -> int:
    epochs: int = values["n_epochs"]
    return epochs * _count_steps_per_epoch(inputs, values)


def _resolve_save_every(inputs: AutoInputs, values: dict[str, Any]) -> int:
    """Save at the end of each epoch; with more than ten epochs, at ten epoch ends at most."""
    epochs: int = values["n_epochs"]
    steps: int = _count_steps_per_epoch(inputs, values) * ceil(epochs / 10)
    return steps


Rule = Callable[[AutoInputs, dict[str, Any]], Any]


def _build_constant_rule(value: Any) -> Rule:
    return lambda inputs, values: value


def _build_dpo_rule(value: Any) -> Rule:
    return lambda inputs, values: value if inputs.method == "dpo" else None


RULES: dict[str, Rule] = {
    "batch_size": _resolve_batch_size,
    "n_epochs": _resolve_n_epochs,
    "learning_rate_multiplier": _build_constant_rule(1.0),
    "optimizer": _build_constant_rule("adamw"),
    "learning_rate": _resolve_learning_rate,
    "lr_scheduler": _build_constant_rule("linear"),
    "warmup_ratio": _build_constant_rule(0.1),
    "weight_decay": lambda inputs, values: 0.0 if inputs.update == "lora" else 0.01,
    "max_grad_norm": _build_constant_rule(1.0),
    "label_smoothing": _build_constant_rule(0.0),
    "class_weights": _build_constant_rule("none"),
    "neftune_alpha": _build_constant_rule(0.0),
    "train_on_inputs": _build_constant_rule(False),
    "train_on_reasoning": lambda inputs, values: True if inputs.family in ("generative", "preference") else None,
    "max_length": lambda inputs, values: inputs.context_length,
    "gradient_accumulation_steps": lambda inputs, values: "auto" if inputs.splittable else 1,
    "max_steps": _resolve_max_steps,
    "max_seconds": _build_constant_rule(None),
    "eval_every": _count_steps_per_epoch,
    "save_every": _resolve_save_every,
    "validation_share": _build_constant_rule(0.0),
    "early_stopping_patience": _build_constant_rule(0),
    "general_share": lambda inputs, values: DEFAULT_GENERAL_SHARE if inputs.has_general_file else 0.0,
    "l2_to_base": _build_constant_rule(0.0),
    "dtype": _build_constant_rule("auto"),
    "gradient_checkpointing": _build_constant_rule("auto"),
    "beta": _build_dpo_rule(0.1),
    "loss": _build_dpo_rule("sigmoid"),
}
"""Hyperparameter -> rule, in the order of resolution."""
