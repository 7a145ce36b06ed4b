"""Time of each operator in Luthier's training steps.

Usage: ``python -m benchmarks.trainer_comparison.profile [--shape 135m] [--steps 3] [--dtype
bfloat16]``. It trains as the comparison does, in this process, and prints the operators by their
own time after the first step.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from benchmarks.trainer_comparison.base import write_base
from benchmarks.trainer_comparison.config import TrainerConfig, read_rows, write_rows
from benchmarks.trainer_comparison.shapes import SHAPES, ModelShape, select_shape
from benchmarks.trainer_comparison.trainers import luthier_trainer
from benchmarks.training import DATA
from training.run_events import Metrics, RunEvent
from training.spec import TrainSpec
from training.trainer import device
from training.trainer.checkpoint import Progress
from training.trainer.loop import train
from training.trainer.prepare import prepare
from training.trainer.setup import build_run
from training.trainer.state import StopFlag

MAX_OPERATORS = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(SHAPES), default="135m")
    parser.add_argument("--steps", type=int, default=3, help="profiled steps, after one that warms up")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=list(device.DTYPES), help="dtype of the products; the default is auto")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lt") as folder:
        config = write_run(select_shape(arguments.shape), arguments, Path(folder))
        averages = profile_steps(config.folder)
    print_operators(averages, Console())


def write_run(shape: ModelShape, arguments: argparse.Namespace, folder: Path) -> TrainerConfig:
    """Write base, rows and spec of a run with the steps to profile and a warm-up."""
    config = TrainerConfig(
        base=folder / "base", rows=folder / "rows.jsonl", folder=folder / "run", epochs=1, threads=arguments.threads
    )
    write_base(shape, DATA.vocabulary, config.base)
    write_rows(config.rows, read_rows(DATA.train, (1 + arguments.steps) * config.batch_size, shape.max_row_chars))
    luthier_trainer.write_run_folder(config)
    if arguments.dtype:
        path = config.folder / "spec.json"
        spec = json.loads(path.read_text())
        spec["hyperparameters"]["dtype"] = arguments.dtype
        path.write_text(json.dumps(spec))
    return config


def profile_steps(folder: Path) -> Any:
    """Train and return the profiler's averages by operator and shapes of its inputs."""
    spec, stop = TrainSpec.read(folder), StopFlag()
    device.configure_torch(spec.threads)
    profiler = profile(activities=[ProfilerActivity.CPU], record_shapes=True)

    def start_after_warm_up(event: RunEvent) -> None:
        if isinstance(event, Metrics) and event.step == 1:
            profiler.start()

    train(build_run(folder, spec, prepare(folder, spec, stop), start_after_warm_up, stop), Progress())
    profiler.stop()
    return profiler.key_averages(group_by_input_shape=True)


def print_operators(averages: Any, console: Console) -> None:
    rows = sorted(averages, key=lambda row: row.self_cpu_time_total, reverse=True)
    total = sum(row.self_cpu_time_total for row in rows)
    table = Table("operator", "shapes", "calls", "s", "share", title="Operators by their own time")
    for row in rows[:MAX_OPERATORS]:
        shapes = " ".join(str(shape) for shape in row.input_shapes if shape)
        seconds = row.self_cpu_time_total / 1e6
        table.add_row(row.key, shapes, str(row.count), f"{seconds:.2f}", f"{row.self_cpu_time_total / total:.1%}")
    console.print(table)


if __name__ == "__main__":
    main()
