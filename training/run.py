"""A run, from its folder to its result: ``python -m training.run FOLDER [--validate]`` prints its JSON lines."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from training.data.scan import Sample
from training.errors import Interrupted
from training.run_events import Line, Message, Stopped, Validated, dump
from training.spec import TrainSpec
from training.trainer import checkpoint, device
from training.trainer.checkpoint import Progress
from training.trainer.failures import as_failure
from training.trainer.finish import finish
from training.trainer.loop import train as train_steps
from training.trainer.prepare import prepare
from training.trainer.setup import anchor, assemble, keep_features, started
from training.trainer.state import Stop

Emit = Callable[[Line], None]
Phase = Callable[[Path, Emit, Stop], None]


def validate(folder: Path, emit: Emit, stop: Stop | None = None) -> None:
    """Check every row and resolve every ``auto``. Raises ``TrainingError``, ``Interrupted``."""
    spec = TrainSpec.read(folder)
    device.prepare(spec.threads)
    prepared = prepare(folder, spec, stop or Stop(), sample=Sample(processes=device.threads()))
    for note in prepared.notes():
        emit(Message(level="warn", message=note))
    emit(
        Validated(
            rows=prepared.training.rows,
            validation_rows=prepared.validation.rows,
            tokens=prepared.training.tokens,
            total_steps=prepared.hyper.max_steps,
            hyperparameters=prepared.hyper.told(),
        )
    )


def train(folder: Path, emit: Emit, stop: Stop | None = None) -> None:
    """Train, from ``folder/resume`` where it is there. Raises ``TrainingError``, ``Interrupted``."""
    stop = stop or Stop()
    spec = TrainSpec.read(folder)
    device.prepare(spec.threads)
    prepared = prepare(folder, spec, stop)
    run = assemble(folder, spec, prepared, emit, stop)
    # What the untrained model says comes first: a resumed run must hear the same.
    anchor(run)
    resume = folder / "resume"
    progress = checkpoint.read(resume, run.state) if resume.is_dir() else Progress()
    emit(started(run, progress.step))
    keep_features(run, spec)
    progress = train_steps(run, progress)
    emit(finish(run, progress))


def main(folder: Path, phase: Phase) -> int:
    """Run a phase, its lines on stdout. Exit code 0: the last line tells the end, be it good or bad."""
    stop = Stop()
    # What is imported stays: the collector need not walk through it each time that rows have made a few objects.
    gc.freeze()
    signal.signal(signal.SIGTERM, lambda *_: setattr(stop, "requested", True))

    def emit(line: Line) -> None:
        sys.stdout.write(dump(line) + "\n")
        sys.stdout.flush()

    try:
        phase(folder, emit, stop)
    except Interrupted as left:
        emit(Stopped(step=left.step))
    # Whatever it is: what has a run code is told, anything else ends the process with its traceback.
    except Exception as error:
        failure = as_failure(error)
        if failure is None:
            raise
        emit(failure)
    return 0


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(main(Path(arguments[0]), validate if "--validate" in arguments else train))
