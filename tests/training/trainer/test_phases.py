"""Tests that long phases report their progress, and that a stop within one loses nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.training.run_folders import (
    LABEL_ROWS,
    LORA,
    EventRecorder,
    Row,
    create_run_folder,
    hash_files,
    run_training,
)
from tests.training.sample_rows import SAMPLES
from training import progress, run
from training.errors import Interrupted
from training.run_events import Checkpoint, PhaseProgress, Result, RunEvent
from training.trainer.checkpoint import Progress
from training.trainer.state import StopFlag

pytestmark = pytest.mark.integration

HYPER: Row = {"n_epochs": 2, "batch_size": 8, "gradient_accumulation_steps": 4, "eval_every": 1, "learning_rate": 0.01}
LAYERS: Row = {"type": "layers", "last": 1}


@pytest.fixture(autouse=True)
def _report_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "REPORT_SECONDS", 0.0)
    monkeypatch.setattr(progress, "CHANGE_SECONDS", 0.0)


class StopInPhase(EventRecorder):
    """Event recorder that requests a stop at the ``count``-th event of a phase."""

    def __init__(self, phase: str, count: int) -> None:
        super().__init__()
        self.phase = phase
        self.count = count
        self.stop = StopFlag()

    def __call__(self, event: RunEvent) -> None:
        super().__call__(event)
        if isinstance(event, PhaseProgress) and event.phase == self.phase:
            self.count -= 1
            self.stop.requested |= self.count == 0


def list_phases(events: EventRecorder) -> list[str]:
    """Return the phases in order, each once per stay."""
    phases = [event.phase for event in events.of_type(PhaseProgress)]
    return [phase for index, phase in enumerate(phases) if index == 0 or phases[index - 1] != phase]


RUNS: dict[str, tuple[str, str, str, Row]] = {
    "dpo": ("dpo", "chat", "chat_base", LORA),
    "layers": ("supervised", "text-classification", "encoder_base", LAYERS),
    "seq2seq": ("supervised", "seq2seq", "seq2seq_base", LORA),
}


@pytest.fixture
def create_folder(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    def create(kind: str, name: str) -> Path:
        method, task, base, update = RUNS[kind]
        rows = LABEL_ROWS if kind == "layers" else SAMPLES[method, task].rows
        return create_run_folder(
            tmp_path / kind / name,
            request.getfixturevalue(base),
            task,
            update,
            method=method,
            training=rows,
            validation=rows[:5],
            hyperparameters=HYPER,
        )

    return create


@pytest.mark.parametrize(
    ("kind", "before_training"),
    [
        ("dpo", ["encoding", "training", "reference", "evaluating"]),
        ("layers", ["encoding", "training", "features", "evaluating"]),
    ],
)
def test_every_phase_is_reported_in_order(create_folder: Any, kind: str, before_training: list[str]) -> None:
    events = run_training(create_folder(kind, "run"))
    phases = list_phases(events)
    assert phases[: len(before_training)] == before_training
    assert phases[-1] == "saving"
    assert {"training", "evaluating"} < set(phases[len(before_training) :])
    reported = events.of_type(PhaseProgress)
    assert all(0 <= event.done <= event.total for event in reported)
    # Within a step, between its micro-batches.
    assert {event.done % 1 for event in reported if event.phase == "training"} > {0, 0.25, 0.5}


@pytest.mark.parametrize(
    ("kind", "phase", "count"),
    [
        ("dpo", "encoding", 1),
        ("dpo", "reference", 1),
        ("layers", "features", 1),
        # Before the first step, and after a step: its evaluation is left to the next attempt.
        ("layers", "evaluating", 1),
        ("layers", "evaluating", 5),
        ("seq2seq", "evaluating", 4),
        # Between micro-batches: the step that was begun is dropped.
        ("layers", "training", 4),
        ("dpo", "training", 7),
    ],
)
def test_a_run_that_is_stopped_in_a_phase_loses_nothing(create_folder: Any, kind: str, phase: str, count: int) -> None:
    whole_folder, first, second = (create_folder(kind, name) for name in ("whole", "first", "second"))
    whole = run_training(whole_folder)
    events = StopInPhase(phase, count)
    with pytest.raises(Interrupted) as interrupted:
        run.train(first, events, events.stop)
    assert events.of_type(Result) == []
    checkpoints = events.of_type(Checkpoint)
    if checkpoints:
        assert interrupted.value.step == checkpoints[-1].step
        saved = Progress.model_validate_json((first / checkpoints[-1].path / "state/progress.json").read_bytes())
        assert (saved.unreported is not None) == (phase == "evaluating")
        shutil.copytree(first / checkpoints[-1].path, second / "resume")
    else:
        assert interrupted.value.step == 0
    rest = run_training(second)
    assert hash_files(second / "result") == hash_files(whole_folder / "result")
    assert events.clock_independent_metrics + rest.clock_independent_metrics == whole.clock_independent_metrics
    [result], [expected] = rest.of_type(Result), whole.of_type(Result)
    assert (result.resume_proof, result.metrics) == (expected.resume_proof, expected.metrics)


def test_a_stop_while_final_metrics_are_computed_is_resumed_at_them(create_folder: Any) -> None:
    whole = run_training(create_folder("seq2seq", "whole"))
    count = sum(event.phase == "evaluating" for event in whole.of_type(PhaseProgress))
    first, second = create_folder("seq2seq", "first"), create_folder("seq2seq", "second")
    events = StopInPhase("evaluating", count)
    with pytest.raises(Interrupted):
        run.train(first, events, events.stop)
    assert events.clock_independent_metrics == whole.clock_independent_metrics
    shutil.copytree(first / events.of_type(Checkpoint)[-1].path, second / "resume")
    rest = run_training(second)
    assert rest.clock_independent_metrics == []
    assert rest.of_type(Result)[0].metrics == whole.of_type(Result)[0].metrics
    assert hash_files(second / "result") == hash_files(first.parent / "whole/result")
