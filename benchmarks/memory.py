"""Peak memory of a stack's training processes, as the kernel counts it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

POLL_SECONDS = 0.25


class PeakMemory:
    """Largest peak RSS (``VmHWM``, bytes) of a single training process.

    Pages shared with the fork server count too.
    """

    def __init__(self) -> None:
        self.bytes = 0

    def sample(self) -> None:
        """Read the peak of every descendant of this process that a fork server has started."""
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess, OSError):
                parent = process.parent()
                if parent and "jobs.runner.forkserver" in parent.cmdline():
                    self.bytes = max(self.bytes, _read_peak_rss(process.pid))


@contextmanager
def track_peak_memory() -> Iterator[PeakMemory]:
    """Sample the peak four times per second until the block ends.

    The kernel keeps it between samples.
    """
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
