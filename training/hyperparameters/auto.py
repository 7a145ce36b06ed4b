"""Every ``auto``: a rule that knows the model and the data, never a data set's name. Told in docs/hyperparameters.md.

No torch: the API asks here for the default way of updating.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil, log2
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from training.hyperparameters.learning_rates import compute_peak_rate
from training.spec import ClassWeights, DpoHyperparameters, Hyperparameters, Optimizer, Precision, Scheduler
from training.tasks import TASKS
from training.tasks.base import Family
from training.updates import AnyUpdate
from training.updates.full import FullUpdate
from training.updates.lora import LoraUpdate

SMALL_ENCODER_PARAMETERS = 200_000_000
"""Parameters below which a model that writes no text is trained whole by default."""
MIN_RELIABLE_ROWS = 10
DEFAULT_GENERAL_SHARE = 0.1


@dataclass(frozen=True)
class AutoInputs:
    """What the rules know."""

    family: Family
    update: str
    """Key of ``UPDATES``."""
    method: str
    parameters: int
    width: int
    context_length: int
    """Longest sequence of the model, tokens."""
    rows: int
    """Of an epoch."""
    longest_row_tokens: int
    """Longest training row, tokens."""
    mean_row_tokens: float
    """Mean length of a training row, tokens."""
    splittable: bool
    """Whether a batch may be split."""
    dtype: Precision
    """What the worker's device multiplies fastest."""
    micro_batch_tokens: int
    """Tokens in one part of a batch at which the device works best."""
    max_micro_batch_tokens: int
    """Tokens in one part of a batch, padding included, that the device has memory for."""
    has_general_file: bool
    """Whether there is a file of general rows."""


class ResolvedHyperparameters(BaseModel):
    """``Hyperparameters`` with a value for every ``auto``; None where it does not apply."""

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
    gradient_accumulation_steps: int
    max_length: int
    max_steps: int
    max_seconds: int | None = None
    eval_every: int
    save_every: int
    validation_share: float
    early_stopping_patience: int
    general_share: float
    l2_to_base: float
    dtype: Precision
    gradient_checkpointing: bool
    beta: float | None = None
    loss: Literal["sigmoid", "ipo"] | None = None

    def public(self) -> dict[str, Any]:
        """What a job answers with."""
        return self.model_dump(exclude_none=True)


def choose_default_update(task: str, parameters: int) -> AnyUpdate:
    """``lora`` for what writes text, ``full`` for an encoder under 200M parameters, else ``lora``."""
    small = TASKS[task].family not in ("generative", "seq2seq") and parameters < SMALL_ENCODER_PARAMETERS
    return FullUpdate() if small else LoraUpdate()


def resolve(requested: DpoHyperparameters, inputs: AutoInputs) -> ResolvedHyperparameters:
    """What is not ``auto`` stays; each rule may look at what those before it chose."""
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
    return ResolvedHyperparameters(**values)


def count_general_rows(requested: Hyperparameters, rows: int, available: int) -> int:
    """General rows in an epoch beside ``rows`` others, of ``pool`` that there are."""
    share = DEFAULT_GENERAL_SHARE if requested.general_share == "auto" else requested.general_share
    return min(available, round(rows * share / (1 - share)))


def warn_if_too_few_rows(rows: int) -> str | None:
    """What to say of a training file that is too small to be relied on."""
    if rows >= MIN_RELIABLE_ROWS:
        return None
    return (
        f"The training file has {rows} rows. The model will repeat them rather than learn from them: measure it on "
        "rows of your own before you rely on it, and add rows; fifty good ones usually show a difference."
    )


def _reconcile_steps_and_epochs(
    requested: Hyperparameters, inputs: AutoInputs, values: dict[str, Any]
) -> dict[str, Any]:
    """``max_steps`` without ``n_epochs`` asks for as many epochs as it takes; together the smaller one ends the run."""
    per_epoch = _count_steps_per_epoch(inputs, values)
    epochs = values["n_epochs"]
    if requested.max_steps != "auto" and requested.n_epochs == "auto":
        epochs = min(ceil(values["max_steps"] / per_epoch), 50)
    return values | {"n_epochs": epochs, "max_steps": min(values["max_steps"], epochs * per_epoch)}


@dataclass(frozen=True)
class _BatchSizeRange:
    """Bounds of a batch, and into how many steps an epoch is cut between them."""

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
"""(family, update) -> passes over a file that is not small."""


def _resolve_batch_size(inputs: AutoInputs, values: dict[str, Any]) -> int:
    """Large enough for a steady gradient, small enough that an epoch has some dozens of steps."""
    size = _BATCH_SIZES[inputs.family]
    power: int = 2 ** int(log2(max(1, inputs.rows / size.steps_per_epoch)))
    return min(inputs.rows, max(size.min_size, min(size.max_size, power)))


def _compute_min_steps(inputs: AutoInputs) -> int:
    """A small model starts far from what it is asked and needs some hundred steps; a large one needs few."""
    millions = max(1.0, inputs.parameters / 1e6)
    steps: int = round(200 * millions**-0.15)
    return steps


def _count_steps_per_epoch(inputs: AutoInputs, values: dict[str, Any]) -> int:
    steps: int = ceil(inputs.rows / values["batch_size"])
    return steps


def _resolve_n_epochs(inputs: AutoInputs, values: dict[str, Any]) -> int:
    usual = _DEFAULT_EPOCHS[inputs.family, inputs.update]
    return max(usual, min(50, ceil(_compute_min_steps(inputs) / _count_steps_per_epoch(inputs, values))))


def _resolve_learning_rate(inputs: AutoInputs, values: dict[str, Any]) -> float:
    return compute_peak_rate(inputs.family, inputs.update, inputs.width, values["optimizer"])


def _resolve_accumulation_steps(inputs: AutoInputs, values: dict[str, Any]) -> int:
    """As many parts as make each the size that the device likes, and no more than fit its memory."""
    if not inputs.splittable:
        return 1
    batch: int = values["batch_size"]
    longest, mean = (
        min(length, values["max_length"]) for length in (inputs.longest_row_tokens, inputs.mean_row_tokens)
    )
    parts: int = min(
        batch,
        max(ceil(batch * mean / inputs.micro_batch_tokens), ceil(batch * longest / inputs.max_micro_batch_tokens)),
    )
    return parts


def _resolve_max_steps(inputs: AutoInputs, values: dict[str, Any]) -> int:
    epochs: int = values["n_epochs"]
    return epochs * _count_steps_per_epoch(inputs, values)


def _resolve_save_every(inputs: AutoInputs, values: dict[str, Any]) -> int:
    """Each epoch's end; with more than ten epochs, ten checkpoints at epochs' ends."""
    epochs: int = values["n_epochs"]
    steps: int = _count_steps_per_epoch(inputs, values) * ceil(epochs / 10)
    return steps


Rule = Callable[[AutoInputs, dict[str, Any]], Any]


def _build_constant_rule(value: Any) -> Rule:
    return lambda facts, values: value


def _build_dpo_rule(value: Any) -> Rule:
    return lambda facts, values: value if facts.method == "dpo" else None


RULES: dict[str, Rule] = {
    "batch_size": _resolve_batch_size,
    "n_epochs": _resolve_n_epochs,
    "learning_rate_multiplier": _build_constant_rule(1.0),
    "optimizer": _build_constant_rule("adamw"),
    "learning_rate": _resolve_learning_rate,
    "lr_scheduler": _build_constant_rule("linear"),
    "warmup_ratio": _build_constant_rule(0.1),
    "weight_decay": lambda facts, values: 0.0 if facts.update == "lora" else 0.01,
    "max_grad_norm": _build_constant_rule(1.0),
    "label_smoothing": _build_constant_rule(0.0),
    "class_weights": _build_constant_rule("none"),
    "neftune_alpha": _build_constant_rule(0.0),
    "train_on_inputs": _build_constant_rule(False),
    "max_length": lambda facts, values: facts.context_length,
    "gradient_accumulation_steps": _resolve_accumulation_steps,
    "max_steps": _resolve_max_steps,
    "max_seconds": _build_constant_rule(None),
    "eval_every": _count_steps_per_epoch,
    "save_every": _resolve_save_every,
    "validation_share": _build_constant_rule(0.0),
    "early_stopping_patience": _build_constant_rule(0),
    "general_share": lambda facts, values: DEFAULT_GENERAL_SHARE if facts.has_general_file else 0.0,
    "l2_to_base": _build_constant_rule(0.0),
    "dtype": lambda facts, values: facts.dtype,
    "gradient_checkpointing": _build_constant_rule(False),
    "beta": _build_dpo_rule(0.1),
    "loss": _build_dpo_rule("sigmoid"),
}
"""In the order in which they are chosen."""
