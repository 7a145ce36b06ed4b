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

from benchmarks.load.poller import Load, Times, poll, post
from benchmarks.result import write
from examples.stack import running_stack

CLIENTS = 128
TIMES = 10
PERIOD_SECONDS = 4.0
"""Between two requests of one of the many clients."""
WARM_UP_SECONDS = 5.0
TOKENS = 16
MAY_BE = {b"200", b"429", b"503"}


@dataclass
class Tally:
    """Of a phase: what was answered, and how."""

    finished: list[float] = field(default_factory=list)
    """When each answer was there, in seconds since the first of all, refusals included."""
    began: float = 0.0
    statuses: Counter[bytes] = field(default_factory=Counter)
    answered: Times = field(default_factory=Times)
    unannounced: int = 0
    """Refusals without ``retry-after``."""
    faults: list[str] = field(default_factory=list)

    def per_second(self, seconds: float) -> float:
        """Answers in the first ``seconds``: what is still answered when nobody asks any more does not count."""
        return sum(each < seconds for each in self.finished) / seconds

    def note(self, seconds: float, answer: bytes | Exception) -> None:
        now = time.monotonic()
        self.began = self.began or now
        if isinstance(answer, Exception):
            self.faults.append(f"{type(answer).__name__}: {answer}")
            return
        status = answer[9:12]
        self.statuses[status] += 1
        if status == b"200":
            self.finished.append(now - self.began)
            self.answered.seconds.append(seconds)
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
        per_second = peak.per_second(asked.seconds)
        many = math.ceil(TIMES * per_second * PERIOD_SECONDS)
        with console.status(f"{many} clients, {TIMES * per_second:.0f} chats a second …"), _memory() as grown:
            flood = _phase(base, request, many, PERIOD_SECONDS, asked.seconds)
    good = flood.per_second(asked.seconds)
    _show(console, {"peak": peak, "overload": flood}, asked.seconds)
    figures = {
        "peak_per_s": round(per_second, 1),
        "offered_per_s": round(many / PERIOD_SECONDS, 1),
        "answered_per_s": round(good, 1),
        "goodput_share": round(good / per_second, 3),
        "answered_p50_s": round(flood.answered.share(0.5) / 1000, 2),
        "answered_p99_s": round(flood.answered.share(0.99) / 1000, 2),
        "refused": flood.statuses[b"503"] + flood.statuses[b"429"],
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
    tally = Tally()
    load = Load(base.host, base.port, period, WARM_UP_SECONDS, seconds)
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


def _show(console: Console, phases: dict[str, Tally], seconds: float) -> None:
    table = Table("", "answered/s", "refused/s", "p50 s", "p99 s", "faults")
    for name, tally in phases.items():
        refused = tally.statuses[b"503"] + tally.statuses[b"429"]
        shares = [f"{tally.answered.share(share) / 1000:.2f}" for share in (0.5, 0.99)]
        table.add_row(
            name, f"{tally.per_second(seconds):.1f}", f"{refused / seconds:.1f}", *shares, str(len(tally.faults))
        )
    console.print(table)


if __name__ == "__main__":
    main()
