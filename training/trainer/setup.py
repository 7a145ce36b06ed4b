"""Base, update and data put together, on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.nn import Module

from training import kernels
from training.artifacts.result import ResultMetadata
from training.errors import TrainingError
from training.kernels import packed
from training.models import weights
from training.models.blocks import find_blocks
from training.models.logprobs import compute_target_logprobs
from training.run_events import Message, RunEvent, Started
from training.spec import TrainSpec
from training.tasks.base import Objective, TaskContext
from training.trainer import checkpoint, device, neftune
from training.trainer.device import Device
from training.trainer.feature_cache import FrozenFeatureCache
from training.trainer.prepare import PreparedRun
from training.trainer.state import Splits, StopFlag, TrainingRun


def build_run(
    folder: Path, spec: TrainSpec, prepared: PreparedRun, emit: Callable[[RunEvent], None], stop: StopFlag
) -> TrainingRun:
    """Raises ``TrainingError`` where the update does not fit the base."""
    hyper = prepared.hyper
    place = device.select_device(hyper.dtype)
    checkpoint.seed_step(spec.seed, 0)
    model = load_trainable_model(spec, prepared, place)
    trained = weights.get_trainable_parameters(model)
    weights.upcast(trained)
    model.to(place.torch_device)
    kit = _build_context(prepared, model)
    if hyper.gradient_checkpointing:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    if hyper.neftune_alpha:
        neftune.activate(model, hyper.neftune_alpha)
    kernels.patch_model(model, place.torch_device)
    if kit.packed:
        packed.enable(model)
    card = ResultMetadata(
        task=spec.task,
        method=spec.method,
        update=spec.update,
        base=spec.base_id,
        state=prepared.state,
        hyperparameters=hyper,
        seed=spec.seed,
    )
    return TrainingRun(
        folder=folder,
        task=prepared.task,
        context=kit,
        hyper=hyper,
        seed=spec.seed,
        save_seconds=spec.save_seconds,
        model=model,
        device=place,
        splits=_build_splits(prepared),
        trainable_parameters=trained,
        running_stats=weights.get_running_stats(model),
        frozen_modules=list(_iter_frozen_modules(spec, model)),
        initial_weights={name: weight.detach().clone() for name, weight in trained.items()} if hyper.l2_to_base else {},
        metadata=card,
        base=prepared.base,
        emit=emit,
        stop=stop,
    )


def _build_splits(prepared: PreparedRun) -> Splits:
    return Splits(
        training=prepared.training.examples,
        validation=prepared.validation.examples,
        general=prepared.general.examples,
        held_out=prepared.held_out.examples,
        general_per_epoch=prepared.general_per_epoch,
    )


def load_trainable_model(spec: TrainSpec, prepared: PreparedRun, place: Device) -> Any:
    """The model with its weights to train, those of an earlier result in it where the run goes on from one."""
    dtype = spec.update.get_weights_dtype(place.dtype, getattr(torch, prepared.base.dtype))
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
        spec.update.load_weights(model, prepared.start)
    return model


def _build_context(prepared: PreparedRun, model: Any) -> TaskContext:
    hyper = prepared.hyper
    objective = Objective(
        label_smoothing=hyper.label_smoothing,
        class_weights=hyper.class_weights,
        beta=hyper.beta or Objective.beta,
        loss=hyper.loss or Objective.loss,
    )
    # NEFTune's noise is told by the length of a row.
    packing = prepared.task.peft_type == "CAUSAL_LM" and not hyper.neftune_alpha and packed.can_pack(model.config)
    return TaskContext(prepared.base.processor, prepared.state, objective, packing, compute_target_logprobs)


def _iter_frozen_modules(spec: TrainSpec, model: Any) -> Iterator[Module]:
    """Modules that do not train though the model does: what stands before the first block that moves, a dropout
    without weights of its own too."""
    count = spec.update.count_frozen_blocks(model)
    if not count:
        return
    last = find_blocks(model).blocks[count - 1]
    for module in model.modules():
        if not any(parameter.requires_grad for parameter in module.parameters()):
            yield module
        if module is last:
            return


def compute_reference_logprobs(run: TrainingRun) -> None:
    """Give the rows what the loss needs to know of the untrained model."""
    run.model.eval()
    with run.device.autocast():
        training, validation, general, held_out = (
            run.task.with_reference(rows, run.model, run.context)
            for rows in (run.splits.training, run.splits.validation, run.splits.general, run.splits.held_out)
        )
    run.splits = Splits(training, validation, general, held_out, run.splits.general_per_epoch)
    run.train_mode()


def cache_frozen_features(run: TrainingRun, spec: TrainSpec) -> None:
    """What frozen blocks give of every row, computed once. Changes no number but by rounding."""
    frozen = spec.update.count_frozen_blocks(run.model)
    if not frozen or not run.task.cacheable or run.model.config.is_encoder_decoder:
        return
    parts = find_blocks(run.model)
    if not parts.is_single_pass:
        return
    trunk = FrozenFeatureCache(parts, frozen, run.context)
    run.model.eval()
    with torch.no_grad():
        rows = [*run.splits.training_pool, *run.splits.validation, *run.splits.held_out]
        kept = trunk.populate(rows, lambda part: run.compute_loss(part, run.eval_context))
    run.train_mode()
    run.feature_cache = trunk if kept else None
    told = "are computed once and kept" if kept else "take too much memory to be kept; they are computed for each batch"
    run.emit(Message(message=f"The features of {frozen} frozen blocks {told}."))


def build_started_event(run: TrainingRun, step: int) -> Started:
    """The line that says what is about to be trained where."""
    return Started(
        step=step,
        total_steps=run.hyper.max_steps,
        trainable_parameters=sum(weight.numel() for weight in run.trainable_parameters.values()),
        total_parameters=sum(weight.numel() for weight in run.model.parameters()),
        device=str(run.device.torch_device),
        dtype=run.device.dtype_name,
        threads=device.get_num_threads(),
    )
