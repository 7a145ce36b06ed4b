"""Progress of a run's long phases: rate-limited events and a check for a stop request.

The code that does the work reports it, from the main thread and only after a unit of work, so a
process that hangs falls silent. One unit may take longer than the worker's ``stall_seconds``: a
step of a large model on a slow machine. Each event therefore states how long its phase may stay
silent: ``SILENCE_FACTOR`` times the longest unit so far, or the caller's upper estimate before the
first unit.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from training.run_events import PhaseName, PhaseProgress, RunEvent

REPORT_SECONDS = 5.0
"""Minimum time between two events of one phase."""
CHANGE_SECONDS = 0.5
"""Minimum time before the event of another phase. Short evaluations are not reported."""
SILENCE_FACTOR = 10.0
SIGNIFICANT_SECONDS = 60.0
"""A phase that may stay silent for longer says so before it does, without waiting."""

Report = Callable[[float, float], None]
"""Function of work done and total work. Raises ``Interrupted`` if the run must stop."""


def ignore_progress(done: float, total: float) -> None:
    """Report nothing and never stop."""


class ProgressReporter:
    """Emits ``PhaseProgress`` and raises ``Interrupted`` after a stop request."""

    def __init__(
        self,
        emit: Callable[[RunEvent], None],
        raise_if_stopped: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._emit = emit
        self._raise_if_stopped = raise_if_stopped
        self._clock = clock
        self._emitted: PhaseProgress | None = None
        self._emitted_at = float("-inf")
        self._phase: PhaseName | None = None
        self._done = -1.0
        self._reported_at = 0.0
        self._longest_units: dict[PhaseName, float] = {}

    def bind(self, phase: PhaseName, max_unit_seconds: float = 0.0) -> Report:
        """Return :meth:`report` for one phase, followed by the check for a stop request."""

        def report(done: float, total: float) -> None:
            self.report(phase, done, total, max_unit_seconds)
            self._raise_if_stopped()

        return report

    def report(self, phase: PhaseName, done: float, total: float, max_unit_seconds: float = 0.0) -> None:
        """Record that ``done`` of ``total`` is done, and emit an event if one is due.

        ``max_unit_seconds``: upper estimate of the time until the next report.
        """
        now = self._clock()
        if (phase, done) == (self._phase, self._done):
            self._reported_at = now
            return
        if self._phase == phase:
            self._longest_units[phase] = max(self._longest_units.get(phase, 0.0), now - self._reported_at)
        self._phase, self._done, self._reported_at = phase, done, now
        longest = self._longest_units.get(phase)
        silence = max_unit_seconds if longest is None else SILENCE_FACTOR * longest
        if self._is_due(phase, silence, now):
            self._emitted = PhaseProgress(phase=phase, done=done, total=total, max_silence_seconds=silence)
            self._emitted_at = now
            self._emit(self._emitted)

    def _is_due(self, phase: PhaseName, silence: float, now: float) -> bool:
        if self._emitted is None:
            return True
        interval = REPORT_SECONDS if phase == self._emitted.phase else CHANGE_SECONDS
        announced = max(2 * self._emitted.max_silence_seconds, SIGNIFICANT_SECONDS)
        return now - self._emitted_at >= interval or silence > announced
