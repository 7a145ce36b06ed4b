"""Task benchmark: upload rows, train a job, and evaluate the served model on held-out rows."""

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
    """Description of how the published data was selected."""

    def take(self, count: int) -> DataSplits:
        """Return the first ``count`` rows of each split, for a trial."""
        return replace(self, training=self.training[:count], held_out=self.held_out[:count])


@dataclass(frozen=True)
class TrainedModel:
    """Model of a job that has succeeded."""

    client: OpenAI
    model: str
    """Model name for requests."""
    metrics: Metrics
    """The job's ``final_metrics``."""


def write_jsonl(rows: Sequence[Row], path: Path) -> Path:
    """Write the rows and return the file's path: ``path`` with the suffix of the format."""
    path = path.with_suffix(".jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@dataclass(frozen=True)
class TaskBenchmark:
    """Benchmark of one task: model, data, and the baselines to beat."""

    title: str
    base: str
    """Id of the base model."""
    task: str
    load_data: Callable[[], DataSplits]
    evaluate: Callable[[TrainedModel, DataSplits], Metrics]
    """Compute the metrics on the held-out rows."""
    evaluate_baselines: Callable[[TrainedModel, DataSplits], Mapping[str, Metrics]]
    """Return metrics by baseline name, at least the primary one. A baseline needs no training."""
    primary_metric: str
    """Metric that must be better than that of every baseline."""
    lower_is_better: bool = False
    update: Mapping[str, Any] | None = None
    """None selects the default of the task."""
    method: str = "supervised"
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    """Values sent instead of ``auto``, only to limit how long a run takes."""
    uses_validation_file: bool = False
    """True sends the held-out rows as the validation file, so that the job reports metrics on them.
    """
    create_base: Callable[[Path, DataSplits], RegistryEntry] | None = None
    """Function that writes an unlisted base model into a directory."""
    write_rows: Callable[[Sequence[Row], Path], Path] = write_jsonl

    def beats_baselines(self, metrics: Metrics, baselines: Mapping[str, Metrics]) -> bool:
        sign = -1 if self.lower_is_better else 1
        return all(
            sign * metrics[self.primary_metric] > sign * baseline[self.primary_metric]
            for baseline in baselines.values()
        )


def measure(
    client: OpenAI, benchmark: TaskBenchmark, data: DataSplits, scratch: Path, console: Console
) -> dict[str, Any]:
    """Run a benchmark and return its metrics, its baselines, and the context to interpret them.

    ``scratch`` is a directory for temporary files.
    """
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
    summary = watch(client, job.id, console, posted)
    console.print(f"loss {format_sparkline(summary.losses)}  {summary.losses[0]:.3f} → {summary.losses[-1]:.3f}")
    job_fields: dict[str, Any] = client.fine_tuning.jobs.retrieve(job.id).to_dict()
    trained = TrainedModel(client, summary.model, job_fields["final_metrics"])
    metrics, baselines = benchmark.evaluate(trained, data), benchmark.evaluate_baselines(trained, data)
    return {
        "title": benchmark.title,
        "figure": _round_metrics(metrics),
        "baseline": {name: _round_metrics(baseline) for name, baseline in baselines.items()},
        "decisive": benchmark.primary_metric,
        "beats_baseline": benchmark.beats_baselines(metrics, baselines),
        "base": benchmark.base,
        "task": benchmark.task,
        "update": job_fields["update"],
        "rows": len(data.training),
        "held_out": len(data.held_out),
        "note": data.note,
        "seconds": round(time.time() - began, 1),
        "job_s": round(summary.seconds, 1),
        "trainable_parameters": job_fields["trainable_parameters"],
        "sent": dict(benchmark.hyperparameters),
        "hyperparameters": job_fields["method"][benchmark.method]["hyperparameters"],
        "final_metrics": _round_metrics(job_fields["final_metrics"]),
    }


def _round_metrics(metrics: Metrics) -> dict[str, float]:
    return {name: round(value, 4) for name, value in metrics.items()}
