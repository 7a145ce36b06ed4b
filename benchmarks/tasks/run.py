"""One run: its rows are uploaded, a job trains, and the served model is asked about the rows that were kept."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from openai import OpenAI
from rich.console import Console

from benchmarks.bases import Entry
from examples.watch import sparkline, upload, watch

SHARED = Path(__file__).parent.parent.parent.parent / "shared"
SETS = SHARED / "data"
SEED = 1

Row = dict[str, Any]
Figures = Mapping[str, float]


@dataclass(frozen=True)
class Data:
    """Rows to train on, and rows that training never sees."""

    training: Sequence[Row]
    held_out: Sequence[Row]
    note: str = ""
    """What was done to the published data."""

    def few(self, rows: int) -> Data:
        """The first ones of each side, to try a run out."""
        return replace(self, training=self.training[:rows], held_out=self.held_out[:rows])


@dataclass(frozen=True)
class Trained:
    """A job that has succeeded."""

    client: OpenAI
    model: str
    """The name that answers."""
    metrics: Figures
    """The job's ``final_metrics``."""


def as_jsonl(rows: Sequence[Row], path: Path) -> Path:
    """The file written: ``path`` with the form's ending."""
    path = path.with_suffix(".jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Run:
    """What is trained on what, and what it must beat."""

    title: str
    base: str
    """Id of the base model."""
    task: str
    rows: Callable[[], Data]
    ask: Callable[[Trained, Data], Figures]
    """The figures, of the rows held out."""
    baselines: Callable[[Trained, Data], Mapping[str, Figures]]
    """Name -> the same figures, at least the decisive one, of something that needs no training."""
    decisive: str
    """The figure that must be better than every baseline's."""
    lower_is_better: bool = False
    update: Mapping[str, Any] | None = None
    """None: the default of the task."""
    method: str = "supervised"
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    """Sent instead of ``auto``: how long a run may take is the only reason here."""
    validates: bool = False
    """Whether the rows held out are the job's validation file, so that its own figures of them can be read."""
    make_base: Callable[[Path, Data], Entry] | None = None
    """Writes a base model that no list has into a directory."""
    pack: Callable[[Sequence[Row], Path], Path] = as_jsonl

    def beats(self, figure: Figures, baselines: Mapping[str, Figures]) -> bool:
        sign = -1 if self.lower_is_better else 1
        return all(sign * figure[self.decisive] > sign * other[self.decisive] for other in baselines.values())


def measure(client: OpenAI, run: Run, data: Data, scratch: Path, console: Console) -> dict[str, Any]:
    """The run's figures beside its baselines', with all it takes to read them. ``scratch``: a directory."""
    began = time.time()
    files = {"training_file": upload(client, run.pack(data.training, scratch / "training"))}
    if run.validates:
        files["validation_file"] = upload(client, run.pack(data.held_out, scratch / "held_out"))
    extra: dict[str, Any] = {"task": run.task} | ({"update": run.update} if run.update else {})
    method: Any = {"type": run.method, run.method: {"hyperparameters": dict(run.hyperparameters)}}
    posted = time.time()
    job = client.fine_tuning.jobs.create(
        model=run.base,
        seed=SEED,
        method=method,
        extra_body=extra,
        **files,  # type: ignore[arg-type]
    )
    seen = watch(client, job.id, console, posted)
    console.print(f"loss {sparkline(seen.losses)}  {seen.losses[0]:.3f} → {seen.losses[-1]:.3f}")
    ended: dict[str, Any] = client.fine_tuning.jobs.retrieve(job.id).to_dict()
    trained = Trained(client, seen.model, ended["final_metrics"])
    figure, baselines = run.ask(trained, data), run.baselines(trained, data)
    return {
        "title": run.title,
        "figure": _rounded(figure),
        "baseline": {name: _rounded(other) for name, other in baselines.items()},
        "decisive": run.decisive,
        "beats_baseline": run.beats(figure, baselines),
        "base": run.base,
        "task": run.task,
        "update": ended["update"],
        "rows": len(data.training),
        "held_out": len(data.held_out),
        "note": data.note,
        "seconds": round(time.time() - began, 1),
        "job_s": round(seen.seconds, 1),
        "trainable_parameters": ended["trainable_parameters"],
        "sent": dict(run.hyperparameters),
        "hyperparameters": ended["method"][run.method]["hyperparameters"],
        "final_metrics": _rounded(ended["final_metrics"]),
    }


def _rounded(figures: Figures) -> dict[str, float]:
    return {name: round(value, 4) for name, value in figures.items()}
