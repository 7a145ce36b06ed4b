"""``make bench-overhead``: share of a ten-minute job that the service itself uses.

The overhead is the sum of two parts:

* the time between ``POST`` and the moment the model is served in which no step is trained (row
  validation, loading the base, publishing the result),
* the CPU seconds that API, worker, fork server, inference engine and Redis use in that time,
  divided by the number of cores.

A run without the service would read rows and load the base too, so this is an upper bound.
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
"""Copies of the rows in the training file. Fifty epochs of them last longer than the job."""
SAMPLE_SECONDS = 0.5
POLL_SECONDS = 2.0
"""Polling interval of the client. Responding to it is part of the overhead."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="seconds of training")
    arguments = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="lb") as folder, run_stack(Path(folder), console) as client:
        rows = Path(folder, "rows.jsonl")
        rows.write_text((DATA / "chat_train.jsonl").read_text() * DATASET_COPIES)
        file_id = upload(client, rows)
        hyperparameters = {"max_seconds": arguments.seconds, "max_steps": MAX_STEPS}
        method: Any = {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}
        with _track_cpu_seconds() as used:
            posted = time.time()
            job = client.fine_tuning.jobs.create(model="starter", training_file=file_id, seed=1, method=method)
            run = watch(client, job.id, console, posted, POLL_SECONDS)
        trained = _measure_training_seconds(client, job.id)
    outside, service = run.seconds - trained, used["service"] / (os.cpu_count() or 1)
    metrics = {
        "overhead_share": round((outside + service) / run.seconds, 4),
        "job_s": round(run.seconds, 1),
        "training_s": round(trained, 1),
        "outside_training_s": round(outside, 2),
        "service_processor_s": round(used["service"], 1),
        "training_processor_s": round(used["training"], 1),
    }
    write_result("overhead", f"python -m benchmarks.overhead --seconds {arguments.seconds}", metrics)


def _measure_training_seconds(client: Any, job_id: str) -> float:
    """Return the seconds from the first forward pass to the end of the last step, by the training
    process's clock.
    """
    last = client.fine_tuning.jobs.retrieve(job_id).model_extra["progress"]
    metrics = next(
        event.data
        for event in client.fine_tuning.jobs.list_events(job_id, limit=100)
        if event.data and "train_loss" in event.data
    )
    assert metrics["step"] == last["step"]
    seconds: float = metrics["tokens"] / metrics["tokens_per_second"]
    return seconds


@contextmanager
def _track_cpu_seconds() -> Iterator[dict[str, float]]:
    """Count the CPU seconds of the stack's processes until the block ends.

    Training processes count as ``training``, all others as ``service``.
    """
    used, last, ended = {"service": 0.0, "training": 0.0}, dict[int, float](), Event()

    def sample() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            for process in psutil.Process().children(recursive=True):
                try:
                    times, parent = process.cpu_times(), process.parent()
                    parent_command = parent.cmdline() if parent else []
                except psutil.NoSuchProcess:
                    continue
                spent = times.user + times.system
                kind = "training" if "jobs.runner.forkserver" in parent_command else "service"
                used[kind] += spent - last.get(process.pid, spent if process.pid in before else 0.0)
                last[process.pid] = spent

    before = {process.pid for process in psutil.Process().children(recursive=True)}
    sampler = Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield used
    finally:
        ended.set()
        sampler.join()


if __name__ == "__main__":
    main()
