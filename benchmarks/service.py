"""``make bench-service``: what the service adds to a run.

On a stack of its own with an idle worker: seconds from ``POST`` to the start of the first forward pass, seconds of a
whole small job, and the share of a longer job's time that is not training.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from openai import OpenAI
from rich.console import Console

from benchmarks.result import write
from examples.stack import running_stack
from examples.watch import upload, watch

DATA = Path(__file__).parent.parent / "examples" / "data"
TIMES = 7


def main() -> None:
    console = Console()
    with tempfile.TemporaryDirectory(prefix="lb") as folder, running_stack(Path(folder), console) as client:
        figures = run(client, console)
    write("service", "make bench-service", figures)


def run(client: OpenAI, console: Console) -> dict[str, Any]:
    chat, support = upload(client, DATA / "chat_train.jsonl"), upload(client, DATA / "support_train.jsonl")
    starts = [first_step(client, chat, console) for _ in range(TIMES)]
    began = time.monotonic()
    whole_chat = watch(client, _post(client, "starter", chat, {}), console, began).seconds
    began = time.monotonic()
    whole_support = watch(client, _post(client, "minilm-l6", support, {}), console, began).seconds
    return {
        "first_step_s": round(statistics.median(starts), 3),
        "first_step_s_all": [round(value, 3) for value in starts],
        "chat_job_s": round(whole_chat, 2),
        "classification_job_s": round(whole_support, 2),
    }


def first_step(client: OpenAI, file_id: str, console: Console) -> float:
    """From ``POST`` to the event that the child sends right before its first forward pass."""
    posted = time.time()
    job_id = _post(client, "starter", file_id, {"max_steps": 3})
    watch(client, job_id, console, time.monotonic())
    events = client.fine_tuning.jobs.list_events(job_id, limit=100)
    started = next(event for event in events if event.message.startswith("Fine-tuning job started"))
    at: Any = started.data
    return float(at["at"]) - posted


def _post(client: OpenAI, model: str, file_id: str, hyperparameters: dict[str, Any]) -> str:
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}
    return client.fine_tuning.jobs.create(model=model, training_file=file_id, seed=1, method=method).id


if __name__ == "__main__":
    main()
