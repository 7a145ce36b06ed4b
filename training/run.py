"""Entry point: ``python -m training.run FOLDER [--validate]`` prints the run's JSON lines."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from training.data.scan import SamplingPlan
from training.errors import Interrupted
from training.run_events import Message, RunEvent, Stopped, Validated, dump_event
from training.spec import TrainSpec
from training.trainer import checkpoint, device
from training.trainer.checkpoint import Progress
from training.trainer.failures import to_failure
from training.trainer.finish import write_result
from training.trainer.loop import train as train_steps
from training.trainer.prepare import prepare
from training.trainer.setup import build_run, build_started_event, cache_frozen_features, compute_reference_logprobs
from training.trainer.state import StopFlag

Emit = Callable[[RunEvent], None]
Phase = Callable[[Path, Emit, StopFlag], None]


def validate(folder: Path, emit: Emit, stop: StopFlag | None = None) -> None:
    """Check every row and resolve every ``auto``. Raises ``TrainingError`` or ``Interrupted``."""
    spec = TrainSpec.read(folder)
    device.configure_torch(spec.threads)
    sampling = SamplingPlan(processes=device.get_num_threads(), count_examples=True)
    prepared = prepare(folder, spec, stop or StopFlag(), sampling, emit)
    for warning in prepared.iter_warnings():
        emit(Message(level="warn", message=warning))
    emit(
        Validated(
            rows=prepared.training.num_rows,
            examples=prepared.training.num_examples,
            validation_rows=prepared.validation.num_rows,
            tokens=prepared.training.num_tokens,
            total_steps=prepared.hyper.max_steps,
            hyperparameters=prepared.hyper.public(),
        )
    )


def train(folder: Path, emit: Emit, stop: StopFlag | None = None) -> None:
    """Train, from ``folder/resume`` if it exists. Raises ``TrainingError`` or ``Interrupted``."""
    stop = stop or StopFlag()
    spec = TrainSpec.read(folder)
    device.configure_torch(spec.threads)
    prepared = prepare(folder, spec, stop, emit=emit)
    run = build_run(folder, spec, prepared, emit, stop)
    # Before the checkpoint is loaded: a resumed run needs the same reference, the untrained model.
    compute_reference_logprobs(run)
    resume = folder / "resume"
    progress = checkpoint.load(resume, run.state) if resume.is_dir() else Progress()
    emit(build_started_event(run, progress.step))
    cache_frozen_features(run, spec)
    progress = train_steps(run, progress)
    emit(write_result(run, progress))


def main(folder: Path, phase: Phase) -> int:
    """Run a phase and print its events on stdout.

    Return exit code 0 if the last event reports the outcome, success or failure.
    """
    stop = StopFlag()
    # Imported modules stay, so the garbage collector need not visit them again and again.
    gc.freeze()
    signal.signal(signal.SIGTERM, lambda *_: setattr(stop, "requested", True))

    def emit(event: RunEvent) -> None:
        sys.stdout.write(dump_event(event) + "\n")
        sys.stdout.flush()

    try:
        phase(folder, emit, stop)
    except Interrupted as interruption:
        emit(Stopped(step=interruption.step))
    # An error with a run code becomes an event; any other ends the process with its traceback.
    except Exception as error:
        failure = to_failure(error)
        if failure is None:
            raise
        emit(failure)
    return 0


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(main(Path(arguments[0]), validate if "--validate" in arguments else train))
