"""Base, update and data put together, on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.nn import Module

from training import kernels
from training.artifacts.result import Card
from training.errors import TrainingError
from training.kernels import packed
from training.models import weights
from training.models.blocks import anatomy
from training.models.logprobs import target_scores
from training.run_events import Line, Message, Started
from training.spec import TrainSpec
from training.tasks.base import Kit, Objective
from training.trainer import checkpoint, device, neftune
from training.trainer.device import Place
from training.trainer.feature_cache import Trunk
from training.trainer.prepare import Prepared
from training.trainer.state import Rows, Run, Stop


def assemble(folder: Path, spec: TrainSpec, prepared: Prepared, emit: Callable[[Line], None], stop: Stop) -> Run:
    """Raises ``TrainingError`` where the update does not fit the base."""
    hyper = prepared.hyper
    place = device.choose(hyper.dtype)
    checkpoint.seed_step(spec.seed, 0)
    model = updatable(spec, prepared, place)
    trained = weights.trainable(model)
    weights.widen(trained)
    model.to(place.device)
    kit = _kit(prepared, model)
    if hyper.gradient_checkpointing:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    if hyper.neftune_alpha:
        neftune.add(model, hyper.neftune_alpha)
    kernels.prepare(model, place.device)
    if kit.packed:
        packed.use(model)
    card = Card(
        task=spec.task,
        method=spec.method,
        update=spec.update,
        base=spec.base_id,
        state=prepared.state,
        hyperparameters=hyper,
        seed=spec.seed,
    )
    return Run(
        folder=folder,
        task=prepared.task,
        kit=kit,
        hyper=hyper,
        seed=spec.seed,
        save_seconds=spec.save_seconds,
        model=model,
        place=place,
        rows=_rows(prepared),
        trained=trained,
        running=weights.running(model),
        frozen=list(_frozen(spec, model)),
        origin={name: weight.detach().clone() for name, weight in trained.items()} if hyper.l2_to_base else {},
        card=card,
        base=prepared.base,
        emit=emit,
        stop=stop,
    )


def _rows(prepared: Prepared) -> Rows:
    return Rows(
        training=prepared.training.examples,
        validation=prepared.validation.examples,
        general=prepared.general.examples,
        held_out=prepared.held_out.examples,
        mixed=prepared.mixed,
    )


def updatable(spec: TrainSpec, prepared: Prepared, place: Place) -> Any:
    """The model with its weights to train, those of an earlier result in it where the run goes on from one."""
    dtype = spec.update.weights_dtype(place.dtype, getattr(torch, prepared.base.dtype))
    begun = prepared.start if prepared.start and spec.update.type != "lora" else spec.base
    model = prepared.task.load_model(begun, prepared.state, dtype)
    try:
        model = spec.update.apply(model, prepared.task)
    except ValueError as error:
        # PEFT's, which names the modules of `target_modules` that the base does not have, or an update's own.
        raise TrainingError(
            "base_model_unavailable", f"The update does not fit this base: {error}.", "update"
        ) from error
    if prepared.start:
        spec.update.resume(model, prepared.start)
    return model


def _kit(prepared: Prepared, model: Any) -> Kit:
    hyper = prepared.hyper
    objective = Objective(
        label_smoothing=hyper.label_smoothing,
        class_weights=hyper.class_weights,
        beta=hyper.beta or Objective.beta,
        loss=hyper.loss or Objective.loss,
    )
    # NEFTune's noise is told by the length of a row.
    packing = prepared.task.peft_type == "CAUSAL_LM" and not hyper.neftune_alpha and packed.supports(model.config)
    return Kit(prepared.base.processor, prepared.state, objective, packing, target_scores)


def _frozen(spec: TrainSpec, model: Any) -> Iterator[Module]:
    """Modules that do not train though the model does: what stands before the first block that moves, a dropout
    without weights of its own too."""
    count = spec.update.frozen_blocks(model)
    if not count:
        return
    last = anatomy(model).blocks[count - 1]
    for module in model.modules():
        if not any(parameter.requires_grad for parameter in module.parameters()):
            yield module
        if module is last:
            return


def anchor(run: Run) -> None:
    """Give the rows what the loss needs to know of the untrained model."""
    run.model.eval()
    with run.place.autocast():
        training, validation, general, held_out = (
            run.task.anchored(rows, run.model, run.kit)
            for rows in (run.rows.training, run.rows.validation, run.rows.general, run.rows.held_out)
        )
    run.rows = Rows(training, validation, general, held_out, run.rows.mixed)
    run.learn()


def keep_features(run: Run, spec: TrainSpec) -> None:
    """What frozen blocks give of every row, computed once. Changes no number but by rounding."""
    frozen = spec.update.frozen_blocks(run.model)
    if not frozen or not run.task.cacheable or run.model.config.is_encoder_decoder:
        return
    parts = anatomy(run.model)
    if not parts.once:
        return
    trunk = Trunk(parts, frozen, run.kit)
    run.model.eval()
    with torch.no_grad():
        rows = [*run.rows.trained, *run.rows.validation, *run.rows.held_out]
        kept = trunk.keep(rows, lambda part: run.loss(part, run.plain))
    run.learn()
    run.trunk = trunk if kept else None
    told = "are computed once and kept" if kept else "take too much memory to be kept; they are computed for each batch"
    run.emit(Message(message=f"The features of {frozen} frozen blocks {told}."))


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
