"""Helpers that set up runs, compute single steps, and compare tensors before and after training."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.run_folders import EventRecorder, hash_files, run_training
from training import run as runs
from training.errors import Interrupted
from training.run_events import Checkpoint, Metrics, Result, RunEvent
from training.spec import TrainSpec
from training.trainer import gradients, loop
from training.trainer.checkpoint import Progress
from training.trainer.gradients import BatchMetrics
from training.trainer.prepare import prepare
from training.trainer.setup import build_run, cache_frozen_features, compute_reference_logprobs
from training.trainer.state import StopFlag, TrainingRun


@dataclass(frozen=True)
class FinishedRun:
    """A run after its last step, with the model in memory."""

    run: TrainingRun
    events: EventRecorder
    progress: Progress
    initial_tensors: dict[str, Tensor]
    """Every tensor of the model before the first step."""

    @property
    def changed_tensors(self) -> set[str]:
        with self.run.full_eval_mode():
            now = collect_tensors(self.run.model)
        assert now.keys() == self.initial_tensors.keys()
        return {name for name in now if not torch.equal(now[name], self.initial_tensors[name])}


def set_up_run(folder: Path, cache_features: bool = True) -> TrainingRun:
    """Return a run before its first step, optionally with cached frozen-block outputs."""
    spec = TrainSpec.read(folder)
    run = build_run(folder, spec, prepare(folder, spec, StopFlag()), EventRecorder(), StopFlag())
    compute_reference_logprobs(run)
    if cache_features:
        cache_frozen_features(run, spec)
    return run


def run_to_completion(folder: Path) -> FinishedRun:
    run = set_up_run(folder)
    with run.full_eval_mode():
        before = {name: tensor.clone() for name, tensor in collect_tensors(run.model).items()}
    progress = loop.train(run, Progress())
    return FinishedRun(run, get_event_recorder(run), progress, before)


def assert_resumed_run_matches(
    create_folder: Callable[[str], Path], step: int, uninterrupted: EventRecorder
) -> EventRecorder:
    """Assert that a run stopped at ``step`` and resumed equals the uninterrupted run.

    Compares results, metrics, and proofs. The uninterrupted run is in the folder ``whole``. Returns
    the events of the stopped run.
    """
    first, second = create_folder(f"{step}-first"), create_folder(f"{step}-second")
    events = run_until_step(first, step)
    shutil.copytree(first / events.of_type(Checkpoint)[-1].path, second / "resume")
    rest = run_training(second)
    assert hash_files(second / "result") == hash_files(first.parent / "whole/result")
    assert events.clock_independent_metrics + rest.clock_independent_metrics == uninterrupted.clock_independent_metrics
    [result], [expected] = rest.of_type(Result), uninterrupted.of_type(Result)
    assert (result.resume_proof, result.metrics) == (expected.resume_proof, expected.metrics)
    return events


def run_until_step(folder: Path, step: int) -> EventRecorder:
    """Stop a run at ``step`` and return its events."""
    events, stop = EventRecorder(), StopFlag()

    def record_and_stop(line: RunEvent) -> None:
        events(line)
        stop.requested |= isinstance(line, Metrics) and line.step == step

    with pytest.raises(Interrupted) as interrupted:
        runs.train(folder, record_and_stop, stop)
    assert interrupted.value.step == step
    return events


def get_event_recorder(run: TrainingRun) -> EventRecorder:
    assert isinstance(run.emit, EventRecorder)
    return run.emit


def collect_tensors(model: Any) -> dict[str, Tensor]:
    """Return parameters and buffers under all their names, including those that are not saved."""
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return {name: tensor.detach() for name, tensor in named}


def compute_step(
    run: TrainingRun, examples: Sequence[Any], step: int = 1, micro_batches: int = 1
) -> tuple[BatchMetrics, dict[str, Tensor]]:
    """Return a batch's metrics and clipped gradients with the step's dropout, without an update."""
    run.train_mode()
    run.optimizer.zero_grad()
    metrics = gradients.compute_gradients(run, examples, micro_batches, step)
    weights = run.trainable_parameters
    return metrics, {name: weight.grad.clone() for name, weight in weights.items() if weight.grad is not None}
