"""Result of a comparison: metrics and tables of a shape's runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.table import Table

from benchmarks.trainer_comparison.config import Outcome
from benchmarks.trainer_comparison.peer_settings import HF_TRAINER, TRL
from benchmarks.trainer_comparison.settings_search import Trial, find_fastest
from benchmarks.trainer_comparison.shapes import ModelShape

LUTHIER, TRL_DEFAULT = "ours", "trl_default"
PEERS = (TRL, HF_TRAINER)
"""Trainers whose fastest settings are searched."""
TRAINER_TITLES: Mapping[str, str] = {
    LUTHIER: "Luthier",
    TRL_DEFAULT: "TRL SFTTrainer, defaults",
    TRL: "TRL SFTTrainer, fastest settings",
    HF_TRAINER: "HF Trainer + PEFT, fastest settings",
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
    runs: Mapping[str, Sequence[Outcome]]
    """Outcomes of each trainer by name: one per round, and a single one of TRL's defaults."""
    pilots: Mapping[str, Sequence[Trial]]
    """Trials of each peer's settings, none without a search."""
    held_out_loss: Mapping[str, float]
    """Mean loss of each trainer's adapters on held-out rows, in nats per token."""
    peak_flops: Mapping[str, float]
    """Peak FLOP/s of the machine, by dtype."""

    def median_speed(self, name: str) -> float:
        """Return the median tokens per second."""
        return median(outcome.tokens_per_second for outcome in self.runs[name])

    def median_peak_bytes(self, name: str) -> float:
        return median(outcome.peak_bytes for outcome in self.runs[name])

    def median_final_loss(self, name: str) -> float:
        return median(outcome.final_loss for outcome in self.runs[name])

    @property
    def best_peer(self) -> str:
        """Name of the faster of the two tuned peers, by median."""
        return max(PEERS, key=self.median_speed)

    def find_mismatches(self) -> list[str]:
        """Describe every run that trained on other tokens or targets than expected."""
        expected = (sum(self.lengths) * self.shape.epochs, self.targets * self.shape.epochs)
        return [
            f"round {number}, {name}: {outcome.all_tokens} tokens and {outcome.targets} targets, "
            f"not {expected[0]} and {expected[1]}"
            for name, outcomes in self.runs.items()
            for number, outcome in enumerate(outcomes, 1)
            if (outcome.all_tokens, outcome.targets) != expected
        ]

    @property
    def peak_share(self) -> float:
        """Luthier's useful FLOP/s divided by the machine's peak FLOP/s in the dtype that Luthier
        used.
        """
        per_token = self.shape.count_flops(self.lengths, self.targets, self.rank) / sum(self.lengths)
        dtype = self.runs[LUTHIER][0].settings["dtype"]
        return per_token * self.median_speed(LUTHIER) / self.peak_flops[dtype]

    def summarize(self) -> dict[str, Any]:
        best_other = min(loss for name, loss in self.held_out_loss.items() if name != LUTHIER)
        share = round(self.peak_share, 3)
        return {
            **{f"vs_{name}": self._compare_speed(name) for name in TRAINER_TITLES if name != LUTHIER},
            "memory_vs_trl": self._compare_memory(TRL_DEFAULT),
            "loss_gap": round((self.held_out_loss[LUTHIER] - best_other) / best_other, 6),
            "matmul_peak_share": share,
            "targets": self.runs[LUTHIER][0].targets,
            "trl_best_settings": self.runs[TRL][0].settings,
            "vs_best_peer": self._compare_speed(self.best_peer),
            "best_peer_settings": {"trainer": self.best_peer, **self.runs[self.best_peer][0].settings},
            "memory_vs_best_peer": self._compare_memory(self.best_peer),
            "peak_share": share,
        }

    def _compare_speed(self, name: str) -> float:
        return round(self.median_speed(LUTHIER) / self.median_speed(name), 3)

    def _compare_memory(self, name: str) -> float:
        return round(self.median_peak_bytes(LUTHIER) / self.median_peak_bytes(name), 3)

    def to_details(self) -> dict[str, Any]:
        """Return the measurements of every run."""
        return {
            "rows": len(self.lengths),
            "rounds": len(self.runs[LUTHIER]),
            "real_weights": self.shape.is_smollm2,
            "tokens_of_an_epoch": sum(self.lengths),
            "targets_of_an_epoch": self.targets,
            "peak_flops": dict(self.peak_flops),
            "held_out_loss": dict(self.held_out_loss),
            "contestants": {name: self._summarize_trainer(name) for name in TRAINER_TITLES},
            "pilots": {name: [trial.summary for trial in trials] for name, trials in self.pilots.items()},
        }

    def _summarize_trainer(self, name: str) -> dict[str, Any]:
        runs = self.runs[name]
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


def build_pilot_table(trials: Sequence[Trial], title: str) -> Table:
    table = Table("stage", "option", "tokens/s", "peak GB", "", title=title)
    best = find_fastest(trials)
    for trial in trials:
        row = trial.summary
        failed = "failed" if trial.outcome is None else "stopped after one step"
        note = "fastest" if trial is best else "" if trial.is_complete else failed
        table.add_row(trial.stage, trial.option, f"{row['tokens_per_second']:,.0f}", f"{row['peak_gb'] or 0:.2f}", note)
    return table
