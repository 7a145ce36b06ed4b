"""``make bench-overhead``: what the service takes of a ten-minute job.

Counted as the service's: every second from ``POST`` to a model that answers in which no step was trained (checking the
rows, loading the base, handing the result over), and the processor seconds that API, worker, warm parent, engine and
Redis used meanwhile, spread over the machine's cores. A bare run would read rows and load the base as well, so this is
more than the truth.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psutil
from rich.console import Console

from benchmarks.result import write_result
from benchmarks.service import DATA
from examples.stack import run_stack
from examples.watch import upload, watch

MAX_STEPS = 10_000_000
DATASET_COPIES = 40
"""Of the rows: fifty epochs of them last longer than the job."""
SAMPLE_SECONDS = 0.5
POLL_SECONDS = 2.0
"""The client's; answering it is the service's work."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="of training")
    asked = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="lb") as folder, run_stack(Path(folder), console) as client:
        rows = Path(folder, "rows.jsonl")
        rows.write_text((DATA / "chat_train.jsonl").read_text() * DATASET_COPIES)
        file_id = upload(client, rows)
        hyperparameters = {"max_seconds": asked.seconds, "max_steps": MAX_STEPS}
        method: Any = {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}
        with _track_cpu_seconds() as used:
            posted = time.time()
            job = client.fine_tuning.jobs.create(model="starter", training_file=file_id, seed=1, method=method)
            run = watch(client, job.id, console, posted, POLL_SECONDS)
        trained = _measure_training_seconds(client, job.id)
    outside, beside = run.seconds - trained, used["service"] / (os.cpu_count() or 1)
    figures = {
        "overhead_share": round((outside + beside) / run.seconds, 4),
        "job_s": round(run.seconds, 1),
        "training_s": round(trained, 1),
        "outside_training_s": round(outside, 2),
        "service_processor_s": round(used["service"], 1),
        "training_processor_s": round(used["training"], 1),
    }
    write_result("overhead", f"python -m benchmarks.overhead --seconds {asked.seconds}", figures)


def _measure_training_seconds(client: Any, job_id: str) -> float:
    """Seconds from the first forward pass to the last step's end, by the child's own clock."""
    last = client.fine_tuning.jobs.retrieve(job_id).model_extra["progress"]
    told = next(
        e.data for e in client.fine_tuning.jobs.list_events(job_id, limit=100) if e.data and "train_loss" in e.data
    )
    assert told["step"] == last["step"]
    seconds: float = told["tokens"] / told["tokens_per_second"]
    return seconds


@contextmanager
def _track_cpu_seconds() -> Iterator[dict[str, float]]:
    """Of the stack's processes while the block lasts: training children apart from all others."""
    used, last, over = {"service": 0.0, "training": 0.0}, dict[int, float](), Event()

    def sample() -> None:
        while not over.wait(SAMPLE_SECONDS):
            for process in psutil.Process().children(recursive=True):
                try:
                    times, parent = process.cpu_times(), process.parent()
                    line = parent.cmdline() if parent else []
                except psutil.NoSuchProcess:
                    continue
                spent = times.user + times.system
                kind = "training" if "jobs.runner.forkserver" in line else "service"
                used[kind] += spent - last.get(process.pid, spent if process.pid in before else 0.0)
                last[process.pid] = spent

    before = {process.pid for process in psutil.Process().children(recursive=True)}
    sampler = Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield used
    finally:
        over.set()
        sampler.join()


if __name__ == "__main__":
    main()
