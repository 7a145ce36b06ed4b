"""Default learning rates by task family, update, model width and optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from training.tasks.base import Family


@dataclass(frozen=True)
class WidthScaledRate:
    """Learning rate ``base`` at ``width``, scaled by width to the power ``-exponent`` within
    ``min`` and ``max``."""

    base: float
    width: int
    exponent: float
    min: float
    max: float

    def scale_to(self, width: int) -> float:
        return float(max(self.min, min(self.max, self.base * (self.width / width) ** self.exponent)))


PEAK_RATES: Mapping[tuple[Family, str], WidthScaledRate] = {
    ("generative", "lora"): WidthScaledRate(base=1.7e-4, width=2048, exponent=0.85, min=5e-5, max=5e-3),
    ("generative", "full"): WidthScaledRate(base=2e-5, width=1024, exponent=1.4, min=1e-5, max=1e-3),
    ("generative", "layers"): WidthScaledRate(base=4e-5, width=1024, exponent=1.4, min=1e-5, max=1e-3),
    ("seq2seq", "lora"): WidthScaledRate(base=1e-3, width=512, exponent=0.85, min=1e-4, max=5e-3),
    ("seq2seq", "full"): WidthScaledRate(base=3e-4, width=512, exponent=1.0, min=2e-5, max=2e-3),
    ("seq2seq", "layers"): WidthScaledRate(base=5e-4, width=512, exponent=1.0, min=2e-5, max=2e-3),
    ("preference", "lora"): WidthScaledRate(base=2e-5, width=2048, exponent=0.85, min=5e-6, max=5e-4),
    ("preference", "full"): WidthScaledRate(base=1e-6, width=1024, exponent=1.4, min=5e-7, max=1e-4),
    ("preference", "layers"): WidthScaledRate(base=2e-6, width=1024, exponent=1.4, min=5e-7, max=1e-4),
    ("discriminative", "lora"): WidthScaledRate(base=5e-4, width=768, exponent=1.0, min=5e-5, max=5e-3),
    ("discriminative", "full"): WidthScaledRate(base=2.5e-4, width=384, exponent=2.3, min=1e-5, max=1e-3),
    ("discriminative", "head"): WidthScaledRate(base=5e-3, width=384, exponent=1.0, min=5e-4, max=2e-2),
    ("discriminative", "layers"): WidthScaledRate(base=5e-4, width=384, exponent=1.5, min=2e-5, max=2e-3),
    ("embedding", "lora"): WidthScaledRate(base=2e-4, width=768, exponent=1.0, min=5e-5, max=2e-3),
    ("embedding", "full"): WidthScaledRate(base=5e-5, width=384, exponent=1.0, min=1e-5, max=2e-4),
    ("embedding", "layers"): WidthScaledRate(base=1e-4, width=384, exponent=1.0, min=1e-5, max=4e-4),
    ("vision", "lora"): WidthScaledRate(base=5e-4, width=768, exponent=1.0, min=5e-5, max=5e-3),
    ("vision", "full"): WidthScaledRate(base=1e-4, width=768, exponent=1.0, min=2e-5, max=2e-3),
    ("vision", "head"): WidthScaledRate(base=3e-3, width=768, exponent=1.0, min=5e-4, max=2e-2),
    ("vision", "layers"): WidthScaledRate(base=2e-4, width=768, exponent=1.0, min=2e-5, max=2e-3),
}
"""(family, update) -> peak rate for AdamW. Wider models need smaller rates."""

OPTIMIZER_FACTORS: Mapping[str, float] = {"adamw": 1.0, "adamw8bit": 1.0, "sgd": 30.0, "adafactor": 30.0}
"""Optimizer -> factor of AdamW's rate. SGD's steps scale with the gradient, Adafactor's with the
weights, whose root mean square is often near 1/30."""


def compute_peak_rate(family: Family, update: str, width: int, optimizer: str) -> float:
    """Return the peak rate, rounded to three significant digits."""
    return float(f"{PEAK_RATES[family, update].scale_to(width) * OPTIMIZER_FACTORS[optimizer]:.3g}")
