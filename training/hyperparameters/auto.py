"""Every ``auto``: a rule that knows the model and the data, never a data set's name. Told in docs/hyperparameters.md.

No torch: the API asks here for the default way of updating.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil, log2
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from training.hyperparameters.learning_rates import rate_of
from training.spec import ClassWeights, DpoHyperparameters, Hyperparameters, Optimizer, Precision, Scheduler
from training.tasks import TASKS
from training.tasks.base import Family
from training.updates import AnyUpdate
from training.updates.full import FullUpdate
from training.updates.lora import LoraUpdate

SMALL_ENCODER = 200_000_000
"""Parameters below which a model that writes no text is trained whole by default."""
FEW_ROWS = 10
GENERAL_SHARE = 0.1


@dataclass(frozen=True)
class Facts:
    """What the rules know."""

    family: Family
    update: str
    """Key of ``UPDATES``."""
    method: str
    parameters: int
    width: int
    context: int
    """Longest sequence of the model, tokens."""
    rows: int
    """Of an epoch."""
    longest: int
    """Longest training row, tokens."""
    mean: float
    """Mean length of a training row, tokens."""
    separable: bool
    """Whether a batch may be split."""
    dtype: Precision
    """What the worker's device multiplies fastest."""
    part_tokens: int
    """Tokens in one part of a batch at which the device works best."""
    most_tokens: int
    """Tokens in one part of a batch, padding included, that the device has memory for."""
    general: bool
    """Whether there is a file of general rows."""


class Resolved(BaseModel):
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

    def told(self) -> dict[str, Any]:
        """What a job answers with."""
        return self.model_dump(exclude_none=True)


def default_update(task: str, parameters: int) -> AnyUpdate:
    """``lora`` for what writes text, ``full`` for an encoder under 200M parameters, else ``lora``."""
    small = TASKS[task].family not in ("generative", "seq2seq") and parameters < SMALL_ENCODER
    return FullUpdate() if small else LoraUpdate()


def resolve(asked: DpoHyperparameters, facts: Facts) -> Resolved:
    """What is not ``auto`` stays; each rule may look at what those before it chose."""
    values: dict[str, Any] = {}
    for name, rule in RULES.items():
        value = getattr(asked, name)
        values[name] = rule(facts, values) if value == "auto" else value
        if name == "max_steps":
            values = _agree(asked, facts, values)
    rate = _rate(facts, values)
    if asked.learning_rate == "auto":
        values["learning_rate"] = rate * values["learning_rate_multiplier"]
    else:
        values["learning_rate_multiplier"] = values["learning_rate"] / rate
    return Resolved(**values)


def general_rows(asked: Hyperparameters, rows: int, pool: int) -> int:
    """General rows in an epoch beside ``rows`` others, of ``pool`` that there are."""
    share = GENERAL_SHARE if asked.general_share == "auto" else asked.general_share
    return min(pool, round(rows * share / (1 - share)))


def trust(rows: int) -> str | None:
    """What to say of a training file that is too small to be relied on."""
    if rows >= FEW_ROWS:
        return None
    return (
        f"The training file has {rows} rows. The model will repeat them rather than learn from them: measure it on "
        "rows of your own before you rely on it, and add rows; fifty good ones usually show a difference."
    )


def _agree(asked: Hyperparameters, facts: Facts, values: dict[str, Any]) -> dict[str, Any]:
    """``max_steps`` without ``n_epochs`` asks for as many epochs as it takes; together the smaller one ends the run."""
    per_epoch = _per_epoch(facts, values)
    epochs = values["n_epochs"]
    if asked.max_steps != "auto" and asked.n_epochs == "auto":
        epochs = min(ceil(values["max_steps"] / per_epoch), 50)
    return values | {"n_epochs": epochs, "max_steps": min(values["max_steps"], epochs * per_epoch)}


@dataclass(frozen=True)
class _Size:
    """Bounds of a batch, and into how many steps an epoch is cut between them."""

    least: int
    most: int
    steps: int


_SIZES: Mapping[Family, _Size] = {
    "generative": _Size(4, 16, 32),
    "seq2seq": _Size(8, 32, 16),
    "preference": _Size(4, 16, 32),
    "discriminative": _Size(8, 32, 16),
    "embedding": _Size(16, 64, 16),
    "vision": _Size(8, 32, 16),
}
_EPOCHS: Mapping[tuple[Family, str], int] = {
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


def _batch_size(facts: Facts, values: dict[str, Any]) -> int:
    """Large enough for a steady gradient, small enough that an epoch has some dozens of steps."""
    size = _SIZES[facts.family]
    power: int = 2 ** int(log2(max(1, facts.rows / size.steps)))
    return min(facts.rows, max(size.least, min(size.most, power)))


def _least_steps(facts: Facts) -> int:
    """A small model starts far from what it is asked and needs some hundred steps; a large one needs few."""
    millions = max(1.0, facts.parameters / 1e6)
    steps: int = round(200 * millions**-0.15)
    return steps


def _per_epoch(facts: Facts, values: dict[str, Any]) -> int:
    steps: int = ceil(facts.rows / values["batch_size"])
    return steps


def _n_epochs(facts: Facts, values: dict[str, Any]) -> int:
    usual = _EPOCHS[facts.family, facts.update]
    return max(usual, min(50, ceil(_least_steps(facts) / _per_epoch(facts, values))))


def _rate(facts: Facts, values: dict[str, Any]) -> float:
    return rate_of(facts.family, facts.update, facts.width, values["optimizer"])


def _accumulation(facts: Facts, values: dict[str, Any]) -> int:
    """As many parts as make each the size that the device likes, and no more than fit its memory."""
    if not facts.separable:
        return 1
    batch: int = values["batch_size"]
    longest, mean = (min(length, values["max_length"]) for length in (facts.longest, facts.mean))
    parts: int = min(batch, max(ceil(batch * mean / facts.part_tokens), ceil(batch * longest / facts.most_tokens)))
    return parts


def _max_steps(facts: Facts, values: dict[str, Any]) -> int:
    epochs: int = values["n_epochs"]
    return epochs * _per_epoch(facts, values)


def _save_every(facts: Facts, values: dict[str, Any]) -> int:
    """Each epoch's end; with more than ten epochs, ten checkpoints at epochs' ends."""
    epochs: int = values["n_epochs"]
    steps: int = _per_epoch(facts, values) * ceil(epochs / 10)
    return steps


Rule = Callable[[Facts, dict[str, Any]], Any]


def _constant(value: Any) -> Rule:
    return lambda facts, values: value


def _of_dpo(value: Any) -> Rule:
    return lambda facts, values: value if facts.method == "dpo" else None


RULES: dict[str, Rule] = {
    "batch_size": _batch_size,
    "n_epochs": _n_epochs,
    "learning_rate_multiplier": _constant(1.0),
    "optimizer": _constant("adamw"),
    "learning_rate": _rate,
    "lr_scheduler": _constant("linear"),
    "warmup_ratio": _constant(0.1),
    "weight_decay": lambda facts, values: 0.0 if facts.update == "lora" else 0.01,
    "max_grad_norm": _constant(1.0),
    "label_smoothing": _constant(0.0),
    "class_weights": _constant("none"),
    "neftune_alpha": _constant(0.0),
    "train_on_inputs": _constant(False),
    "max_length": lambda facts, values: facts.context,
    "gradient_accumulation_steps": _accumulation,
    "max_steps": _max_steps,
    "max_seconds": _constant(None),
    "eval_every": _per_epoch,
    "save_every": _save_every,
    "validation_share": _constant(0.0),
    "early_stopping_patience": _constant(0),
    "general_share": lambda facts, values: GENERAL_SHARE if facts.general else 0.0,
    "l2_to_base": _constant(0.0),
    "dtype": lambda facts, values: facts.dtype,
    "gradient_checkpointing": _constant(False),
    "beta": _of_dpo(0.1),
    "loss": _of_dpo("sigmoid"),
}
"""In the order in which they are chosen."""
