"""``make bench-service``: time that the service adds to a run.

The benchmark runs its own stack with an idle worker. It measures the seconds from ``POST`` to the
start of the first forward pass (the median of several jobs on the starter), and the seconds from
``POST`` to a served model for the quickstart's two jobs.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from openai import OpenAI
from rich.console import Console

from benchmarks.result import write_result
from examples.stack import run_stack
from examples.watch import JobSummary, upload, watch

DATA = Path(__file__).parent.parent / "examples" / "data"
REPEATS = 7


def main() -> None:
    console = Console()
    with tempfile.TemporaryDirectory(prefix="lb") as folder, run_stack(Path(folder), console) as client:
        metrics = run(client, console)
    write_result("service", "make bench-service", metrics)


def run(client: OpenAI, console: Console) -> dict[str, Any]:
    starts = measure_first_steps(client, console)
    chat, support = upload(client, DATA / "chat_train.jsonl"), upload(client, DATA / "support_train.jsonl")
    return {
        "first_step_s": round(statistics.median(starts), 3),
        "first_step_s_all": [round(value, 3) for value in starts],
        "chat_job_s": round(_run_job(client, console, "starter", chat, {}).seconds, 2),
        "classification_job_s": round(_run_job(client, console, "minilm-l6", support, {}).seconds, 2),
    }


def measure_first_steps(client: OpenAI, console: Console) -> list[float]:
    """Return the seconds from ``POST`` to the start of the first forward pass of several jobs on
    the starter.
    """
    chat = upload(client, DATA / "chat_train.jsonl")
    return [_run_job(client, console, "starter", chat, {"max_steps": 3}).first_step_seconds for _ in range(REPEATS)]


def _run_job(client: OpenAI, console: Console, model: str, file_id: str, hyperparameters: dict[str, Any]) -> JobSummary:
    posted = time.time()
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}
    job = client.fine_tuning.jobs.create(model=model, training_file=file_id, seed=1, method=method)
    return watch(client, job.id, console, posted)


if __name__ == "__main__":
    main()
