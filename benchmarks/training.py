"""``make bench-training``: Luthier's training process, TRL, and HF ``Trainer`` with PEFT, compared.

All trainers use the same base, rows, LoRA, seed, learning rate, rows per step, epochs, threads and
allocator. A pilot searches for the fastest settings of TRL and of HF ``Trainer``; its trials are
kept in ``training-pilots.json`` and reused on the same machine. Each run is its own process, and
the trainers take turns. Only training steps are timed, from the end of the first step to the end of
the last. Then the benchmark compares Banking77 with most of an encoder frozen against HF
``Trainer``, and measures the seconds from ``POST`` to the first step. The last line is one JSON
object; every round is in ``training-rounds.json``.

``make bench-training-large`` runs the shape of Qwen3-0.6B alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, get_args

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks import service
from benchmarks.result import write_result
from benchmarks.trainer_comparison import frozen_encoder
from benchmarks.trainer_comparison.comparison import DataPaths, PilotMode, TrainerComparison
from benchmarks.trainer_comparison.config import RETAINED_HEAP
from benchmarks.trainer_comparison.frozen_encoder import FROZEN_UPDATES
from benchmarks.trainer_comparison.pilot_cache import detect_bf16_flags, get_library_versions
from benchmarks.trainer_comparison.shapes import SHAPES, SMOLLM2_PACKAGE, select_shape
from examples.stack import run_stack

SHARED = Path(__file__).parent.parent.parent / "shared"
DATA = DataPaths(
    vocabulary=SHARED / "models" / "gpt2_tokenizer",
    train=SHARED / "data" / "gsm8k" / "train.jsonl",
    test=SHARED / "data" / "gsm8k" / "test.jsonl",
)
BANKING77 = SHARED / "data" / "banking77" / "train.csv"
DEFAULT_SHAPES = ("20m", "135m")
SHAPE_OVERRIDES = {
    "rows": "number of training rows, also for Banking77",
    "epochs": "epochs over the rows",
    "rounds": "number of rounds; Luthier and the tuned peers run once per round",
    "max_row_chars": "maximum characters of a row",
}
"""Fields of ``ModelShape`` that an argument may override."""
OPTIONAL_STAGES = ("frozen", "service")


def main() -> None:
    arguments = parse_arguments()
    console = Console()
    if not SHARED.exists():
        raise SystemExit(f"{SHARED} does not exist; put the data and models there")
    metrics: dict[str, Any] = {}
    rounds: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="lt") as folder:
        with create_progress(console) as bar:
            for name in arguments.shapes:
                metrics[name], rounds[name] = compare_trainers(name, arguments, Path(folder), bar)
            if "frozen" not in arguments.skip:
                rounds["frozen"] = compare_frozen_encoders(arguments, Path(folder), bar)
        # This stage draws its own progress bars.
        if "service" not in arguments.skip:
            metrics["first_step_s"] = measure_first_step(Path(folder), console)
    for kind, comparison in rounds.get("frozen", {}).items():
        metrics[f"{kind}_vs_hf_trainer"] = round(comparison["ratio"], 2)
    command = "make bench-training" + (f"  # {' '.join(sys.argv[1:])}" if sys.argv[1:] else "")
    machine = {
        "bf16_units": detect_bf16_flags(),
        "threads": arguments.threads,
        "allocator": dict(RETAINED_HEAP),
        "libraries": get_library_versions(),
    }
    write_result(f"{arguments.name}-rounds", command, {**machine, **rounds})
    write_result(arguments.name, command, {**metrics, **machine})


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="*", choices=list(SHAPES), default=DEFAULT_SHAPES, help="model sizes to run")
    for name, description in SHAPE_OVERRIDES.items():
        option = "--" + name.replace("_", "-")
        parser.add_argument(option, type=int, help=f"{description}; overrides the shape's value")
    parser.add_argument(
        "--pilot",
        choices=get_args(PilotMode),
        default="cached",
        help="search for the peers' settings if there is no earlier search, or again, or not at all",
    )
    parser.add_argument("--skip", nargs="*", choices=OPTIONAL_STAGES, default=[], help="stages to leave out")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of each trainer")
    parser.add_argument("--name", default="training", help="name of the result file")
    return parser.parse_args()


def create_progress(console: Console) -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=console)


def compare_trainers(
    name: str, arguments: argparse.Namespace, folder: Path, bar: Progress
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the metrics of a shape and the details of every round."""
    overrides = {field: getattr(arguments, field) for field in SHAPE_OVERRIDES if getattr(arguments, field) is not None}
    shape = replace(select_shape(name), **overrides)
    if SHAPES[name].is_smollm2 and not shape.is_smollm2:
        bar.console.print(f"{name}: the package {SMOLLM2_PACKAGE} is not installed, so the weights are random.")
    result = TrainerComparison(name, shape, DATA, folder / name, arguments.threads, bar).run(arguments.pilot)
    title = f"{name}: {shape.rows} rows, {shape.epochs} epochs, median of {shape.rounds} rounds"
    bar.console.print(result.build_table(title))
    return result.summarize(), result.to_details()


def compare_frozen_encoders(arguments: argparse.Namespace, folder: Path, bar: Progress) -> dict[str, Any]:
    """Compare training with most of an encoder frozen.

    Return the seconds of both trainers by update.
    """
    task = bar.add_task("Banking77, frozen blocks", total=len(FROZEN_UPDATES))
    table = Table("update", "Luthier, s", "HF Trainer, s", "speedup", title="Banking77 on minilm-l6, 10 epochs")
    comparisons = {}
    for name, kind in FROZEN_UPDATES.items():
        bar.update(task, description=f"Banking77, {name}")
        comparison = frozen_encoder.compare(
            kind, BANKING77, arguments.rows or frozen_encoder.ROW_COUNT, folder / name, arguments.threads
        )
        table.add_row(
            name,
            *(f"{comparison[trainer]['seconds']:.1f}" for trainer in ("ours", "hf_trainer")),
            f"{comparison['ratio']:.2f}×",
        )
        comparisons[name] = comparison
        bar.advance(task)
    bar.console.print(table)
    return comparisons


def measure_first_step(folder: Path, console: Console) -> float:
    """Return the seconds from ``POST`` to the first forward pass, measured as in ``make
    bench-service``.
    """
    home = folder / "service"
    home.mkdir()
    with run_stack(home, console) as client:
        return round(median(service.measure_first_steps(client, console)), 3)


if __name__ == "__main__":
    main()
