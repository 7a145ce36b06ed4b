"""``make bench-overload``: ten times as many chats as the service can answer.

First as many as a few clients get answered, each asking again at once: the peak. Then clients that ask at ten times
that rate and never wait as ``retry-after`` asks them to. What is answered then, beside the peak, is the goodput.
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
"""Between two requests of one of the many clients."""
WARM_UP_SECONDS = 15.0
MAX_TOKENS = 16
EXPECTED_STATUSES = {b"200", b"429", b"503"}


@dataclass
class PhaseStats:
    """Of a phase: what was answered, and how."""

    seconds: float
    """Of measuring, after the warm-up."""
    completion_times: list[float] = field(default_factory=list)
    """When each answer was there."""
    started_at: float = field(default_factory=time.monotonic)
    statuses: Counter[bytes] = field(default_factory=Counter)
    missing_retry_after: int = 0
    """Refusals without ``retry-after``."""
    errors: list[str] = field(default_factory=list)

    @property
    def rejections(self) -> int:
        return self.statuses[b"503"] + self.statuses[b"429"]

    @property
    def throughput(self) -> float:
        """Answers that were there while it was measured, whenever they had been asked for."""
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
    parser.add_argument("--seconds", type=float, default=30.0, help="of measuring in each phase")
    asked = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="lb") as folder, run_stack(Path(folder), console) as client:
        base = httpx.URL(str(client.base_url))
        body = {"model": "starter", "max_tokens": MAX_TOKENS, "messages": [{"role": "user", "content": "Who are you?"}]}
        request = build_post("/v1/chat/completions", client.api_key, json.dumps(body).encode())
        gc.freeze()
        peak = _run_phase(base, request, PEAK_CLIENTS, 0.0, asked.seconds)
        many = math.ceil(OVERLOAD_FACTOR * peak.throughput * PERIOD_SECONDS)
        with console.status(f"{many} clients, {many / PERIOD_SECONDS:.0f} chats a second …"), _track_memory() as grown:
            flood = _run_phase(base, request, many, PERIOD_SECONDS, asked.seconds)
    _print_table(console, {"peak": peak, "overload": flood})
    figures = {
        "peak_per_s": round(peak.throughput, 1),
        "offered_per_s": round(many / PERIOD_SECONDS, 1),
        "answered_per_s": round(flood.throughput, 1),
        "goodput_share": round(flood.throughput / peak.throughput, 3),
        "refused": flood.rejections,
        "refused_without_retry_after": flood.missing_retry_after,
        "faults": len(peak.errors + flood.errors),
        "memory_mb": round(grown["before"]),
        "memory_grown_mb": round(grown["most"] - grown["before"]),
    }
    for fault in (peak.errors + flood.errors)[:3]:
        console.print(fault)
    write_result("overload", f"python -m benchmarks.overload --seconds {asked.seconds:g}", figures)


def _run_phase(base: httpx.URL, request: bytes, clients: int, period: float, seconds: float) -> PhaseStats:
    assert base.port is not None
    tally = PhaseStats(seconds)
    # All of it is noted: who is answered while it is measured may have asked long before.
    load = LoadProfile(base.host, base.port, period, warm_up=0.0, seconds=WARM_UP_SECONDS + seconds)
    uvloop.run(poll(load, [(request, tally.record)] * clients))
    return tally


@contextmanager
def _track_memory() -> Iterator[dict[str, float]]:
    """Of all processes of the stack, in megabytes: ``before`` the block, and the ``most`` within it."""
    stack, over = psutil.Process().children(recursive=True), Event()

    def measure_mb() -> float:
        return float(sum(process.memory_info().rss for process in stack if process.is_running())) / 2**20

    told = {"before": measure_mb(), "most": 0.0}

    def sample() -> None:
        while not over.wait(0.5):
            told["most"] = max(told["most"], measure_mb())

    sampler = Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield told
    finally:
        over.set()
        sampler.join()


def _print_table(console: Console, phases: dict[str, PhaseStats]) -> None:
    table = Table("", "answered/s", "refused", "faults")
    for name, tally in phases.items():
        table.add_row(name, f"{tally.throughput:.1f}", str(tally.rejections), str(len(tally.errors)))
    console.print(table)


if __name__ == "__main__":
    main()
