"""Tests for the events of long phases: their rate, their silence, and the check for a stop."""

from __future__ import annotations

import pytest

from training.errors import Interrupted
from training.progress import REPORT_SECONDS, SIGNIFICANT_SECONDS, SILENCE_FACTOR, ProgressReporter
from training.run_events import PhaseProgress, RunEvent
from training.trainer.state import StopFlag


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.events: list[PhaseProgress] = []
        self.stop = StopFlag()
        self.reporter = ProgressReporter(self._record, self.stop.raise_if_set, lambda: self.now)

    def _record(self, event: RunEvent) -> None:
        assert isinstance(event, PhaseProgress)
        self.events.append(event)


def test_events_are_seconds_apart() -> None:
    clock = Clock()
    for done in range(80):
        clock.reporter.report("encoding", done, 80)
        clock.now += REPORT_SECONDS / 20
    assert [event.done for event in clock.events] == [0, 20, 40, 60]


def test_a_change_of_phase_is_reported_sooner() -> None:
    clock = Clock()
    clock.reporter.report("training", 0, 9)
    clock.now += 1
    clock.reporter.report("evaluating", 0, 9)
    # An evaluation of a tenth of a second is not worth an event.
    clock.now += 0.1
    clock.reporter.report("training", 1, 9)
    assert [event.phase for event in clock.events] == ["training", "evaluating"]


def test_work_that_does_not_advance_gives_no_event() -> None:
    clock = Clock()
    for _ in range(100):
        clock.reporter.report("encoding", 7, 9)
        clock.now += REPORT_SECONDS
    assert len(clock.events) == 1


def test_the_allowed_silence_grows_with_the_longest_unit() -> None:
    clock = Clock()
    clock.reporter.report("training", 0, 9, max_unit_seconds=5000)
    assert clock.events[-1].max_silence_seconds == 5000
    clock.now += 300
    clock.reporter.report("training", 1, 9, max_unit_seconds=5000)
    assert clock.events[-1].max_silence_seconds == 300 * SILENCE_FACTOR
    clock.now += 6
    clock.reporter.report("training", 2, 9, max_unit_seconds=5000)
    assert clock.events[-1].max_silence_seconds == 300 * SILENCE_FACTOR


def test_a_phase_announces_a_long_silence_before_it() -> None:
    clock = Clock()
    clock.reporter.report("training", 0, 9)
    clock.reporter.report("saving", 0, 9, max_unit_seconds=SIGNIFICANT_SECONDS + 1)
    assert [event.phase for event in clock.events] == ["training", "saving"]


def test_a_stop_request_ends_a_bound_phase_and_not_a_report() -> None:
    clock = Clock()
    report = clock.reporter.bind("features")
    report(0, 3)
    clock.stop.requested = True
    clock.reporter.report("saving", 1, 3)
    with pytest.raises(Interrupted):
        report(1, 3)
