"""A run taken apart: what the loop is given, what one step makes of it, and every tensor before and after."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.run_folders import Lines, hashes, trained
from training import run as runs
from training.errors import Interrupted
from training.run_events import Checkpoint, Line, Metrics, Result
from training.spec import TrainSpec
from training.trainer import gradients, loop
from training.trainer.checkpoint import Progress
from training.trainer.gradients import Measured
from training.trainer.prepare import prepare
from training.trainer.setup import anchor, assemble, keep_features
from training.trainer.state import Run, Stop


@dataclass(frozen=True)
class Done:
    """A run after its last step, its model still in memory."""

    run: Run
    lines: Lines
    progress: Progress
    before: dict[str, Tensor]
    """Every tensor of the model before the first step."""

    @property
    def moved(self) -> set[str]:
        with self.run.whole():
            now = tensors(self.run.model)
        assert now.keys() == self.before.keys()
        return {name for name in now if not torch.equal(now[name], self.before[name])}


def assembled(folder: Path, keep: bool = True) -> Run:
    """Ready for its first step. ``keep`` False: without the features of frozen blocks."""
    spec = TrainSpec.read(folder)
    run = assemble(folder, spec, prepare(folder, spec, Stop()), Lines(), Stop())
    anchor(run)
    if keep:
        keep_features(run, spec)
    return run


def ran(folder: Path) -> Done:
    run = assembled(folder)
    with run.whole():
        before = {name: tensor.clone() for name, tensor in tensors(run.model).items()}
    progress = loop.train(run, Progress())
    return Done(run, lines_of(run), progress, before)


def assert_unbroken(make: Callable[[str], Path], step: int, whole: Lines) -> Lines:
    """A run stopped at a step, and one that goes on from there, are ``whole``, which stands in ``make("whole")``'s
    place: result, figures and proof. What the first of them told."""
    first, second = make(f"{step}-first"), make(f"{step}-second")
    heard = stopped(first, step)
    shutil.copytree(first / heard.of(Checkpoint)[-1].path, second / "resume")
    rest = trained(second)
    assert hashes(second / "result") == hashes(first.parent / "whole/result")
    assert heard.numbers + rest.numbers == whole.numbers
    [result], [expected] = rest.of(Result), whole.of(Result)
    assert (result.resume_proof, result.metrics) == (expected.resume_proof, expected.metrics)
    return heard


def stopped(folder: Path, step: int) -> Lines:
    """What a run tells that is asked to leave when it tells of a step."""
    heard, stop = Lines(), Stop()

    def listen(line: Line) -> None:
        heard(line)
        stop.requested |= isinstance(line, Metrics) and line.step == step

    with pytest.raises(Interrupted) as left:
        runs.train(folder, listen, stop)
    assert left.value.step == step
    return heard


def lines_of(run: Run) -> Lines:
    assert isinstance(run.emit, Lines)
    return run.emit


def tensors(model: Any) -> dict[str, Tensor]:
    """Parameters and buffers under all their names, those that are not saved too."""
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return {name: tensor.detach() for name, tensor in named}


def step_of(run: Run, examples: Sequence[Any], step: int = 1, parts: int = 1) -> tuple[Measured, dict[str, Tensor]]:
    """One batch's figures and clipped gradient, with that step's dropout; nothing moves."""
    run.learn()
    run.optimizer.zero_grad()
    measured = gradients.gradients(run, examples, parts, step)
    return measured, {name: it.grad.clone() for name, it in run.trained.items() if it.grad is not None}
