"""The memory that a stack's training children take at most, as the kernel counts it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

POLL_SECONDS = 0.25


class PeakMemory:
    """Bytes resident at most (``VmHWM``) of any one child; pages shared with the parent that forked it count too."""

    def __init__(self) -> None:
        self.bytes = 0

    def sample(self) -> None:
        """At every descendant of this process that a warm parent has forked."""
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess, OSError):
                parent = process.parent()
                if parent and "jobs.runner.forkserver" in parent.cmdline():
                    self.bytes = max(self.bytes, _read_peak_rss(process.pid))


@contextmanager
def track_peak_memory() -> Iterator[PeakMemory]:
    """Looked at four times a second for as long as the block lasts; the kernel keeps the peak between looks."""
    peak, ended = PeakMemory(), threading.Event()

    def watch() -> None:
        while not ended.wait(POLL_SECONDS):
            peak.sample()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()


def _read_peak_rss(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:
        kilobytes = next((line.split()[1] for line in file if line.startswith("VmHWM")), "0")
    return 1024 * int(kilobytes)
