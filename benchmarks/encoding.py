"""Speed and memory of encoding a large chat file: with one process, with one per core, and from the
cache of an earlier run.

The rows are conversations of several questions and answers of GSM8K, each with a number that makes
its text distinct.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import transformers
from rich.console import Console

from benchmarks.result import write_result
from benchmarks.tasks.benchmark import DATASETS
from storage.settings import Settings, build_training_environment
from training.data.dataset import DatasetReader
from training.data.encoding import RowEncoder
from training.data.example_cache import ExampleCache
from training.models import base_model
from training.progress import ignore_progress
from training.spec import TrainSpec

DATA_FILE = "training.jsonl"


def _write_folder(folder: Path, size: int) -> None:
    """Write a run's folder with ``size`` bytes of rows."""
    examples = [json.loads(line) for line in (DATASETS / "gsm8k" / "train.jsonl").open(encoding="utf-8")]
    rng, written = random.Random(1), 0
    with (folder / DATA_FILE).open("w", encoding="utf-8") as file:
        while written < size:
            messages = []
            for example in rng.choices(examples, k=rng.randint(1, 4)):
                messages.append({"role": "user", "content": f"{rng.randint(1, 10**6)}. {example['question']}"})
                messages.append({"role": "assistant", "content": example["answer"]})
            written += file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
    starter = Settings().create_registry().get("starter")
    assert starter is not None
    values = {"task": "chat", "update": {"type": "lora"}, "seed": 1, "base_id": "starter"}
    values |= {"base": starter.require_location(), "training_file": DATA_FILE}
    TrainSpec.model_validate(values).write(folder)


def _read(folder: Path, processes: int, cache: Path) -> dict[str, Any]:
    """Read the file as a training process does."""
    spec = TrainSpec.read(folder)
    transformers.logging.set_verbosity_error()
    task = spec.create_task()
    base = base_model.read_base_model_info(spec.base, spec.base_id, task)
    before, started_at, cpu_before = _get_peak_rss(), time.monotonic(), _get_cpu_seconds()
    encoder = RowEncoder(task, base.processor, spec.columns, base.context_length)
    reader = DatasetReader(encoder, ignore_progress, ExampleCache(cache), processes=processes)
    data = reader.read(folder / DATA_FILE, "training_file")
    seconds = time.monotonic() - started_at
    data.raise_if_invalid()
    return {
        "rows": data.num_rows,
        "tokens": data.num_tokens,
        "seconds": seconds,
        "cpu_seconds": _get_cpu_seconds() - cpu_before,
        "grown_mb": (_get_peak_rss() - before) / 1024,
    }


def _get_peak_rss() -> int:
    """Return the peak RSS of this process, KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _get_cpu_seconds() -> float:
    """Return the processor seconds of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _measure(folder: Path, processes: int, cache: str) -> dict[str, Any]:
    """Read in a new process. Return rows, tokens, seconds, and growth of the peak RSS in MiB."""
    command = [sys.executable, "-m", "benchmarks.encoding", "--read", str(folder)]
    command += ["--processes", str(processes), "--cache", str(folder / cache)]
    environment = build_training_environment(Settings())
    output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout
    measured: dict[str, Any] = json.loads(output.splitlines()[-1])
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="processes of the parallel run")
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        print(json.dumps(_read(arguments.read, arguments.processes, arguments.cache)))
        return
    console = Console(stderr=True)
    runs = {"one_process": (1, "one"), "all_processes": (arguments.processes, "all"), "cached": (1, "all")}
    figures: dict[str, Any] = {"processes": arguments.processes}
    with tempfile.TemporaryDirectory(prefix="lb") as name:
        folder = Path(name)
        _write_folder(folder, arguments.megabytes << 20)
        figures["bytes"] = (folder / DATA_FILE).stat().st_size
        for label, (processes, cache) in runs.items():
            with console.status(f"{label} …"):
                measured = _measure(folder, processes, cache)
            figures |= {"rows": measured["rows"], "tokens": measured["tokens"]}
            figures[f"{label}_s"] = round(measured["seconds"], 2)
            figures[f"{label}_rows_per_s"] = round(measured["rows"] / measured["seconds"])
            figures[f"{label}_cpu_s"] = round(measured["cpu_seconds"], 2)
            figures[f"{label}_rss_mb"] = round(measured["grown_mb"], 1)
        figures["cache_bytes"] = sum(file.stat().st_size for file in (folder / "all").rglob("*") if file.is_file())
    write_result("encoding", "make bench-encoding", figures)


if __name__ == "__main__":
    main()
