"""Comparison of all trainers on one shape.

It prepares base and rows, searches for TRL's fastest settings, and runs all trainers in rounds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.progress import Progress, TaskID
from rich.table import Table

from benchmarks.trainer_comparison import subprocesses
from benchmarks.trainer_comparison.config import ADAPTER_FOLDER, Outcome, TrainerConfig, read_rows
from benchmarks.trainer_comparison.results import LUTHIER, TRAINER_TITLES, ComparisonResult
from benchmarks.trainer_comparison.shapes import ModelShape
from benchmarks.trainer_comparison.trainers import luthier_trainer
from benchmarks.trainer_comparison.trl_search import (
    CHECKPOINTING,
    DTYPES,
    TRIAL_COUNT,
    Settings,
    SettingsSearch,
    Trial,
    find_fastest,
)

SEARCH_BATCHES = 3

_run_sft = partial(subprocesses.run_trainer, "benchmarks.trainer_comparison.trainers.trl_sft")
RUNNERS: Mapping[str, Callable[[TrainerConfig], Outcome]] = {
    LUTHIER: luthier_trainer.run,
    "trl_default": _run_sft,
    "trl_best": _run_sft,
    "hf_trainer": partial(subprocesses.run_trainer, "benchmarks.trainer_comparison.trainers.hf_trainer"),
}
ADAPTER_FOLDERS: Mapping[str, str] = {name: "result" if name == LUTHIER else ADAPTER_FOLDER for name in TRAINER_TITLES}
"""Folder of the adapter within each trainer's folder."""


@dataclass(frozen=True)
class DataPaths:
    """Paths of the published files."""

    vocabulary: Path
    train: Path
    test: Path


class TrainerComparison:
    """Comparison of one shape in its own folder."""

    def __init__(self, name: str, shape: ModelShape, data: DataPaths, folder: Path, threads: int) -> None:
        self._name = name
        self._shape = shape
        self._data = data
        self._folder = folder
        self._config = TrainerConfig(
            base=folder / "base",
            rows=folder / "rows.jsonl",
            folder=folder,
            epochs=shape.epochs,
            threads=threads,
        )

    def run(self, bar: Progress, search_trl: bool) -> tuple[ComparisonResult, list[Trial]]:
        """Run the comparison.

        ``search_trl`` searches for TRL's fastest settings. Without it, TRL's defaults in float32
        without gradient checkpointing count as its best. Raises ``SystemExit`` if trainers trained
        on different tokens.
        """
        runs = self._shape.rounds * len(TRAINER_TITLES) + (TRIAL_COUNT if search_trl else 0) + 3
        task = bar.add_task(f"{self._name}: base, rows", total=runs)
        token_counts = self._prepare()
        peak = self._run_module("peak", str(self._config.threads))
        bar.advance(task)
        trials = self._search_trl_settings(token_counts["lengths"], bar, task) if search_trl else []
        best = find_fastest(trials).settings if trials else DTYPES["fp32"] | CHECKPOINTING["kept"]
        rounds = self._run_rounds(best, bar, task)
        bar.update(task, description=f"{self._name}: held-out loss")
        result = ComparisonResult(
            shape=self._shape,
            rank=self._config.rank,
            lengths=token_counts["lengths"],
            targets=token_counts["targets"],
            rounds=[self._add_targets(outcomes, token_counts) for outcomes in rounds],
            held_out_loss=self._measure_held_out_loss(len(rounds)),
            peak_flops=peak,
        )
        bar.update(task, completed=runs)
        if result.find_mismatches():
            raise SystemExit("The trainers used different tokens:\n" + "\n".join(result.find_mismatches()))
        return result, trials

    def _prepare(self) -> dict[str, Any]:
        """Write base and rows.

        Return the token counts of the rows as Luthier's task encodes them.
        """
        self._folder.mkdir()
        self._run_module("base", self._name, str(self._data.vocabulary), str(self._config.base))
        for source, path, count in (
            (self._data.train, self._config.rows, self._shape.rows),
            (self._data.test, self._held_out, self._shape.held_out_rows),
        ):
            path.write_text("".join(json.dumps(row) + "\n" for row in read_rows(source, count)))
        config = self._config.model_copy(update={"folder": self._folder / "count"})
        luthier_trainer.write_run_folder(config)
        token_counts: dict[str, Any] = self._run_module("token_counts", str(config.folder))
        return token_counts

    @property
    def _held_out(self) -> Path:
        return self._folder / "held_out.jsonl"

    def _run_module(self, module: str, *arguments: str) -> Any:
        log = self._folder / f"{module}.log"
        result = subprocesses.run(
            f"benchmarks.trainer_comparison.{module}", *arguments, threads=self._config.threads, log=log
        )
        return result.json_output if result.lines else None

    def _search_trl_settings(self, lengths: list[int], bar: Progress, task: TaskID) -> list[Trial]:
        count = SEARCH_BATCHES * self._config.batch_size
        rows = self._folder / "search.jsonl"
        rows.write_text("".join(json.dumps(row) + "\n" for row in read_rows(self._config.rows, count)))
        (self._folder / "search").mkdir()
        config = self._config.model_copy(update={"rows": rows, "folder": self._folder / "search"})
        trials = []
        bar.update(task, description=f"{self._name}: TRL's settings")
        for trial in SettingsSearch(config, lengths[:count], _run_sft).search():
            trials.append(trial)
            bar.advance(task)
        bar.console.print(build_search_table(trials, f"{self._name}: search for TRL's settings"))
        return trials

    def _run_rounds(self, trl_settings: Settings, bar: Progress, task: TaskID) -> list[dict[str, Outcome]]:
        """Run the shape's rounds, or as many as fit in its minutes."""
        began, rounds = time.monotonic(), [self._run_round(0, trl_settings, bar, task)]
        while len(rounds) < self._shape.rounds:
            spent = time.monotonic() - began
            if spent * (1 + 1 / len(rounds)) > 60 * self._shape.minutes:
                break
            rounds.append(self._run_round(len(rounds), trl_settings, bar, task))
        return rounds

    def _run_round(self, number: int, trl_settings: Settings, bar: Progress, task: TaskID) -> dict[str, Outcome]:
        """Run every trainer once.

        Each round has its own seed and starts with the next trainer, so that no trainer always runs
        on a cool machine.
        """
        names = list(TRAINER_TITLES)
        start = number % len(names)
        outcomes = {}
        for name in names[start:] + names[:start]:
            bar.update(
                task, description=f"{self._name}: round {number + 1}/{self._shape.rounds}, {TRAINER_TITLES[name]}"
            )
            settings = trl_settings if name == "trl_best" else {}
            changes = {"folder": self._build_round_path(number, name), "settings": settings, "seed": number}
            outcomes[name] = RUNNERS[name](self._config.model_copy(update=changes))
            bar.advance(task)
        return outcomes

    def _build_round_path(self, number: int, name: str) -> Path:
        return self._folder / f"round{number}" / name

    def _measure_held_out_loss(self, rounds: int) -> dict[str, float]:
        """Return each trainer's mean loss over the rounds.

        The loss of a short run depends more on its seed than on the trainer.
        """
        adapters = [
            str(self._build_round_path(number, name) / ADAPTER_FOLDERS[name])
            for name in TRAINER_TITLES
            for number in range(rounds)
        ]
        losses = self._run_module("held_out_loss", str(self._config.base), str(self._held_out), *adapters)
        return {name: fmean(losses[index * rounds : (index + 1) * rounds]) for index, name in enumerate(TRAINER_TITLES)}

    def _add_targets(self, outcomes: dict[str, Outcome], token_counts: dict[str, Any]) -> dict[str, Outcome]:
        """Add Luthier's targets. Its run events report tokens only; its task counts the targets."""
        targets = token_counts["targets"] * self._shape.epochs
        return outcomes | {LUTHIER: outcomes[LUTHIER].model_copy(update={"targets": targets})}


def build_search_table(trials: list[Trial], title: str) -> Table:
    table = Table("dtype", "activations", "rows", "tokens/s", "peak GB", "", title=title)
    best = find_fastest(trials)
    for trial in trials:
        row = trial.summary
        note = "fastest" if trial is best else "" if row["whole"] else "stopped after one step"
        cells = (f"{row['tokens_per_second']:,.0f}", f"{row['peak_gb']:.2f}", note)
        table.add_row(trial.dtype, trial.activations, trial.layout, *cells)
    return table
