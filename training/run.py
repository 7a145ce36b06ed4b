"""A run, from its folder to its result: ``python -m training.run FOLDER [--validate]`` prints its JSON lines."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from training import checkpoint, device, weights
from training.checkpoint import Progress
from training.errors import Interrupted
from training.failures import as_failure
from training.loop import Run, Stop
from training.loop import train as train_steps
from training.prepare import Prepared, prepare
from training.report import Line, Message, Result, Started, Stopped, Validated, dump
from training.result import Card
from training.spec import TrainSpec

Emit = Callable[[Line], None]
Phase = Callable[[Path, Emit, Stop], None]


def validate(folder: Path, emit: Emit, stop: Stop | None = None) -> None:
    """Check every row and resolve every ``auto``. Raises ``TrainingError``, ``Interrupted``."""
    spec = TrainSpec.read(folder)
    device.prepare(spec.threads)
    prepared = prepare(folder, spec, stop or Stop())
    for note in prepared.notes():
        emit(Message(level="warn", message=note))
    emit(
        Validated(
            rows=len(prepared.training.examples),
            validation_rows=len(prepared.validation.examples),
            tokens=prepared.training.tokens,
            total_steps=prepared.hyper.max_steps,
            hyperparameters=prepared.hyper.model_dump(),
        )
    )


def train(folder: Path, emit: Emit, stop: Stop | None = None) -> None:
    """Train, from ``folder/resume`` where it is there. Raises ``TrainingError``, ``Interrupted``."""
    stop = stop or Stop()
    spec = TrainSpec.read(folder)
    device.prepare(spec.threads)
    prepared = prepare(folder, spec, stop)
    run = _built(folder, spec, prepared, emit, stop)
    resume = folder / "resume"
    progress = checkpoint.read(resume, run.trained, run.optimizer) if resume.is_dir() else Progress()
    emit(
        Started(
            step=progress.step,
            total_steps=run.hyper.max_steps,
            trainable_parameters=sum(weight.numel() for weight in run.trained.values()),
            total_parameters=sum(weight.numel() for weight in run.model.parameters()),
            device=str(run.place.device),
            dtype=run.place.dtype_name,
            threads=device.threads(),
        )
    )
    progress = train_steps(run, progress)
    emit(_result(run, progress))


def _built(folder: Path, spec: TrainSpec, prepared: Prepared, emit: Emit, stop: Stop) -> Run:
    """Base, update and data put together, on the device."""
    place = device.choose()
    checkpoint.seed_step(spec.seed, 0)
    dtype = spec.update.weights_dtype(place.dtype)
    model = spec.update.apply(prepared.task.load_model(spec.base, prepared.state, dtype), prepared.task)
    weights.widen(weights.trainable(model))
    model.to(place.device)
    card = Card(
        task=spec.task,
        update=spec.update,
        base=spec.base_id,
        state=prepared.state,
        hyperparameters=prepared.hyper,
        seed=spec.seed,
    )
    return Run(
        folder=folder,
        task=prepared.task,
        state=prepared.state,
        hyper=prepared.hyper,
        seed=spec.seed,
        save_seconds=spec.save_seconds,
        model=model,
        pad=prepared.base.pad,
        place=place,
        training=prepared.training.examples,
        validation=prepared.validation.examples,
        write_model=lambda directory: card.write(directory, model, prepared.base),
        emit=emit,
        stop=stop,
    )


def _result(run: Run, progress: Progress) -> Result:
    """Write ``result/`` and say what it is."""
    aside, final = run.folder / ".result", run.folder / "result"
    for stale in (aside, final):
        shutil.rmtree(stale, ignore_errors=True)
    aside.mkdir()
    run.write_model(aside)
    checkpoint.publish(aside, final)
    metrics = progress.metrics
    assert metrics, "a run has at least one step, and its last is told"
    names = ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy")
    return Result(
        path="result",
        step=progress.step,
        trained_tokens=progress.tokens,
        metrics={name: getattr(metrics, name) for name in names},
        resume_proof={
            "step": progress.step,
            "params_sha256": weights.sha256(run.trained),
            "rng_sha256": progress.rng_sha256,
            "batch_sha256": run.batches.sha256(progress.step),
        },
    )


def main(folder: Path, phase: Phase) -> int:
    """Run a phase, its lines on stdout. Exit code 0: the last line tells the end, be it good or bad."""
    stop = Stop()
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
