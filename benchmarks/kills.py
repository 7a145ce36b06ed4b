"""``make bench-kills``: random ``kill -9`` of workers and training processes, then a check of every
job.

The benchmark runs its own stack with a stream of equal jobs and kills a process every few seconds.
Afterwards every job must have succeeded exactly once, with the same bytes as an uninterrupted run,
and its events must be numbered without gaps.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from openai import OpenAI
from rich.console import Console
from rich.progress import track

from benchmarks.result import write_result
from tests import services
from tests.stack import Stack, build_chat_rows, build_settings, wait_for_job

HYPERPARAMETERS = {"n_epochs": 20, "batch_size": 4, "learning_rate": 0.003, "save_every": 20}
QUEUE_DEPTH = 3
"""Jobs kept in the queue, so that a job is always running."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="number of processes to kill")
    parser.add_argument("--seed", type=int, default=1, help="seed of the random choices")
    arguments = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="lk") as folder:
        # By design, a job fails after three crashes without a checkpoint. Here the benchmark causes
        # the crashes, so the limit is raised.
        config = build_settings(Path(folder), max_failures=100)
        with services.run_redis(config.home / "run"), Stack(config) as stack:
            stack.prepare()
            stack.start("inference", "worker", "worker2", "api")
            metrics = run(stack, arguments.kills, random.Random(arguments.seed), console)
    write_result("kills", f"make bench-kills  # --kills {arguments.kills} --seed {arguments.seed}", metrics)


def run(stack: Stack, kills: int, rng: random.Random, console: Console) -> dict[str, Any]:
    client = stack.wait_until_ready(seconds=120)
    file_id = client.files.create(file=("rows.jsonl", build_chat_rows(32)), purpose="fine-tune").id
    reference = wait_for_job(client, submit_job(client, file_id))
    unbroken = stack.get_result_hashes(reference.fine_tuned_model)

    began, killed = time.monotonic(), {"worker": 0, "child": 0}
    jobs: list[str] = []
    for _ in track(range(kills), description="killing", console=console):
        while len(list_unfinished(client, jobs)) < QUEUE_DEPTH:
            jobs.append(submit_job(client, file_id))
        killed[kill_random_process(stack, rng)] += 1
    ends = [wait_for_job(client, job_id, 300) for job_id in track(jobs, description="waiting", console=console)]

    succeeded = [job for job in ends if job.status == "succeeded"]
    different = sum(stack.get_result_hashes(job.fine_tuned_model) != unbroken for job in succeeded)
    rows = [stack.get_job(job.id) for job in ends]
    gaps = sum(len(list(client.fine_tuning.jobs.list_events(row.id, limit=100))) != row.last_seq for row in rows)
    return {
        "kills": kills,
        "killed_workers": killed["worker"],
        "killed_children": killed["child"],
        "jobs": len(jobs),
        "lost": len(jobs) - len(succeeded),
        "duplicated": len(succeeded) - len({job.fine_tuned_model for job in succeeded}),
        "different": different,
        "event_gaps": gaps,
        "attempts": sum(row.attempt for row in rows),
        "most_attempts": max(row.attempt for row in rows),
        "seconds": round(time.monotonic() - began, 1),
    }


def submit_job(client: OpenAI, file_id: str) -> str:
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": HYPERPARAMETERS}}
    update = {"type": "lora", "rank": 4, "alpha": 8, "dropout": 0.1}
    return client.fine_tuning.jobs.create(
        model="starter", training_file=file_id, seed=3, method=method, extra_body={"update": update}
    ).id


def list_unfinished(client: OpenAI, jobs: list[str]) -> list[str]:
    ended = {"succeeded", "failed", "cancelled"}
    return [job_id for job_id in jobs if client.fine_tuning.jobs.retrieve(job_id).status not in ended]


def kill_random_process(stack: Stack, rng: random.Random) -> str:
    """Kill a busy training process or its worker, so that every kill interrupts a job."""
    while True:
        time.sleep(rng.uniform(0.3, 3.0))
        busy = [(name, child) for name in ("worker", "worker2") for child in stack.list_training_processes(name)]
        if busy:
            break
    name, child = rng.choice(busy)
    if rng.random() < 0.5:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            return kill_random_process(stack, rng)
        return "child"
    stack.kill(name)
    stack.start(name)
    return "worker"


if __name__ == "__main__":
    main()
