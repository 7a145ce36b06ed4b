"""``make bench-training``: our training child, TRL, and HF ``Trainer`` with PEFT, side by side on this machine.

Same base, rows, LoRA, seed, learning rate, batch size, epochs and threads; each run is a process of its own, and
contestants take turns. Timed are training steps alone, from the end of the first to the end of the last. How TRL is
set at its best is searched first. Then Banking77 with most of an encoder frozen, beside HF ``Trainer``, and the
seconds from ``POST`` to the first step. The last line is one JSON object; every round is in ``training-rounds.json``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks import service
from benchmarks.result import write_result
from benchmarks.trainer_comparison import frozen_encoder
from benchmarks.trainer_comparison.comparison import DataPaths, TrainerComparison
from benchmarks.trainer_comparison.frozen_encoder import FROZEN_UPDATES
from benchmarks.trainer_comparison.shapes import SHAPES
from examples.stack import run_stack

SHARED = Path(__file__).parent.parent.parent / "shared"
DATA = DataPaths(
    vocabulary=SHARED / "models" / "gpt2_tokenizer",
    train=SHARED / "data" / "gsm8k" / "train.jsonl",
    test=SHARED / "data" / "gsm8k" / "test.jsonl",
)
BANKING77 = SHARED / "data" / "banking77" / "train.csv"
SHAPE_OVERRIDES = {
    "rows": "training rows, of Banking77 too",
    "epochs": "over the rows",
    "rounds": "in which each contestant runs once, at most",
    "minutes": "for the rounds of a shape; the first is always played",
}
"""Fields of ``Shape`` that an argument may change."""
OPTIONAL_STAGES = ("pilot", "frozen", "service")
LIBRARIES = ("torch", "transformers", "peft", "trl", "accelerate")
BF16_CPU_FLAGS = ("avx512_bf16", "amx_bf16", "amx_tile")
"""Flags of a CPU that multiplies bf16; without them bf16, TRL's default, is slower than fp32."""


def main() -> None:
    asked = parse_arguments()
    console = Console()
    if not SHARED.exists():
        raise SystemExit(f"the data is not at {SHARED}")
    figures: dict[str, Any] = {}
    rounds: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="lt") as folder:
        with create_progress(console) as bar:
            for name in asked.shapes:
                figures[name], rounds[name] = compare_trainers(name, asked, Path(folder), bar)
            if "frozen" not in asked.skip:
                rounds["frozen"] = compare_frozen_encoders(asked, Path(folder), bar)
        # It draws bars of its own.
        if "service" not in asked.skip:
            figures["first_step_s"] = measure_first_step(Path(folder), console)
    for kind, compared in rounds.get("frozen", {}).items():
        figures[f"{kind}_vs_hf_trainer"] = round(compared["ratio"], 2)
    command = "make bench-training" + (f"  # {' '.join(sys.argv[1:])}" if sys.argv[1:] else "")
    versions = {name: version(name) for name in LIBRARIES}
    machine = {"bf16_units": detect_bf16_flags(), "threads": asked.threads, "libraries": versions}
    write_result(f"{asked.name}-rounds", command, {**machine, **rounds})
    write_result(asked.name, command, {**figures, **machine})


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="*", choices=list(SHAPES), default=list(SHAPES))
    for name, meaning in SHAPE_OVERRIDES.items():
        parser.add_argument(f"--{name}", type=int, help=f"{meaning}; instead of each shape's own")
    parser.add_argument("--skip", nargs="*", choices=OPTIONAL_STAGES, default=[], help="parts to leave out")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--name", default="training", help="of the result's file")
    return parser.parse_args()


def create_progress(console: Console) -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=console)


def compare_trainers(
    name: str, arguments: argparse.Namespace, folder: Path, bar: Progress
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures of a shape, and every round of it."""
    changes = {field: getattr(arguments, field) for field in SHAPE_OVERRIDES if getattr(arguments, field) is not None}
    shape = replace(SHAPES[name], **changes)
    season, tried = TrainerComparison(name, shape, DATA, folder / name, arguments.threads).run(
        bar, "pilot" not in arguments.skip
    )
    title = f"{name}: {shape.rows} rows, {shape.epochs} epochs, median of {len(season.rounds)} rounds"
    bar.console.print(season.build_table(title))
    return season.summarize(), {**season.to_details(), "trl_pilot": [one.summary for one in tried]}


def compare_frozen_encoders(arguments: argparse.Namespace, folder: Path, bar: Progress) -> dict[str, Any]:
    """Most of an encoder frozen: by kind of update, our seconds and theirs."""
    task = bar.add_task("Banking77, frozen blocks", total=len(FROZEN_UPDATES))
    table = Table("update", "Luthier, s", "HF Trainer, s", "ours is", title="Banking77 on minilm-l6, 10 epochs")
    compared = {}
    for name, kind in FROZEN_UPDATES.items():
        bar.update(task, description=f"Banking77, {name}")
        one = frozen_encoder.compare(
            kind, BANKING77, arguments.rows or frozen_encoder.ROW_COUNT, folder / name, arguments.threads
        )
        table.add_row(name, *(f"{one[who]['seconds']:.1f}" for who in ("ours", "hf_trainer")), f"{one['ratio']:.2f}×")
        compared[name] = one
        bar.advance(task)
    bar.console.print(table)
    return compared


def measure_first_step(folder: Path, console: Console) -> float:
    """Seconds from ``POST`` to the first forward pass, as ``make bench-service`` measures them."""
    home = folder / "service"
    home.mkdir()
    with run_stack(home, console) as client:
        return round(median(service.measure_first_steps(client, console)), 3)


def detect_bf16_flags() -> list[str]:
    """Those of ``BF16_UNITS`` that this CPU has."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return [unit for unit in BF16_CPU_FLAGS if unit in flags]


if __name__ == "__main__":
    main()
