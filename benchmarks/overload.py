"""``make bench-overload``: goodput of chat completions at 10× the peak request rate.

The first phase measures the peak: a few clients, each of which sends its next request as soon as it
has a response. In the second phase, clients send requests at ten times that rate and ignore
``retry-after``. Goodput is the throughput of the second phase divided by the peak.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import httpx
import psutil
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.load.poller import LoadProfile, build_post, poll
from benchmarks.result import write_result
from examples.stack import run_stack

PEAK_CLIENTS = 128
OVERLOAD_FACTOR = 10
PERIOD_SECONDS = 4.0
"""Seconds between two requests of one client in the second phase."""
WARM_UP_SECONDS = 15.0
MAX_TOKENS = 16
EXPECTED_STATUSES = {b"200", b"429", b"503"}


@dataclass
class PhaseStats:
    """Responses of one phase."""

    seconds: float
    """Length of the measurement after the warm-up."""
    completion_times: list[float] = field(default_factory=list)
    """Monotonic time at which each successful response arrived."""
    started_at: float = field(default_factory=time.monotonic)
    statuses: Counter[bytes] = field(default_factory=Counter)
    missing_retry_after: int = 0
    """Rejections without a ``retry-after`` header."""
    errors: list[str] = field(default_factory=list)

    @property
    def rejections(self) -> int:
        return self.statuses[b"503"] + self.statuses[b"429"]

    @property
    def throughput(self) -> float:
        """Successful responses per second within the measurement, regardless of when they were
        requested.
        """
        begin = self.started_at + WARM_UP_SECONDS
        return sum(begin <= at < begin + self.seconds for at in self.completion_times) / self.seconds

    def record(self, seconds: float, response: bytes | Exception) -> None:
        if isinstance(response, Exception):
            self.errors.append(f"{type(response).__name__}: {response}")
            return
        status = response[9:12]
        self.statuses[status] += 1
        if status == b"200":
            self.completion_times.append(time.monotonic())
        elif b"retry-after:" not in response.lower():
            self.missing_retry_after += 1
        if status not in EXPECTED_STATUSES:
            self.errors.append(response[:200].decode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="seconds of measurement in each phase")
    arguments = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="lb") as folder, run_stack(Path(folder), console) as client:
        base = httpx.URL(str(client.base_url))
        body = {"model": "starter", "max_tokens": MAX_TOKENS, "messages": [{"role": "user", "content": "Who are you?"}]}
        request = build_post("/v1/chat/completions", client.api_key, json.dumps(body).encode())
        gc.freeze()
        peak = _run_phase(base, request, PEAK_CLIENTS, 0.0, arguments.seconds)
        client_count = math.ceil(OVERLOAD_FACTOR * peak.throughput * PERIOD_SECONDS)
        with (
            console.status(f"{client_count} clients, {client_count / PERIOD_SECONDS:.0f} chats per second …"),
            _track_memory() as memory,
        ):
            overload = _run_phase(base, request, client_count, PERIOD_SECONDS, arguments.seconds)
    _print_table(console, {"peak": peak, "overload": overload})
    metrics = {
        "peak_per_s": round(peak.throughput, 1),
        "offered_per_s": round(client_count / PERIOD_SECONDS, 1),
        "answered_per_s": round(overload.throughput, 1),
        "goodput_share": round(overload.throughput / peak.throughput, 3),
        "refused": overload.rejections,
        "refused_without_retry_after": overload.missing_retry_after,
        "faults": len(peak.errors + overload.errors),
        "memory_mb": round(memory["before"]),
        "memory_grown_mb": round(memory["most"] - memory["before"]),
    }
    for error in (peak.errors + overload.errors)[:3]:
        console.print(error)
    write_result("overload", f"python -m benchmarks.overload --seconds {arguments.seconds:g}", metrics)


def _run_phase(base: httpx.URL, request: bytes, clients: int, period: float, seconds: float) -> PhaseStats:
    assert base.port is not None
    stats = PhaseStats(seconds)
    # The load has no warm-up of its own, so every response is recorded. A response within the
    # measurement may belong to a request that was sent during the warm-up.
    load = LoadProfile(base.host, base.port, period, warm_up=0.0, seconds=WARM_UP_SECONDS + seconds)
    uvloop.run(poll(load, [(request, stats.record)] * clients))
    return stats


@contextmanager
def _track_memory() -> Iterator[dict[str, float]]:
    """Measure the RSS of all processes of the stack in MiB: ``before`` the block, and the ``most``
    within it.
    """
    processes, ended = psutil.Process().children(recursive=True), Event()

    def measure_mb() -> float:
        return float(sum(process.memory_info().rss for process in processes if process.is_running())) / 2**20

    usage = {"before": measure_mb(), "most": 0.0}

    def sample() -> None:
        while not ended.wait(0.5):
            usage["most"] = max(usage["most"], measure_mb())

    sampler = Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield usage
    finally:
        ended.set()
        sampler.join()


def _print_table(console: Console, phases: dict[str, PhaseStats]) -> None:
    table = Table("", "completed/s", "rejected", "errors")
    for name, stats in phases.items():
        table.add_row(name, f"{stats.throughput:.1f}", str(stats.rejections), str(len(stats.errors)))
    console.print(table)


if __name__ == "__main__":
    main()
