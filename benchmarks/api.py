"""``make bench-api``: latency of polled jobs on SQLite and on Postgres, and speed of row
validation.

The API runs as two processes with keys and a database, as in production. The clients run on the
same machine. In the first phase (open loop), 1,000 clients poll a job of their own every 2 s, while
others create a job every 250 ms. In the second phase (closed loop), each client sends its next
request as soon as it has the response. Nothing is cached between requests.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.load.poller import LatencyRecorder, LoadProfile, ResponseCallback, build_get, build_post, poll
from benchmarks.load.row_validation import measure_validation
from benchmarks.result import write_result
from storage import db as databases
from storage import migrate
from storage.access import keys
from storage.ids import new_id
from storage.settings import Settings, build_child_environment
from storage.tables import File, Job
from tests import services

POLLER_COUNT, POLL_PERIOD_SECONDS = 1_000, 2.0
CREATOR_COUNT, CREATE_PERIOD_SECONDS = 4, 1.0
WARM_UP_SECONDS = 6.0
CLOSED_LOOP_SECONDS = 10.0
JOBS_PATH = "/v1/fine_tuning/jobs"
API_PROCESSES = 2


@dataclass(frozen=True)
class SeedData:
    """Rows that the benchmark writes before the API starts."""

    key: str
    jobs: list[str]
    file_id: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="seconds of measurement on each database")
    parser.add_argument("--validate-mb", type=int, default=1024, help="size in MiB of the file to validate")
    parser.add_argument("--only", choices=["sqlite", "postgres", "validate"], help="run one part alone")
    arguments = parser.parse_args()
    console, metrics = Console(), dict[str, Any]()
    # Garbage collection in the clients would count as latency of the server.
    gc.freeze()
    if arguments.only in (None, "sqlite"):
        with _temporary_home() as home:
            metrics |= _measure_database(home, f"sqlite+aiosqlite:///{home}/luthier.db", "", arguments.seconds, console)
    if arguments.only in (None, "postgres"):
        with services.run_postgres() as server, _temporary_home() as home:
            metrics |= _measure_database(home, server.create_database(), "_postgres", arguments.seconds, console)
    if arguments.only in (None, "validate"):
        metrics |= measure_validation(arguments.validate_mb, console)
    write_result("api" if arguments.only is None else f"api-{arguments.only}", _format_command(arguments), metrics)


def _format_command(arguments: argparse.Namespace) -> str:
    options = [f"--seconds {arguments.seconds:g}", f"--validate-mb {arguments.validate_mb}"]
    return " ".join(["python -m benchmarks.api", *options, *([f"--only {arguments.only}"] if arguments.only else [])])


@contextmanager
def _temporary_home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lb") as folder:
        yield Path(folder)


def _measure_database(home: Path, database: str, suffix: str, seconds: float, console: Console) -> dict[str, Any]:
    settings = Settings(home=home, database_url=database, port=_find_free_port(), api_processes=API_PROCESSES)
    seeded = asyncio.run(_seed(settings))
    title = f"{POLLER_COUNT} pollers for {WARM_UP_SECONDS + seconds:.0f} s …"
    with services.run_redis(_create_folder(home / "run")), _run_api(settings), console.status(title):
        polls, creates = uvloop.run(_run_open_loop(settings, seeded, seconds))
        closed_loop = uvloop.run(_run_closed_loop(settings, seeded))
    _print_table(
        console,
        suffix.removeprefix("_") or "sqlite",
        {"poll": polls, "create": creates, "poll, closed loop": closed_loop},
    )
    for error in (polls.errors + creates.errors + closed_loop.errors)[:3]:
        console.print(error)
    return {
        f"poll_p50_ms{suffix}": round(polls.quantile_ms(0.5), 2),
        f"poll_p99_ms{suffix}": round(polls.quantile_ms(0.99), 2),
        f"poll_max_ms{suffix}": round(polls.quantile_ms(1), 2),
        f"polls{suffix}": len(polls.latencies),
        f"poll_errors{suffix}": len(polls.errors),
        f"create_p50_ms{suffix}": round(creates.quantile_ms(0.5), 2),
        f"create_p99_ms{suffix}": round(creates.quantile_ms(0.99), 2),
        f"create_errors{suffix}": len(creates.errors),
        f"closed_polls_per_s{suffix}": round(len(closed_loop.latencies) / CLOSED_LOOP_SECONDS, 1),
        f"closed_p99_ms{suffix}": round(closed_loop.quantile_ms(0.99), 1),
        f"closed_errors{suffix}": len(closed_loop.errors),
    }


async def _run_open_loop(
    settings: Settings, seeded: SeedData, seconds: float
) -> tuple[LatencyRecorder, LatencyRecorder]:
    polls, creates = LatencyRecorder(), LatencyRecorder()
    poll_requests = [_build_poll(polls, seeded.key, job_id) for job_id in seeded.jobs]
    body = json.dumps({"model": "starter", "training_file": seeded.file_id}).encode()
    create_requests = [(build_post(JOBS_PATH, seeded.key, body), creates.build_callback(b'"ftjob-'))] * CREATOR_COUNT
    poll_load = LoadProfile(settings.host, settings.port, POLL_PERIOD_SECONDS, WARM_UP_SECONDS, seconds)
    create_load = LoadProfile(settings.host, settings.port, CREATE_PERIOD_SECONDS, WARM_UP_SECONDS, seconds)
    async with asyncio.TaskGroup() as group:
        group.create_task(poll(poll_load, poll_requests))
        group.create_task(poll(create_load, create_requests))
    return polls, creates


async def _run_closed_loop(settings: Settings, seeded: SeedData) -> LatencyRecorder:
    """Run the same clients. Each sends its next request as soon as it has a response."""
    latencies = LatencyRecorder()
    requests = [_build_poll(latencies, seeded.key, job_id) for job_id in seeded.jobs]
    await poll(LoadProfile(settings.host, settings.port, 0.0, WARM_UP_SECONDS, CLOSED_LOOP_SECONDS), requests)
    return latencies


def _build_poll(latencies: LatencyRecorder, key: str, job_id: str) -> tuple[bytes, ResponseCallback]:
    return build_get(f"{JOBS_PATH}/{job_id}", key), latencies.build_callback(f'"{job_id}"'.encode())


async def _seed(settings: Settings) -> SeedData:
    """Create a project with a key, a file, and one running job per poller."""
    await migrate.upgrade(settings.database_url)
    db = databases.connect(settings.database_url)
    now = time.time()
    try:
        async with db.write() as session:
            project = await keys.create_project(session, "load")
            key, _ = await keys.create_key(session, project.id, "load")
            file = File(
                id=new_id("file"), project_id=project.id, created_at=now, filename="rows.jsonl", purpose="fine-tune",
                bytes=2, sha256="0" * 64, blob_key=f"projects/{project.id}/files/none",
            )  # fmt: skip
            jobs = [_build_job(project.id, file.id, now - number) for number in range(POLLER_COUNT)]
            session.add_all([file, *jobs])
        return SeedData(key, [job.id for job in jobs], file.id)
    finally:
        await db.close()


def _build_job(project_id: str, file_id: str, created_at: float) -> Job:
    """Build a running job. No worker is running, so its lease is never reclaimed."""
    return Job(
        id=new_id("job"),
        project_id=project_id,
        created_at=created_at,
        base_model="starter",
        task="chat",
        update={"type": "lora", "rank": 16, "alpha": 32, "dropout": 0.0, "target_modules": "all-linear"},
        method={"type": "supervised"},
        hyperparameters={"n_epochs": 3, "batch_size": 8, "learning_rate_multiplier": 1.0, "learning_rate": 3e-4},
        columns={},
        training_file=file_id,
        seed=1,
        state="running",
        attempt=1,
        owner="load",
        lease_until=created_at + 10**7,
        started_at=created_at,
        progress={"step": 120, "total_steps": 400, "epoch": 0.9, "tokens_per_second": 5123.0, "eta": 300.0},
    )


@contextmanager
def _run_api(settings: Settings) -> Iterator[None]:
    environment = build_child_environment(settings)
    with subprocess.Popen([sys.executable, "-m", "api.main"], env=environment) as process:
        try:
            # Wait for all processes: a client stays with the process that accepted its connection.
            services.wait_for(
                lambda: _count_listeners(settings.port) == API_PROCESSES and _is_healthy(settings), seconds=60
            )
            yield
        finally:
            process.terminate()
            process.wait()


def _count_listeners(port: int) -> int:
    """Count the processes that listen on the port."""
    sockets = psutil.net_connections("tcp")
    return sum(entry.status == psutil.CONN_LISTEN and entry.laddr.port == port for entry in sockets)


def _is_healthy(settings: Settings) -> bool:
    try:
        return httpx.get(f"http://{settings.host}:{settings.port}/healthz").status_code == 200
    except httpx.TransportError:
        return False


def _create_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _print_table(console: Console, name: str, phases: dict[str, LatencyRecorder]) -> None:
    table = Table(name, "requests", "p50 ms", "p99 ms", "slowest ms", "errors")
    for phase, recorder in phases.items():
        quantiles = [f"{recorder.quantile_ms(quantile):.1f}" for quantile in (0.5, 0.99, 1)]
        table.add_row(phase, str(len(recorder.latencies)), *quantiles, str(len(recorder.errors)))
    console.print(table)


if __name__ == "__main__":
    main()
