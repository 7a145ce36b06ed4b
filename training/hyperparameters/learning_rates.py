"""The learning rate that a rule chooses: by kind of task, way of updating, width of the model and optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from training.tasks.base import Family


@dataclass(frozen=True)
class Rate:
    """``at`` for a model ``width`` wide; falls with width to the power ``fall``, within bounds."""

    at: float
    width: int
    fall: float
    least: float
    most: float

    def of(self, width: int) -> float:
        return float(max(self.least, min(self.most, self.at * (self.width / width) ** self.fall)))


RATES: Mapping[tuple[Family, str], Rate] = {
    ("generative", "lora"): Rate(at=1.7e-4, width=2048, fall=0.85, least=5e-5, most=5e-3),
    ("generative", "full"): Rate(at=2e-5, width=1024, fall=1.4, least=1e-5, most=1e-3),
    ("generative", "layers"): Rate(at=4e-5, width=1024, fall=1.4, least=1e-5, most=1e-3),
    ("seq2seq", "lora"): Rate(at=1e-3, width=512, fall=0.85, least=1e-4, most=5e-3),
    ("seq2seq", "full"): Rate(at=3e-4, width=512, fall=1.0, least=2e-5, most=2e-3),
    ("seq2seq", "layers"): Rate(at=5e-4, width=512, fall=1.0, least=2e-5, most=2e-3),
    ("preference", "lora"): Rate(at=2e-5, width=2048, fall=0.85, least=5e-6, most=5e-4),
    ("preference", "full"): Rate(at=1e-6, width=1024, fall=1.4, least=5e-7, most=1e-4),
    ("preference", "layers"): Rate(at=2e-6, width=1024, fall=1.4, least=5e-7, most=1e-4),
    ("discriminative", "lora"): Rate(at=5e-4, width=768, fall=1.0, least=5e-5, most=5e-3),
    ("discriminative", "full"): Rate(at=2.5e-4, width=384, fall=2.3, least=1e-5, most=1e-3),
    ("discriminative", "head"): Rate(at=5e-3, width=384, fall=1.0, least=5e-4, most=2e-2),
    ("discriminative", "layers"): Rate(at=5e-4, width=384, fall=1.5, least=2e-5, most=2e-3),
    ("embedding", "lora"): Rate(at=2e-4, width=768, fall=1.0, least=5e-5, most=2e-3),
    ("embedding", "full"): Rate(at=5e-5, width=384, fall=1.0, least=1e-5, most=2e-4),
    ("embedding", "layers"): Rate(at=1e-4, width=384, fall=1.0, least=1e-5, most=4e-4),
    ("vision", "lora"): Rate(at=5e-4, width=768, fall=1.0, least=5e-5, most=5e-3),
    ("vision", "full"): Rate(at=1e-4, width=768, fall=1.0, least=2e-5, most=2e-3),
    ("vision", "head"): Rate(at=3e-3, width=768, fall=1.0, least=5e-4, most=2e-2),
    ("vision", "layers"): Rate(at=2e-4, width=768, fall=1.0, least=2e-5, most=2e-3),
}
"""(family, update) -> peak rate of AdamW: wider models want smaller ones."""

FACTORS: Mapping[str, float] = {"adamw": 1.0, "sgd": 30.0, "adafactor": 30.0}
"""Optimizer -> how its rate relates to AdamW's. SGD's steps scale with the gradient, Adafactor's with the weights,
whose root mean square is often near 1/30."""


def rate_of(family: Family, update: str, width: int, optimizer: str) -> float:
    """Three significant digits."""
    return float(f"{RATES[family, update].of(width) * FACTORS[optimizer]:.3g}")
