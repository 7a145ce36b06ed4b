"""``python -m benchmarks.tasks [NAME …] [--rows N]``: metrics of each task next to their baselines.

The last line is JSON. A run with ``--rows`` is a trial: its metrics are printed but not saved in
``benchmarks/results/``.
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
    parser.add_argument("name", nargs="*", help=f"benchmarks to run, by default all: {', '.join(BENCHMARKS)}")
    parser.add_argument("--rows", type=int, help="train on the first N rows and evaluate on the first N held-out rows")
    arguments = parser.parse_args()
    names = arguments.name or list(BENCHMARKS)
    if not BENCHMARKS.keys() >= set(names):
        parser.error(
            f"unknown benchmark {', '.join(sorted(set(names) - BENCHMARKS.keys()))}; use one of {', '.join(BENCHMARKS)}"
        )
    if not DATASETS.exists():
        raise SystemExit(f"{DATASETS} does not exist; put the data sets there")
    console = Console()
    data = {name: BENCHMARKS[name].load_data() for name in names}
    if arguments.rows:
        data = {name: splits.take(arguments.rows) for name, splits in data.items()}
    with tempfile.TemporaryDirectory(prefix="lt") as home:
        _register_bases(Path(home), data)
        results = _measure_all(Path(home), data, console, save=not arguments.rows)
    console.print(_build_table(results))
    print(json.dumps({name: {key: result[key] for key in ("figure", "baseline")} for name, result in results.items()}))


def _register_bases(home: Path, data: Mapping[str, DataSplits]) -> None:
    for name, splits in data.items():
        benchmark = BENCHMARKS[name]
        if benchmark.create_base:
            benchmark.create_base(home / "bases" / benchmark.base, splits).add_to_registry(home, benchmark.base)


def _measure_all(
    home: Path, data: Mapping[str, DataSplits], console: Console, *, save: bool
) -> dict[str, dict[str, Any]]:
    results = {}
    with run_stack(home, console) as client:
        for name, splits in data.items():
            benchmark = BENCHMARKS[name]
            console.rule(f"{name}: {benchmark.title}")
            results[name] = measure(client, benchmark, splits, home, console)
            if save:
                write_result(f"task-{name}", f"python -m benchmarks.tasks {name}", results[name])
    return results


def _build_table(results: Mapping[str, dict[str, Any]]) -> Table:
    table = Table("task", "metrics", "baselines", "beaten", "rows", "seconds", show_lines=True)
    for name, result in results.items():
        primary = result["decisive"]
        baselines = "\n".join(f"{title}: {metrics[primary]:.3f}" for title, metrics in result["baseline"].items())
        table.add_row(
            f"{name}\n{result['title']}\n{result['base']}",
            "\n".join(f"{metric} {value:.3f}" for metric, value in result["figure"].items()),
            f"{primary}\n{baselines}",
            "[green]yes[/]" if result["beats_baseline"] else "[red]no[/]",
            f"{result['rows']}\n{result['held_out']} held out",
            str(result["seconds"]),
        )
    return table


if __name__ == "__main__":
    main()
