"""Assembly of a training run from base model, update and data, on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import ceil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from training import estimate, kernels
from training.artifacts.result import ResultMetadata
from training.errors import TrainingError
from training.hyperparameters.auto import ResolvedHyperparameters
from training.kernels import packed
from training.kernels.probe import ProbeSettings, count_kernels, describe_kernels
from training.models import weights
from training.models.blocks import find_blocks
from training.models.experts import describe_training, find_expert_blocks
from training.models.logprobs import select_logprob_function
from training.models.router_loss import build_router_loss
from training.progress import ProgressReporter
from training.run_events import Message, RunEvent, Started
from training.spec import DEVICE_HYPERPARAMETERS, TrainSpec
from training.tasks.base import LossSettings, TaskContext
from training.tasks.examples import ExampleView
from training.trainer import checkpoint, neftune
from training.trainer.device import Device, get_num_threads, measure_limits, select_device
from training.trainer.feature_cache import MAX_BATCH_TOKENS, FrozenFeatureCache
from training.trainer.prepare import PreparedRun, fit_to_device
from training.trainer.state import Splits, StopFlag, TrainingRun


def build_run(
    folder: Path, spec: TrainSpec, prepared: PreparedRun, emit: Callable[[RunEvent], None], stop: StopFlag
) -> TrainingRun:
    """Load the model on the device and build the run.

    Raises ``TrainingError`` if the update does not fit the base.
    """
    hyper = resolve_for_device(spec, prepared, emit)
    device = select_device(hyper.dtype)
    reporter = ProgressReporter(emit, stop.raise_if_set)
    max_pass_seconds = _estimate_slowest_pass(prepared, hyper, device)
    max_transfer_seconds = estimate.estimate_slowest_transfer(prepared.base.parameters * device.dtype.itemsize)
    # Loading the model, and then the first micro-batch.
    reporter.report("training", 0, hyper.max_steps, max(max_pass_seconds, max_transfer_seconds))
    checkpoint.seed_step(spec.seed, 0)
    model = load_trainable_model(spec, prepared, device)
    trainable_parameters = weights.get_trainable_parameters(model)
    weights.upcast(trainable_parameters)
    model.to(device.torch_device)
    if hyper.neftune_alpha:
        neftune.activate(model, hyper.neftune_alpha)
    context = _build_context(prepared, model, device, _patch_model(prepared, model, device, emit))
    if expert_blocks := find_expert_blocks(model):
        emit(Message(message=describe_training(model, expert_blocks)))
    metadata = ResultMetadata(
        task=spec.task,
        method=spec.method,
        update=spec.update,
        base=spec.base_id,
        state=prepared.state,
        hyperparameters=hyper,
        seed=spec.seed,
    )
    run = TrainingRun(
        folder=folder,
        task=prepared.task,
        context=context,
        hyper=hyper,
        seed=spec.seed,
        save_seconds=spec.save_seconds,
        model=model,
        device=device,
        splits=_build_splits(prepared),
        trainable_parameters=trainable_parameters,
        running_stats=weights.get_running_stats(model),
        frozen_modules=list(_iter_frozen_modules(spec, model)),
        initial_weights=_copy_weights(trainable_parameters) if hyper.l2_to_base else {},
        metadata=metadata,
        base=prepared.base,
        emit=emit,
        stop=stop,
        reporter=reporter,
        max_pass_seconds=max_pass_seconds,
        max_transfer_seconds=max_transfer_seconds,
        router_loss=build_router_loss(model),
    )
    if hyper.gradient_checkpointing and not run.enable_checkpointing():
        emit(Message(level="warn", message="This model has no activation checkpointing, so training goes without it."))
    return run


def _estimate_slowest_pass(prepared: PreparedRun, hyper: ResolvedHyperparameters, device: Device) -> float:
    """Return an upper estimate of the seconds for one micro-batch, of the longest rows."""
    rows, kind = ceil(hyper.batch_size / hyper.gradient_accumulation_steps), device.torch_device.type
    tokens = max(rows * prepared.training.longest_row_tokens, MAX_BATCH_TOKENS)
    return estimate.estimate_slowest_pass(prepared.base.parameters, tokens, kind)


def resolve_for_device(
    spec: TrainSpec, prepared: PreparedRun, emit: Callable[[RunEvent], None]
) -> ResolvedHyperparameters:
    """Resolve what depends on this process's device, and explain it to the user.

    Values that an earlier attempt resolved are in ``prepared`` and are kept.
    """
    planned = prepared.hyper
    if all(getattr(planned, name) != "auto" for name in DEVICE_HYPERPARAMETERS):
        return ResolvedHyperparameters(**planned.model_dump())
    fit = fit_to_device(spec, prepared, measure_limits())
    emit(Message(level="info" if fit.fits else "warn", message=fit.describe()))
    return fit.resolve(planned)


def _copy_weights(parameters: Mapping[str, Parameter]) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in parameters.items()}


def _build_splits(prepared: PreparedRun) -> Splits:
    return Splits(
        training=prepared.training.examples,
        validation=prepared.validation.examples,
        general=prepared.general.examples,
        held_out=prepared.held_out.examples,
        general_per_epoch=prepared.general_per_epoch,
    )


def load_trainable_model(spec: TrainSpec, prepared: PreparedRun, device: Device) -> Any:
    """Load the trainable model, with the weights of an earlier result if the run continues one.

    Raises ``TrainingError`` if the update does not fit the base.
    """
    dtype = spec.update.get_weights_dtype(device.dtype, getattr(torch, prepared.base.dtype))
    directory = prepared.start if prepared.start and spec.update.type != "lora" else spec.base
    model = prepared.task.load_model(directory, prepared.state, dtype)
    try:
        model = spec.update.apply(model, prepared.task)
    except ValueError as error:
        # Raised by PEFT, naming the `target_modules` that the base lacks, or by the update itself.
        raise TrainingError(
            "base_model_unavailable", f"The update does not fit this base: {error}.", "update"
        ) from error
    if prepared.start:
        spec.update.load_weights(model, prepared.start)
    return model


def _patch_model(prepared: PreparedRun, model: Any, device: Device, emit: Callable[[RunEvent], None]) -> bool:
    """Replace layers by faster kernels and report which ones.

    Return True if rows can be packed.
    """
    uses = kernels.patch_model(model, device.torch_device, device.dtype)
    # NEFTune scales its noise by the length of a row, which packing hides.
    may_pack = prepared.task.peft_task_type == "CAUSAL_LM" and not prepared.hyper.neftune_alpha
    is_packed = may_pack and packed.enable_if_exact(model, ProbeSettings(device.torch_device, device.dtype))
    rows = "Rows are packed without padding." if is_packed else "Rows are padded."
    data = {"kernels": count_kernels(uses), "packed": is_packed}
    emit(Message(message=f"{describe_kernels(uses)} {rows}", data=data))
    return is_packed


def _build_context(prepared: PreparedRun, model: Any, device: Device, is_packed: bool) -> TaskContext:
    hyper = prepared.hyper
    objective = LossSettings(
        label_smoothing=hyper.label_smoothing,
        class_weights=hyper.class_weights,
        beta=hyper.beta or LossSettings.beta,
        loss=hyper.loss or LossSettings.loss,
    )
    is_causal = prepared.task.peft_task_type == "CAUSAL_LM"
    settings = ProbeSettings(device.torch_device, device.dtype)
    logprob_fn = select_logprob_function(model, settings) if is_causal else None
    return TaskContext(prepared.base.processor, prepared.state, objective, is_packed, logprob_fn)


def _iter_frozen_modules(spec: TrainSpec, model: Any) -> Iterator[Module]:
    """Yield the modules before the first trainable block, which stay in eval mode.

    They include modules without weights, such as dropout.
    """
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
    """Add the untrained model's log-probabilities to the examples, if the loss needs them."""
    run.model.eval()
    with run.device.autocast():
        training, validation, general, held_out = (
            run.task.with_reference(rows, run.model, run.context, run.bind_report("reference"))
            for rows in (run.splits.training, run.splits.validation, run.splits.general, run.splits.held_out)
        )
    run.splits = Splits(training, validation, general, held_out, run.splits.general_per_epoch)
    run.train_mode()


def cache_frozen_features(run: TrainingRun, spec: TrainSpec) -> None:
    """Cache the outputs of the frozen blocks for every row, if they fit in memory.

    Results differ from uncached training by rounding only.
    """
    frozen_count = spec.update.count_frozen_blocks(run.model)
    if not frozen_count or not run.task.supports_feature_cache or run.model.config.is_encoder_decoder:
        return
    stack = find_blocks(run.model)
    if not stack.is_single_pass:
        return
    cache = FrozenFeatureCache(stack, frozen_count, run.context)
    run.model.eval()
    with torch.no_grad():
        is_cached = cache.populate(
            ExampleView([run.splits.training_pool, run.splits.validation, run.splits.held_out]),
            lambda batch: run.compute_loss(batch, run.eval_context),
            run.bind_report("features"),
        )
    run.train_mode()
    if is_cached:
        # The cache finds the features of an example by its identity.
        run.splits = run.splits.load()
        cache.assign([*run.splits.training_pool, *run.splits.validation, *run.splits.held_out])
        run.feature_cache = cache
    outcome = "are computed once and cached" if is_cached else "take too much memory to cache; each batch computes them"
    run.emit(Message(message=f"The features of {frozen_count} frozen blocks {outcome}."))


def build_started_event(run: TrainingRun, step: int) -> Started:
    """Build the event that reports the size of the model and the device before the first step."""
    return Started(
        step=step,
        total_steps=run.hyper.max_steps,
        trainable_parameters=sum(weight.numel() for weight in run.trainable_parameters.values()),
        total_parameters=weights.count_parameters(run.model),
        device=str(run.device.torch_device),
        dtype=run.device.dtype_name,
        threads=get_num_threads(),
        hyperparameters=run.hyper.public(),
    )
