"""Base, update and data put together, on the device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from training import checkpoint, device, weights
from training.device import Place
from training.errors import TrainingError
from training.loop import Run, Stop
from training.prepare import Prepared
from training.report import Line, Started
from training.result import Card
from training.spec import TrainSpec


def assemble(folder: Path, spec: TrainSpec, prepared: Prepared, emit: Callable[[Line], None], stop: Stop) -> Run:
    """Raises ``TrainingError`` where the update does not fit the base."""
    place = device.choose()
    checkpoint.seed_step(spec.seed, 0)
    model = _updatable(spec, prepared, place)
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


def _updatable(spec: TrainSpec, prepared: Prepared, place: Place) -> Any:
    model = prepared.task.load_model(spec.base, prepared.state, spec.update.weights_dtype(place.dtype))
    try:
        return spec.update.apply(model, prepared.task)
    except ValueError as error:
        # PEFT's, which names the modules of `target_modules` that the base does not have.
        raise TrainingError(
            "base_model_unavailable", f"The update does not fit this base: {error}", "update"
        ) from error


def started(run: Run, step: int) -> Started:
    """The line that says what is about to be trained where."""
    return Started(
        step=step,
        total_steps=run.hyper.max_steps,
        trainable_parameters=sum(weight.numel() for weight in run.trained.values()),
        total_parameters=sum(weight.numel() for weight in run.model.parameters()),
        device=str(run.place.device),
        dtype=run.place.dtype_name,
        threads=device.threads(),
    )
