"""``python -m benchmarks.tasks [NAME …] [--rows N]``: figures beside their baselines; the last line is JSON.

A run with ``--rows`` only tries things out: its figures are printed and not kept in ``benchmarks/results/``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.result import write_result
from benchmarks.tasks import BENCHMARKS
from benchmarks.tasks.benchmark import DATASETS, DataSplits, measure
from examples.stack import run_stack


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="*", help=f"of {', '.join(BENCHMARKS)}; all where none is named")
    parser.add_argument("--rows", type=int, help="train on the first N rows and ask about N of those held out")
    arguments = parser.parse_args()
    names = arguments.name or list(BENCHMARKS)
    if not BENCHMARKS.keys() >= set(names):
        parser.error(
            f"there is no {', '.join(sorted(set(names) - BENCHMARKS.keys()))}; there are {', '.join(BENCHMARKS)}"
        )
    if not DATASETS.exists():
        raise SystemExit(f"the data sets are not at {DATASETS}")
    console = Console()
    data = {name: BENCHMARKS[name].load_data() for name in names}
    if arguments.rows:
        data = {name: rows.take(arguments.rows) for name, rows in data.items()}
    with tempfile.TemporaryDirectory(prefix="lt") as home:
        _register_bases(Path(home), data)
        measured = _measure_all(Path(home), data, console, save=not arguments.rows)
    console.print(_build_table(measured))
    print(json.dumps({name: {key: made[key] for key in ("figure", "baseline")} for name, made in measured.items()}))


def _register_bases(home: Path, data: Mapping[str, DataSplits]) -> None:
    for name, rows in data.items():
        run = BENCHMARKS[name]
        if run.create_base:
            run.create_base(home / "bases" / run.base, rows).add_to_registry(home, run.base)


def _measure_all(
    home: Path, data: Mapping[str, DataSplits], console: Console, *, save: bool
) -> dict[str, dict[str, Any]]:
    measured = {}
    with run_stack(home, console) as client:
        for name, rows in data.items():
            run = BENCHMARKS[name]
            console.rule(f"{name}: {run.title}")
            measured[name] = measure(client, run, rows, home, console)
            if save:
                write_result(f"task-{name}", f"python -m benchmarks.tasks {name}", measured[name])
    return measured


def _build_table(results: Mapping[str, dict[str, Any]]) -> Table:
    table = Table("task", "figures", "to beat", "beaten", "rows", "seconds", show_lines=True)
    for name, made in results.items():
        decisive = made["decisive"]
        others = "\n".join(f"{other}: {figures[decisive]:.3f}" for other, figures in made["baseline"].items())
        table.add_row(
            f"{name}\n{made['title']}\n{made['base']}",
            "\n".join(f"{figure} {value:.3f}" for figure, value in made["figure"].items()),
            f"{decisive}\n{others}",
            "[green]yes[/]" if made["beats_baseline"] else "[red]no[/]",
            f"{made['rows']}\n{made['held_out']} held out",
            str(made["seconds"]),
        )
    return table


if __name__ == "__main__":
    main()
