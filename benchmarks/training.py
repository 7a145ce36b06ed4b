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
from benchmarks.result import write
from benchmarks.trainer_comparison import frozen_encoder
from benchmarks.trainer_comparison.comparison import Data, League
from benchmarks.trainer_comparison.frozen_encoder import KINDS
from benchmarks.trainer_comparison.shapes import SHAPES
from examples.stack import running_stack

SHARED = Path(__file__).parent.parent.parent / "shared"
DATA = Data(
    vocabulary=SHARED / "models" / "gpt2_tokenizer",
    train=SHARED / "data" / "gsm8k" / "train.jsonl",
    test=SHARED / "data" / "gsm8k" / "test.jsonl",
)
BANKING77 = SHARED / "data" / "banking77" / "train.csv"
CHANGES = {
    "rows": "training rows, of Banking77 too",
    "epochs": "over the rows",
    "rounds": "in which each contestant runs once, at most",
    "minutes": "for the rounds of a shape; the first is always played",
}
"""Fields of ``Shape`` that an argument may change."""
PARTS = ("pilot", "frozen", "service")
LIBRARIES = ("torch", "transformers", "peft", "trl", "accelerate")
BF16_UNITS = ("avx512_bf16", "amx_bf16", "amx_tile")
"""Flags of a CPU that multiplies bf16; without them bf16, TRL's default, is slower than fp32."""


def main() -> None:
    asked = arguments()
    console = Console()
    if not SHARED.exists():
        raise SystemExit(f"the data is not at {SHARED}")
    figures: dict[str, Any] = {}
    rounds: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="lt") as folder:
        with progress(console) as bar:
            for name in asked.shapes:
                figures[name], rounds[name] = contest(name, asked, Path(folder), bar)
            if "frozen" not in asked.skip:
                rounds["frozen"] = banking77(asked, Path(folder), bar)
        # It draws bars of its own.
        if "service" not in asked.skip:
            figures["first_step_s"] = first_step(Path(folder), console)
    for kind, compared in rounds.get("frozen", {}).items():
        figures[f"{kind}_vs_hf_trainer"] = round(compared["ratio"], 2)
    command = "make bench-training" + (f"  # {' '.join(sys.argv[1:])}" if sys.argv[1:] else "")
    versions = {name: version(name) for name in LIBRARIES}
    machine = {"bf16_units": units(), "threads": asked.threads, "libraries": versions}
    write(f"{asked.name}-rounds", command, {**machine, **rounds})
    write(asked.name, command, {**figures, **machine})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="*", choices=list(SHAPES), default=list(SHAPES))
    for name, meaning in CHANGES.items():
        parser.add_argument(f"--{name}", type=int, help=f"{meaning}; instead of each shape's own")
    parser.add_argument("--skip", nargs="*", choices=PARTS, default=[], help="parts to leave out")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--name", default="training", help="of the result's file")
    return parser.parse_args()


def progress(console: Console) -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=console)


def contest(name: str, asked: argparse.Namespace, folder: Path, bar: Progress) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures of a shape, and every round of it."""
    changes = {field: getattr(asked, field) for field in CHANGES if getattr(asked, field) is not None}
    shape = replace(SHAPES[name], **changes)
    season, tried = League(name, shape, DATA, folder / name, asked.threads).play(bar, "pilot" not in asked.skip)
    title = f"{name}: {shape.rows} rows, {shape.epochs} epochs, median of {len(season.rounds)} rounds"
    bar.console.print(season.table(title))
    return season.figures(), {**season.details(), "trl_pilot": [one.row for one in tried]}


def banking77(asked: argparse.Namespace, folder: Path, bar: Progress) -> dict[str, Any]:
    """Most of an encoder frozen: by kind of update, our seconds and theirs."""
    task = bar.add_task("Banking77, frozen blocks", total=len(KINDS))
    table = Table("update", "Luthier, s", "HF Trainer, s", "ours is", title="Banking77 on minilm-l6, 10 epochs")
    compared = {}
    for name, kind in KINDS.items():
        bar.update(task, description=f"Banking77, {name}")
        one = frozen_encoder.compare(kind, BANKING77, asked.rows or frozen_encoder.ROWS, folder / name, asked.threads)
        table.add_row(name, *(f"{one[who]['seconds']:.1f}" for who in ("ours", "hf_trainer")), f"{one['ratio']:.2f}×")
        compared[name] = one
        bar.advance(task)
    bar.console.print(table)
    return compared


def first_step(folder: Path, console: Console) -> float:
    """Seconds from ``POST`` to the first forward pass, as ``make bench-service`` measures them."""
    home = folder / "service"
    home.mkdir()
    with running_stack(home, console) as client:
        return round(median(service.first_steps(client, console)), 3)


def units() -> list[str]:
    """Those of ``BF16_UNITS`` that this CPU has."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return [unit for unit in BF16_UNITS if unit in flags]


if __name__ == "__main__":
    main()
