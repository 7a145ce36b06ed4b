"""Comparison of all trainers on one shape.

It prepares base and rows, searches for the fastest settings of TRL and HF ``Trainer``, runs TRL's
defaults once, and runs Luthier and the tuned peers in rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from rich.progress import Progress, TaskID

from benchmarks.trainer_comparison import pilot_cache, subprocesses
from benchmarks.trainer_comparison.config import (
    ADAPTER_FOLDER,
    Outcome,
    TrainerConfig,
    TrainerSettings,
    read_rows,
    write_rows,
)
from benchmarks.trainer_comparison.peer_settings import HF_TRAINER, TRL, PeerRows, build_stages, build_start
from benchmarks.trainer_comparison.results import (
    LUTHIER,
    PEERS,
    TRAINER_TITLES,
    TRL_DEFAULT,
    ComparisonResult,
    build_pilot_table,
)
from benchmarks.trainer_comparison.settings_search import TRIAL_STEPS, SettingsSearch, Trial, find_fastest
from benchmarks.trainer_comparison.shapes import ModelShape
from benchmarks.trainer_comparison.trainers import luthier_trainer

PilotMode = Literal["cached", "fresh", "none"]
"""Reuse the trials of an earlier search if there are any, search again, or use the settings that
the search would start from."""

_run_sft = partial(subprocesses.run_trainer, "benchmarks.trainer_comparison.trainers.trl_sft")
RUNNERS: Mapping[str, Callable[[TrainerConfig], Outcome]] = {
    LUTHIER: luthier_trainer.run,
    TRL_DEFAULT: _run_sft,
    TRL: _run_sft,
    HF_TRAINER: partial(subprocesses.run_trainer, "benchmarks.trainer_comparison.trainers.hf_trainer"),
}
ROUND_TRAINERS = (LUTHIER, TRL, HF_TRAINER)
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

    def __init__(
        self, name: str, shape: ModelShape, data: DataPaths, folder: Path, threads: int, bar: Progress
    ) -> None:
        self._name = name
        self._shape = shape
        self._data = data
        self._folder = folder
        self._bar = bar
        self._config = TrainerConfig(
            base=folder / "base",
            rows=folder / "rows.jsonl",
            folder=folder,
            epochs=shape.epochs,
            threads=threads,
        )

    def run(self, pilot: PilotMode) -> ComparisonResult:
        """Run the comparison. Raises ``SystemExit`` if trainers trained on different tokens."""
        # Base, TRL's defaults, the rounds and the held-out loss.
        task = self._bar.add_task(f"{self._name}: base, rows", total=3 + self._shape.rounds * len(ROUND_TRAINERS))
        token_counts = self._prepare()
        peaks = [self._measure_peak()]
        self._bar.advance(task)
        pilots = {peer: self._find_trials(peer, token_counts["lengths"], pilot) for peer in PEERS}
        settings = {peer: find_fastest(trials).settings if trials else self._start for peer, trials in pilots.items()}
        runs = self._run_all(settings, task)
        peaks.append(self._measure_peak())
        self._bar.update(task, description=f"{self._name}: held-out loss")
        result = ComparisonResult(
            shape=self._shape,
            rank=self._config.rank,
            lengths=token_counts["lengths"],
            targets=token_counts["targets"],
            runs=self._add_targets(runs, token_counts),
            pilots=pilots,
            held_out_loss=self._measure_held_out_loss(),
            # The rounds take minutes, and the speed of a virtual machine varies.
            peak_flops={dtype: max(peak[dtype] for peak in peaks) for dtype in peaks[0]},
        )
        self._bar.advance(task)
        if result.find_mismatches():
            raise SystemExit("The trainers used different tokens:\n" + "\n".join(result.find_mismatches()))
        return result

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
            write_rows(path, read_rows(source, count, self._shape.max_row_chars))
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

    def _measure_peak(self) -> dict[str, float]:
        peak: dict[str, float] = self._run_module("peak", str(self._config.threads))
        return peak

    def _find_trials(self, peer: str, lengths: list[int], pilot: PilotMode) -> list[Trial]:
        """Return the trials of an earlier search, or search; an empty list without a pilot."""
        if pilot == "none":
            return []
        key = pilot_cache.build_key(peer, self._shape, self._config.threads, self._start)
        cached = pilot_cache.load_trials(key) if pilot == "cached" else None
        trials = cached or list(self._search(peer, lengths))
        if not cached:
            pilot_cache.store_trials(key, trials)
        origin = "from an earlier run" if cached else "new"
        title = f"{self._name}: search for the settings of {TRAINER_TITLES[peer]} ({origin})"
        self._bar.console.print(build_pilot_table(trials, title))
        return trials

    @property
    def _start(self) -> TrainerSettings:
        return build_start(has_bf16=bool(pilot_cache.detect_bf16_flags()))

    def _search(self, peer: str, lengths: list[int]) -> Iterator[Trial]:
        folder = self._folder / f"search_{peer}"
        folder.mkdir()
        count = TRIAL_STEPS * self._config.batch_size
        config = self._config.model_copy(update={"rows": folder / "rows.jsonl", "folder": folder})
        write_rows(config.rows, read_rows(self._config.rows, count))
        rows = PeerRows(lengths[:count], config.batch_size)
        has_bf16 = bool(pilot_cache.detect_bf16_flags())
        stages = build_stages(peer, self._shape.stages, rows, has_bf16)
        task = self._bar.add_task(f"{self._name}: settings of {TRAINER_TITLES[peer]}", total=None)
        for trial in SettingsSearch(config, self._start, stages, RUNNERS[peer]).search():
            self._bar.advance(task)
            yield trial
        self._bar.remove_task(task)

    def _run_all(self, settings: Mapping[str, TrainerSettings], task: TaskID) -> dict[str, list[Outcome]]:
        """Run TRL's defaults once, and the others in rounds. Return the outcomes by trainer."""
        runs: dict[str, list[Outcome]] = {name: [] for name in TRAINER_TITLES}
        runs[TRL_DEFAULT].append(self._run_once(TRL_DEFAULT, 0, TrainerSettings(), task))
        began, limit = time.monotonic(), 60 * self._shape.minutes
        for number in range(self._shape.rounds):
            # No trainer always runs on a cool machine.
            start = number % len(ROUND_TRAINERS)
            for name in ROUND_TRAINERS[start:] + ROUND_TRAINERS[:start]:
                runs[name].append(self._run_once(name, number, settings.get(name, TrainerSettings()), task))
            expected = (time.monotonic() - began) / (number + 1) * self._shape.rounds
            if number == 0 and expected > limit:
                self._bar.console.print(
                    f"{self._name}: {self._shape.rounds} rounds will take {expected / 60:.0f} minutes, more than the "
                    f"{self._shape.minutes} planned. All of them run."
                )
        return runs

    def _run_once(self, name: str, number: int, settings: TrainerSettings, task: TaskID) -> Outcome:
        """Run a trainer. Each round has its own seed."""
        description = f"{self._name}: round {number + 1}/{self._shape.rounds}, {TRAINER_TITLES[name]}"
        self._bar.update(task, description=description)
        changes = {"folder": self._build_round_path(number, name), "settings": settings, "seed": number}
        outcome = RUNNERS[name](self._config.model_copy(update=changes))
        self._bar.advance(task)
        return outcome

    def _build_round_path(self, number: int, name: str) -> Path:
        return self._folder / f"round{number}" / name

    def _measure_held_out_loss(self) -> dict[str, float]:
        """Return each trainer's mean loss over its runs.

        The loss of a short run depends more on its seed than on the trainer.
        """
        paths = {name: sorted(self._folder.glob(f"round*/{name}/{folder}")) for name, folder in ADAPTER_FOLDERS.items()}
        adapters = [str(path) for name in TRAINER_TITLES for path in paths[name]]
        losses = iter(self._run_module("held_out_loss", str(self._config.base), str(self._held_out), *adapters))
        return {name: fmean(next(losses) for _ in paths[name]) for name in TRAINER_TITLES}

    def _add_targets(
        self, runs: Mapping[str, list[Outcome]], token_counts: Mapping[str, Any]
    ) -> dict[str, list[Outcome]]:
        """Add Luthier's targets. Its run events report tokens only; its task counts the targets."""
        targets = token_counts["targets"] * self._shape.epochs
        counted = [outcome.model_copy(update={"targets": targets}) for outcome in runs[LUTHIER]]
        return {**runs, LUTHIER: counted}
