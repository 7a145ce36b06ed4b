"""Speed and memory of row validation on a large file of chat rows, in the process that validates
every job's file.
"""

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
"""Size of a file so small that the memory used for it is the baseline of the process."""


def measure_validation(megabytes: int, console: Console) -> dict[str, Any]:
    """Measure ``validate_mb_s`` (MiB per second) and ``validate_rss_mb`` (peak MiB beyond that of a
    small file).
    """
    settings = Settings()
    with tempfile.TemporaryDirectory(prefix="lb") as folder:
        small, large = Path(folder, "small"), Path(folder, "large")
        for path, size in ((small, BASELINE_BYTES), (large, megabytes << 20)):
            with console.status(f"writing {size:,} bytes of rows …"):
                _write_rows(path, size, settings)
        with console.status("validating …"):
            _, baseline_rss = _run_validation(small, settings)
            seconds, peak_rss = _run_validation(large, settings)
        size = (large / "training.jsonl").stat().st_size
    return {
        "validate_bytes": size,
        "validate_s": round(seconds, 1),
        "validate_mb_s": round(size / 2**20 / seconds, 2),
        "validate_rss_mb": round((peak_rss - baseline_rss) / 2**20, 1),
    }


def _write_rows(folder: Path, size: int, settings: Settings) -> None:
    """Write distinct rows of many lengths, built from the repository's example messages."""
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
    """Validate the folder's rows in a process.

    Return its seconds and the peak RSS of its process tree in bytes.
    """
    command = [sys.executable, "-m", "training.run", str(folder), "--validate"]
    began, peak_rss = time.monotonic(), 0
    with (folder / "lines").open("wb") as lines:
        process = subprocess.Popen(command, env=build_training_environment(settings), stdout=lines)
        while process.poll() is None:
            peak_rss = max(peak_rss, _measure_rss(process.pid))
            time.sleep(SAMPLE_SECONDS)
    seconds = time.monotonic() - began
    last = (folder / "lines").read_text().splitlines()[-1]
    if process.returncode or json.loads(last)["type"] != "validated":
        raise SystemExit(f"the validation of {folder} ended with {last!r}; see the traceback above")
    return seconds, peak_rss


def _measure_rss(pid: int) -> int:
    total = 0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return total
