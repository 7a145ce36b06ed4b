"""A large file of chat rows, checked by the child that checks every job's file: how fast, and in how much memory."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from storage.settings import Settings, build_training_environment
from training.spec import DpoHyperparameters, TrainSpec
from training.updates.lora import LoraUpdate

SOURCE_ROWS = Path(__file__).parent.parent.parent / "examples" / "data" / "chat_train.jsonl"
SAMPLE_SECONDS = 0.1
BASELINE_BYTES = 64 << 10
"""A file so small that what the child needs for it is what it needs anyway."""


def measure_validation(megabytes: int, console: Console) -> dict[str, Any]:
    """``validate_mb_s`` and ``validate_rss_mb``: memory beyond what a small file takes."""
    settings = Settings()
    with tempfile.TemporaryDirectory(prefix="lb") as folder:
        small, large = Path(folder, "small"), Path(folder, "large")
        for place, size in ((small, BASELINE_BYTES), (large, megabytes << 20)):
            with console.status(f"writing {size:,} bytes of rows …"):
                _write_rows(place, size, settings)
        with console.status("checking them …"):
            _, least = _run_validation(small, settings)
            seconds, most = _run_validation(large, settings)
        size = (large / "training.jsonl").stat().st_size
    return {
        "validate_bytes": size,
        "validate_s": round(seconds, 1),
        "validate_mb_s": round(size / 2**20 / seconds, 2),
        "validate_rss_mb": round((most - least) / 2**20, 1),
    }


def _write_rows(folder: Path, size: int, settings: Settings) -> None:
    """Rows of many lengths, no two alike, made of the repository's own messages."""
    folder.mkdir()
    rng, written = random.Random(1), 0
    texts = [message["content"] for row in SOURCE_ROWS.open() for message in json.loads(row)["messages"]]
    with (folder / "training.jsonl").open("w") as file:
        while written < size:
            turns = [{"role": role, "content": f"{rng.random()} {rng.choice(texts)}"} for role in ("user", "assistant")]
            written += file.write(json.dumps({"messages": turns * rng.randint(1, 4)}) + "\n")
    starter = settings.create_registry().get("starter")
    assert starter is not None
    spec = TrainSpec(
        base=str(starter.require_location()),
        base_id="starter",
        task="chat",
        method="supervised",
        update=LoraUpdate(),
        hyperparameters=DpoHyperparameters(),
        training_file="training.jsonl",
        seed=1,
    )
    (folder / "spec.json").write_text(spec.model_dump_json())


def _run_validation(folder: Path, settings: Settings) -> tuple[float, int]:
    """Seconds of a process that checks the folder's rows, and bytes resident at most of it and those that help it."""
    command = [sys.executable, "-m", "training.run", str(folder), "--validate"]
    began, most = time.monotonic(), 0
    with (folder / "lines").open("wb") as lines:
        process = subprocess.Popen(command, env=build_training_environment(settings), stdout=lines)
        while process.poll() is None:
            most = max(most, _measure_rss(process.pid))
            time.sleep(SAMPLE_SECONDS)
    seconds = time.monotonic() - began
    last = (folder / "lines").read_text().splitlines()[-1]
    if process.returncode or json.loads(last)["type"] != "validated":
        raise SystemExit(f"the check of {folder} ended with {last!r}")
    return seconds, most


def _measure_rss(pid: int) -> int:
    total = 0
    with suppress(psutil.NoSuchProcess):
        first = psutil.Process(pid)
        for process in (first, *first.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return total
