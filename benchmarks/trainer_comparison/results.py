"""Result of a comparison: metrics and table of a shape's rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.table import Table

from benchmarks.trainer_comparison.config import Outcome
from benchmarks.trainer_comparison.shapes import ModelShape

LUTHIER = "ours"
TRAINER_TITLES: Mapping[str, str] = {
    LUTHIER: "Luthier",
    "trl_default": "TRL SFTTrainer, defaults",
    "trl_best": "TRL SFTTrainer, fastest settings",
    "hf_trainer": "HF Trainer + PEFT",
}
"""Name of each trainer in results -> title."""


@dataclass(frozen=True)
class ComparisonResult:
    """Measurements of one shape."""

    shape: ModelShape
    rank: int
    lengths: list[int]
    """Tokens of each training row."""
    targets: int
    """Target tokens of one epoch."""
    rounds: Sequence[Mapping[str, Outcome]]
    """Outcome of each trainer by name, one mapping per round."""
    held_out_loss: Mapping[str, float]
    """Mean loss of each trainer's adapters on held-out rows, in nats per token."""
    peak_flops: Mapping[str, float]
    """Peak FLOP/s of the machine, by dtype."""

    def median_speed(self, name: str) -> float:
        """Return the median tokens per second."""
        return median(outcomes[name].tokens_per_second for outcomes in self.rounds)

    def median_peak_bytes(self, name: str) -> float:
        return median(outcomes[name].peak_bytes for outcomes in self.rounds)

    def median_final_loss(self, name: str) -> float:
        return median(outcomes[name].final_loss for outcomes in self.rounds)

    def find_mismatches(self) -> list[str]:
        """Describe every run that trained on other tokens or targets than expected."""
        expected = (sum(self.lengths) * self.shape.epochs, self.targets * self.shape.epochs)
        return [
            f"round {number}, {name}: {outcome.all_tokens} tokens and {outcome.targets} targets, "
            f"not {expected[0]} and {expected[1]}"
            for number, outcomes in enumerate(self.rounds, 1)
            for name, outcome in outcomes.items()
            if (outcome.all_tokens, outcome.targets) != expected
        ]

    @property
    def matmul_peak_share(self) -> float:
        """Luthier's useful FLOP/s divided by the machine's peak FLOP/s in the dtype that Luthier
        used.
        """
        per_token = self.shape.count_flops(self.lengths, self.targets, self.rank) / sum(self.lengths)
        dtype = self.rounds[0][LUTHIER].settings["dtype"]
        return per_token * self.median_speed(LUTHIER) / self.peak_flops[dtype]

    def summarize(self) -> dict[str, Any]:
        speed = self.median_speed(LUTHIER)
        best_other = min(loss for name, loss in self.held_out_loss.items() if name != LUTHIER)
        return {
            **{f"vs_{name}": round(speed / self.median_speed(name), 3) for name in TRAINER_TITLES if name != LUTHIER},
            "memory_vs_trl": round(self.median_peak_bytes(LUTHIER) / self.median_peak_bytes("trl_default"), 3),
            "loss_gap": round((self.held_out_loss[LUTHIER] - best_other) / best_other, 6),
            "matmul_peak_share": round(self.matmul_peak_share, 3),
            "targets": self.rounds[0][LUTHIER].targets,
            "trl_best_settings": self.rounds[0]["trl_best"].settings,
        }

    def to_details(self) -> dict[str, Any]:
        """Return the measurements of every round."""
        return {
            "rows": len(self.lengths),
            "rounds": len(self.rounds),
            "tokens_of_an_epoch": sum(self.lengths),
            "targets_of_an_epoch": self.targets,
            "peak_flops": dict(self.peak_flops),
            "held_out_loss": dict(self.held_out_loss),
            "contestants": {name: self._summarize_trainer(name) for name in TRAINER_TITLES},
        }

    def _summarize_trainer(self, name: str) -> dict[str, Any]:
        runs = [outcomes[name] for outcomes in self.rounds]
        return {
            "settings": runs[0].settings,
            "tokens_per_second": [round(run.tokens_per_second, 1) for run in runs],
            "seconds": [round(run.seconds, 2) for run in runs],
            "first_step_s": [round(run.first_step_seconds, 2) for run in runs],
            "peak_gb": [round(run.peak_bytes / 1e9, 3) for run in runs],
            "losses": [[round(loss, 5) for loss in run.losses] for run in runs],
        }

    def build_table(self, caption: str) -> Table:
        table = Table(
            "trainer", "tokens/s", "Luthier's speedup", "peak GB", "training loss", "held-out loss", title=caption
        )
        for name, title in TRAINER_TITLES.items():
            table.add_row(
                title,
                f"{self.median_speed(name):,.0f}",
                f"{self.median_speed(LUTHIER) / self.median_speed(name):.2f}×",
                f"{self.median_peak_bytes(name) / 1e9:.2f}",
                f"{self.median_final_loss(name):.4f}",
                f"{self.held_out_loss[name]:.4f}",
            )
        return table
