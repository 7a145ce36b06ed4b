"""Every ``auto``: a rule that knows the model and the data, never a data set's name. Told in docs/hyperparameters.md.

No torch: the API asks here for the default way of updating.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log2
from typing import Any

from pydantic import BaseModel, ConfigDict

from training.spec import Hyperparameters, Scheduler
from training.tasks import TASKS
from training.updates.full import FullUpdate
from training.updates.lora import LoraUpdate

SMALL_ENCODER = 200_000_000
"""Parameters below which an encoder is trained whole by default."""
FEW_ROWS = 10
MICRO_BATCH_TOKENS = 16_384
"""A batch of more tokens than this, padding included, is split."""


@dataclass(frozen=True)
class Facts:
    """What the rules know."""

    generative: bool
    update: str
    """Key of ``UPDATES``."""
    parameters: int
    width: int
    context: int
    """Longest sequence of the model, tokens."""
    rows: int
    longest: int
    """Longest training row, tokens."""


class Resolved(BaseModel):
    """``Hyperparameters`` with a number for every ``auto``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float
    learning_rate: float
    lr_scheduler: Scheduler
    warmup_ratio: float
    weight_decay: float
    max_grad_norm: float
    label_smoothing: float
    gradient_accumulation_steps: int
    max_length: int
    max_steps: int
    eval_every: int
    save_every: int

    def steps_per_epoch(self, rows: int) -> int:
        return ceil(rows / self.batch_size)


def default_update(task: str, parameters: int) -> LoraUpdate | FullUpdate:
    """``lora`` for what writes text, ``full`` for an encoder under 200M parameters, else ``lora``."""
    small = not TASKS[task].generative and parameters < SMALL_ENCODER
    return FullUpdate() if small else LoraUpdate()


def resolve(asked: Hyperparameters, facts: Facts) -> Resolved:
    """What is not ``auto`` stays; each rule may look at what those before it chose."""
    values: dict[str, Any] = {}
    for name, rule in RULES.items():
        value = getattr(asked, name)
        values[name] = rule(facts, values) if value == "auto" else value
        if name == "max_steps":
            values = _agree(asked, facts, values)
    rate = _rate(facts)
    if asked.learning_rate == "auto":
        values["learning_rate"] = rate * values["learning_rate_multiplier"]
    else:
        values["learning_rate_multiplier"] = values["learning_rate"] / rate
    return Resolved(**values)


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


def _batch_size(facts: Facts, values: dict[str, Any]) -> int:
    """Large enough for a steady gradient, small enough that an epoch has some dozens of steps."""
    least, most, steps = (4, 16, 32) if facts.generative else (8, 32, 16)
    power: int = 2 ** int(log2(max(1, facts.rows / steps)))
    size: int = min(facts.rows, max(least, min(most, power)))
    return size


def _least_steps(facts: Facts) -> int:
    """A small model starts far from what it is asked and needs some hundred steps; a large one needs few."""
    millions = max(1.0, facts.parameters / 1e6)
    steps: int = round(200 * millions**-0.15)
    return steps


def _per_epoch(facts: Facts, values: dict[str, Any]) -> int:
    steps: int = ceil(facts.rows / values["batch_size"])
    return steps


def _n_epochs(facts: Facts, values: dict[str, Any]) -> int:
    usual = 3 if facts.generative else 7 if facts.update == "full" else 10
    return max(usual, min(50, ceil(_least_steps(facts) / _per_epoch(facts, values))))


@dataclass(frozen=True)
class _Rate:
    """``at`` for a model ``width`` wide; falls with width to the power ``fall``, within bounds."""

    at: float
    width: int
    fall: float
    least: float
    most: float

    def of(self, width: int) -> float:
        return float(f"{max(self.least, min(self.most, self.at * (self.width / width) ** self.fall)):.3g}")


_RATES = {
    (True, "lora"): _Rate(at=1.7e-4, width=2048, fall=0.85, least=5e-5, most=5e-3),
    (True, "full"): _Rate(at=2e-5, width=1024, fall=1.4, least=1e-5, most=1e-3),
    (False, "lora"): _Rate(at=5e-4, width=768, fall=1.0, least=5e-5, most=5e-3),
    (False, "full"): _Rate(at=2.5e-4, width=384, fall=2.3, least=1e-5, most=1e-3),
}
"""(generative, update) -> peak rate: wider models want smaller ones."""


def _rate(facts: Facts) -> float:
    return _RATES[facts.generative, facts.update].of(facts.width)


def _weight_decay(facts: Facts, values: dict[str, Any]) -> float:
    return 0.0 if facts.update == "lora" else 0.01


def _accumulation(facts: Facts, values: dict[str, Any]) -> int:
    batch: int = values["batch_size"]
    longest: int = min(facts.longest, values["max_length"])
    return min(batch, ceil(batch * longest / MICRO_BATCH_TOKENS))


def _max_steps(facts: Facts, values: dict[str, Any]) -> int:
    epochs: int = values["n_epochs"]
    return epochs * _per_epoch(facts, values)


def _save_every(facts: Facts, values: dict[str, Any]) -> int:
    """Each epoch's end; with more than ten epochs, ten checkpoints at epochs' ends."""
    epochs: int = values["n_epochs"]
    steps: int = _per_epoch(facts, values) * ceil(epochs / 10)
    return steps


def _constant(value: Any) -> Callable[[Facts, dict[str, Any]], Any]:
    return lambda facts, values: value


RULES: dict[str, Callable[[Facts, dict[str, Any]], Any]] = {
    "batch_size": _batch_size,
    "n_epochs": _n_epochs,
    "learning_rate_multiplier": _constant(1.0),
    "learning_rate": lambda facts, values: _rate(facts),
    "lr_scheduler": _constant("linear"),
    "warmup_ratio": _constant(0.1),
    "weight_decay": _weight_decay,
    "max_grad_norm": _constant(1.0),
    "label_smoothing": _constant(0.0),
    "max_length": lambda facts, values: facts.context,
    "gradient_accumulation_steps": _accumulation,
    "max_steps": _max_steps,
    "eval_every": _per_epoch,
    "save_every": _save_every,
}
"""In the order in which they are chosen."""
