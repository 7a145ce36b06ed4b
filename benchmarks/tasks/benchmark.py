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

from benchmarks.bases import RegistryEntry
from examples.watch import format_sparkline, upload, watch

SHARED = Path(__file__).parent.parent.parent.parent / "shared"
DATASETS = SHARED / "data"
SEED = 1

Row = dict[str, Any]
Metrics = Mapping[str, float]


@dataclass(frozen=True)
class DataSplits:
    """Rows to train on, and rows that training never sees."""

    training: Sequence[Row]
    held_out: Sequence[Row]
    note: str = ""
    """What was done to the published data."""

    def take(self, count: int) -> DataSplits:
        """The first ones of each side, to try a run out."""
        return replace(self, training=self.training[:count], held_out=self.held_out[:count])


@dataclass(frozen=True)
class TrainedModel:
    """A job that has succeeded."""

    client: OpenAI
    model: str
    """The name that answers."""
    metrics: Metrics
    """The job's ``final_metrics``."""


def write_jsonl(rows: Sequence[Row], path: Path) -> Path:
    """The file written: ``path`` with the form's ending."""
    path = path.with_suffix(".jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@dataclass(frozen=True)
class TaskBenchmark:
    """What is trained on what, and what it must beat."""

    title: str
    base: str
    """Id of the base model."""
    task: str
    load_data: Callable[[], DataSplits]
    evaluate: Callable[[TrainedModel, DataSplits], Metrics]
    """The figures, of the rows held out."""
    evaluate_baselines: Callable[[TrainedModel, DataSplits], Mapping[str, Metrics]]
    """Name -> the same figures, at least the decisive one, of something that needs no training."""
    primary_metric: str
    """The figure that must be better than every baseline's."""
    lower_is_better: bool = False
    update: Mapping[str, Any] | None = None
    """None: the default of the task."""
    method: str = "supervised"
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    """Sent instead of ``auto``: how long a run may take is the only reason here."""
    uses_validation_file: bool = False
    """Whether the rows held out are the job's validation file, so that its own figures of them can be read."""
    create_base: Callable[[Path, DataSplits], RegistryEntry] | None = None
    """Writes a base model that no list has into a directory."""
    write_rows: Callable[[Sequence[Row], Path], Path] = write_jsonl

    def beats_baselines(self, metrics: Metrics, baselines: Mapping[str, Metrics]) -> bool:
        sign = -1 if self.lower_is_better else 1
        return all(
            sign * metrics[self.primary_metric] > sign * other[self.primary_metric] for other in baselines.values()
        )


def measure(
    client: OpenAI, benchmark: TaskBenchmark, data: DataSplits, scratch: Path, console: Console
) -> dict[str, Any]:
    """The run's figures beside its baselines', with all it takes to read them. ``scratch``: a directory."""
    began = time.time()
    files = {"training_file": upload(client, benchmark.write_rows(data.training, scratch / "training"))}
    if benchmark.uses_validation_file:
        files["validation_file"] = upload(client, benchmark.write_rows(data.held_out, scratch / "held_out"))
    extra: dict[str, Any] = {"task": benchmark.task} | ({"update": benchmark.update} if benchmark.update else {})
    method: Any = {"type": benchmark.method, benchmark.method: {"hyperparameters": dict(benchmark.hyperparameters)}}
    posted = time.time()
    job = client.fine_tuning.jobs.create(
        model=benchmark.base,
        seed=SEED,
        method=method,
        extra_body=extra,
        **files,  # type: ignore[arg-type]
    )
    seen = watch(client, job.id, console, posted)
    console.print(f"loss {format_sparkline(seen.losses)}  {seen.losses[0]:.3f} → {seen.losses[-1]:.3f}")
    ended: dict[str, Any] = client.fine_tuning.jobs.retrieve(job.id).to_dict()
    trained = TrainedModel(client, seen.model, ended["final_metrics"])
    figure, baselines = benchmark.evaluate(trained, data), benchmark.evaluate_baselines(trained, data)
    return {
        "title": benchmark.title,
        "figure": _round_metrics(figure),
        "baseline": {name: _round_metrics(other) for name, other in baselines.items()},
        "decisive": benchmark.primary_metric,
        "beats_baseline": benchmark.beats_baselines(figure, baselines),
        "base": benchmark.base,
        "task": benchmark.task,
        "update": ended["update"],
        "rows": len(data.training),
        "held_out": len(data.held_out),
        "note": data.note,
        "seconds": round(time.time() - began, 1),
        "job_s": round(seen.seconds, 1),
        "trainable_parameters": ended["trainable_parameters"],
        "sent": dict(benchmark.hyperparameters),
        "hyperparameters": ended["method"][benchmark.method]["hyperparameters"],
        "final_metrics": _round_metrics(ended["final_metrics"]),
    }


def _round_metrics(metrics: Metrics) -> dict[str, float]:
    return {name: round(value, 4) for name, value in metrics.items()}
