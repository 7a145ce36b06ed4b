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

from benchmarks.load.poller import Load, poll, post
from benchmarks.result import write
from examples.stack import running_stack

CLIENTS = 128
TIMES = 10
PERIOD_SECONDS = 4.0
"""Between two requests of one of the many clients."""
WARM_UP_SECONDS = 15.0
TOKENS = 16
MAY_BE = {b"200", b"429", b"503"}


@dataclass
class Tally:
    """Of a phase: what was answered, and how."""

    seconds: float
    """Of measuring, after the warm-up."""
    finished: list[float] = field(default_factory=list)
    """When each answer was there."""
    began: float = field(default_factory=time.monotonic)
    statuses: Counter[bytes] = field(default_factory=Counter)
    unannounced: int = 0
    """Refusals without ``retry-after``."""
    faults: list[str] = field(default_factory=list)

    @property
    def refused(self) -> int:
        return self.statuses[b"503"] + self.statuses[b"429"]

    @property
    def per_second(self) -> float:
        """Answers that were there while it was measured, whenever they had been asked for."""
        begin = self.began + WARM_UP_SECONDS
        return sum(begin <= at < begin + self.seconds for at in self.finished) / self.seconds

    def note(self, seconds: float, answer: bytes | Exception) -> None:
        if isinstance(answer, Exception):
            self.faults.append(f"{type(answer).__name__}: {answer}")
            return
        status = answer[9:12]
        self.statuses[status] += 1
        if status == b"200":
            self.finished.append(time.monotonic())
        elif b"retry-after:" not in answer.lower():
            self.unannounced += 1
        if status not in MAY_BE:
            self.faults.append(answer[:200].decode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="of measuring in each phase")
    asked = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="lb") as folder, running_stack(Path(folder), console) as client:
        base = httpx.URL(str(client.base_url))
        body = {"model": "starter", "max_tokens": TOKENS, "messages": [{"role": "user", "content": "Who are you?"}]}
        request = post("/v1/chat/completions", client.api_key, json.dumps(body).encode())
        gc.freeze()
        peak = _phase(base, request, CLIENTS, 0.0, asked.seconds)
        many = math.ceil(TIMES * peak.per_second * PERIOD_SECONDS)
        with console.status(f"{many} clients, {many / PERIOD_SECONDS:.0f} chats a second …"), _memory() as grown:
            flood = _phase(base, request, many, PERIOD_SECONDS, asked.seconds)
    _show(console, {"peak": peak, "overload": flood})
    figures = {
        "peak_per_s": round(peak.per_second, 1),
        "offered_per_s": round(many / PERIOD_SECONDS, 1),
        "answered_per_s": round(flood.per_second, 1),
        "goodput_share": round(flood.per_second / peak.per_second, 3),
        "refused": flood.refused,
        "refused_without_retry_after": flood.unannounced,
        "faults": len(peak.faults + flood.faults),
        "memory_mb": round(grown["before"]),
        "memory_grown_mb": round(grown["most"] - grown["before"]),
    }
    for fault in (peak.faults + flood.faults)[:3]:
        console.print(fault)
    write("overload", f"python -m benchmarks.overload --seconds {asked.seconds:g}", figures)


def _phase(base: httpx.URL, request: bytes, clients: int, period: float, seconds: float) -> Tally:
    assert base.port is not None
    tally = Tally(seconds)
    # All of it is noted: who is answered while it is measured may have asked long before.
    load = Load(base.host, base.port, period, warm_up=0.0, seconds=WARM_UP_SECONDS + seconds)
    uvloop.run(poll(load, [(request, tally.note)] * clients))
    return tally


@contextmanager
def _memory() -> Iterator[dict[str, float]]:
    """Of all processes of the stack, in megabytes: ``before`` the block, and the ``most`` within it."""
    stack, over = psutil.Process().children(recursive=True), Event()

    def held() -> float:
        return float(sum(process.memory_info().rss for process in stack if process.is_running())) / 2**20

    told = {"before": held(), "most": 0.0}

    def sample() -> None:
        while not over.wait(0.5):
            told["most"] = max(told["most"], held())

    sampler = Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield told
    finally:
        over.set()
        sampler.join()


def _show(console: Console, phases: dict[str, Tally]) -> None:
    table = Table("", "answered/s", "refused", "faults")
    for name, tally in phases.items():
        table.add_row(name, f"{tally.per_second:.1f}", str(tally.refused), str(len(tally.faults)))
    console.print(table)


if __name__ == "__main__":
    main()
