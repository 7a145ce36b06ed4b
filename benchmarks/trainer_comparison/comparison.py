"""One shape: base and rows made, TRL's best found, then all contestants in turn, round after round."""

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

from benchmarks.trainer_comparison import ours, subprocesses
from benchmarks.trainer_comparison.config import ADAPTER, Outcome, Terms, read_rows
from benchmarks.trainer_comparison.figures import OURS, TITLES, Season
from benchmarks.trainer_comparison.shapes import Shape
from benchmarks.trainer_comparison.trl_search import CHECKPOINTING, DTYPES, RUNS, Pilot, Settings, Tried, fastest

PILOT_BATCHES = 3

_sft = partial(subprocesses.theirs, "benchmarks.trainer_comparison.trl_sft")
RUNNERS: Mapping[str, Callable[[Terms], Outcome]] = {
    OURS: ours.run,
    "trl_default": _sft,
    "trl_best": _sft,
    "hf_trainer": partial(subprocesses.theirs, "benchmarks.trainer_comparison.hf_trainer"),
}
ADAPTERS: Mapping[str, str] = {name: "result" if name == OURS else ADAPTER for name in TITLES}
"""Where in a contestant's folder its adapter is."""


@dataclass(frozen=True)
class Data:
    """Where the published files are."""

    vocabulary: Path
    train: Path
    test: Path


class League:
    """Of one shape, in a folder of its own."""

    def __init__(self, name: str, shape: Shape, data: Data, folder: Path, threads: int) -> None:
        self._name = name
        self._shape = shape
        self._data = data
        self._folder = folder
        self._terms = Terms(
            base=folder / "base",
            rows=folder / "rows.jsonl",
            folder=folder,
            epochs=shape.epochs,
            threads=threads,
        )

    def play(self, bar: Progress, pilot: bool) -> tuple[Season, list[Tried]]:
        """``pilot``: search for TRL's best; else its defaults in float32 without checkpointing stand for it.

        Raises ``SystemExit`` where contestants trained on different tokens.
        """
        runs = self._shape.rounds * len(TITLES) + (RUNS if pilot else 0) + 3
        task = bar.add_task(f"{self._name}: base, rows", total=runs)
        counted = self._prepare()
        peak = self._child("peak", str(self._terms.threads))
        bar.advance(task)
        tried = self._pilot(counted["lengths"], bar, task) if pilot else []
        best = fastest(tried).settings if tried else DTYPES["fp32"] | CHECKPOINTING["kept"]
        rounds = self._rounds(best, bar, task)
        bar.update(task, description=f"{self._name}: judging")
        season = Season(
            shape=self._shape,
            rank=self._terms.rank,
            lengths=counted["lengths"],
            targets=counted["targets"],
            rounds=[self._with_targets(one, counted) for one in rounds],
            held_out=self._judge(len(rounds)),
            peak=peak,
        )
        bar.update(task, completed=runs)
        if season.faults():
            raise SystemExit("Contestants trained on different tokens:\n" + "\n".join(season.faults()))
        return season, tried

    def _prepare(self) -> dict[str, Any]:
        """Base and rows; how our task reads those."""
        self._folder.mkdir()
        self._child("base", self._name, str(self._data.vocabulary), str(self._terms.base))
        for source, name, count in (
            (self._data.train, self._terms.rows, self._shape.rows),
            (self._data.test, self._held_out, self._shape.held_out),
        ):
            name.write_text("".join(json.dumps(row) + "\n" for row in read_rows(source, count)))
        read = self._terms.model_copy(update={"folder": self._folder / "count"})
        ours.write_folder(read)
        counted: dict[str, Any] = self._child("count", str(read.folder))
        return counted

    @property
    def _held_out(self) -> Path:
        return self._folder / "held_out.jsonl"

    def _child(self, module: str, *arguments: str) -> Any:
        log = self._folder / f"{module}.log"
        ended = subprocesses.run(
            f"benchmarks.trainer_comparison.{module}", *arguments, threads=self._terms.threads, log=log
        )
        return ended.told if ended.lines else None

    def _pilot(self, lengths: list[int], bar: Progress, task: TaskID) -> list[Tried]:
        count = PILOT_BATCHES * self._terms.batch_size
        rows = self._folder / "pilot.jsonl"
        rows.write_text("".join(json.dumps(row) + "\n" for row in read_rows(self._terms.rows, count)))
        (self._folder / "pilot").mkdir()
        terms = self._terms.model_copy(update={"rows": rows, "folder": self._folder / "pilot"})
        tried = []
        bar.update(task, description=f"{self._name}: TRL's settings")
        for one in Pilot(terms, lengths[:count], _sft).search():
            tried.append(one)
            bar.advance(task)
        bar.console.print(pilot_table(tried, f"{self._name}: the pilot of TRL's settings"))
        return tried

    def _rounds(self, best: Settings, bar: Progress, task: TaskID) -> list[dict[str, Outcome]]:
        """As many as there are to be, or as fit in the shape's minutes."""
        began, rounds = time.monotonic(), [self._round(0, best, bar, task)]
        while len(rounds) < self._shape.rounds:
            spent = time.monotonic() - began
            if spent * (1 + 1 / len(rounds)) > 60 * self._shape.minutes:
                break
            rounds.append(self._round(len(rounds), best, bar, task))
        return rounds

    def _round(self, number: int, best: Settings, bar: Progress, task: TaskID) -> dict[str, Outcome]:
        """Each has a seed of its own, and begins with the next contestant: none always runs on a cool machine."""
        names = list(TITLES)
        start = number % len(names)
        outcomes = {}
        for name in names[start:] + names[:start]:
            bar.update(task, description=f"{self._name}: round {number + 1}/{self._shape.rounds}, {TITLES[name]}")
            settings = best if name == "trl_best" else {}
            changes = {"folder": self._place(number, name), "settings": settings, "seed": number}
            outcomes[name] = RUNNERS[name](self._terms.model_copy(update=changes))
            bar.advance(task)
        return outcomes

    def _place(self, number: int, name: str) -> Path:
        return self._folder / f"round{number}" / name

    def _judge(self, rounds: int) -> dict[str, float]:
        """Mean over the rounds: a short run's loss depends on its seed more than on who trains."""
        adapters = [str(self._place(number, name) / ADAPTERS[name]) for name in TITLES for number in range(rounds)]
        losses = self._child("held_out_loss", str(self._terms.base), str(self._held_out), *adapters)
        return {name: fmean(losses[at * rounds : (at + 1) * rounds]) for at, name in enumerate(TITLES)}

    def _with_targets(self, one: dict[str, Outcome], counted: dict[str, Any]) -> dict[str, Outcome]:
        """Our child's lines tell tokens; its task counts the targets among them."""
        targets = counted["targets"] * self._shape.epochs
        return one | {OURS: one[OURS].model_copy(update={"targets": targets})}


def pilot_table(tried: list[Tried], title: str) -> Table:
    table = Table("dtype", "activations", "rows", "tokens/s", "peak GB", "", title=title)
    best = fastest(tried)
    for one in tried:
        row = one.row
        note = "fastest" if one is best else "" if row["whole"] else "given up after a step"
        cells = (f"{row['tokens_per_second']:,.0f}", f"{row['peak_gb']:.2f}", note)
        table.add_row(one.dtype, one.activations, one.layout, *cells)
    return table
