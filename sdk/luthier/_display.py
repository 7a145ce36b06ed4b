"""Display of a running job: a progress bar on a terminal, log lines elsewhere."""

from __future__ import annotations

import itertools
import shutil
import sys
import time
from collections.abc import Sequence
from typing import Protocol, TextIO

from luthier.types import JobData

BLOCKS = "▁▂▃▄▅▆▇█"
_SPARKLINE_WIDTH = 16
_BAR_WIDTH = 24
_LINE_INTERVAL_SECONDS = 30.0
"""Interval of lines about a running job on an output that is no terminal."""


class Display(Protocol):
    """Protocol of the display that ``wait`` updates."""

    shows_losses: bool
    """False saves the requests for losses."""

    def update(self, job: JobData, losses: Sequence[float]) -> None:
        """Show the job. ``losses`` are the training losses so far, oldest first."""

    def close(self) -> None:
        """End the display. ``wait`` calls it when it returns or raises."""


class BarDisplay:
    """Progress bar: one line that is overwritten on each update."""

    shows_losses = True

    def __init__(self, out: TextIO) -> None:
        self._out, self._started_at = out, time.monotonic()

    def update(self, job: JobData, losses: Sequence[float]) -> None:
        width = shutil.get_terminal_size().columns - 1
        self._out.write(f"\r\x1b[K{format_status_line(job, losses, time.monotonic() - self._started_at)[:width]}")
        self._out.flush()

    def close(self) -> None:
        self._out.write("\n")
        self._out.flush()


class LineDisplay:
    """Log lines: one per change of state, and one every 30 seconds."""

    shows_losses = True

    def __init__(self, out: TextIO) -> None:
        self._out, self._started_at, self._state, self._last_printed_at = out, time.monotonic(), "", 0.0

    def update(self, job: JobData, losses: Sequence[float]) -> None:
        now = time.monotonic()
        if job.state != self._state or now - self._last_printed_at >= _LINE_INTERVAL_SECONDS:
            self._state, self._last_printed_at = job.state, now
            print(
                f"{job.id} {format_status_line(job, losses, now - self._started_at, bar=False)}",
                file=self._out,
                flush=True,
            )

    def close(self) -> None:
        pass


class Quiet:
    """Display that shows nothing."""

    shows_losses = False

    def update(self, job: JobData, losses: Sequence[float]) -> None:
        pass

    def close(self) -> None:
        pass


def choose_display(out: TextIO | None = None) -> Display:
    """Return a display for ``out``, by default stderr, so that it does not mix with a program's
    output.
    """
    out = out or sys.stderr
    return BarDisplay(out) if out.isatty() else LineDisplay(out)


def format_status_line(job: JobData, losses: Sequence[float], seconds: float, *, bar: bool = True) -> str:
    """Format ``running ━━━━────  120/300 steps  loss 1.234 ▇▅▃▂▁  1:05  12 s left``."""
    words = [job.state]
    if job.progress is not None:
        step, steps = job.progress.step, job.progress.total_steps
        if bar:
            done = round(_BAR_WIDTH * step / max(steps, 1))
            words.append("━" * done + "─" * (_BAR_WIDTH - done))
        words.append(f"{step}/{steps} steps")
    if losses:
        words.append(f"loss {losses[-1]:.3f} {format_sparkline(losses, _SPARKLINE_WIDTH)}")
    words.append(f"{int(seconds) // 60}:{int(seconds) % 60:02d}")
    if job.progress is not None and job.progress.eta:
        words.append(f"{job.progress.eta:.0f} s left")
    return "  ".join(words)


def format_sparkline(values: Sequence[float], width: int = 48) -> str:
    """Render the values as at most ``width`` blocks.

    Each block is the mean of its part of the values.
    """
    count = min(width, len(values))
    edges = [len(values) * index // count for index in range(count + 1)] if count else []
    means = [sum(values[start:end]) / (end - start) for start, end in itertools.pairwise(edges)]
    low = min(means, default=0.0)
    span = (max(means, default=0.0) - low) or 1.0
    return "".join(BLOCKS[int((mean - low) / span * (len(BLOCKS) - 1))] for mean in means)
