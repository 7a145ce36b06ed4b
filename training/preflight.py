"""Preflight and preview of a run before a job exists: row errors, training plan, encoded rows.

Like ``training.run.validate``, both are phases of a child process. They train and change nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path
from typing import Any

import torch

from training import estimate
from training.artifacts.result import ResultMetadata
from training.data.dataset import Dataset
from training.data.scan import MAX_REPORTED_ERRORS, SamplingPlan
from training.errors import TrainingError
from training.estimate import EstimateInputs
from training.models import weights
from training.run_events import FileReport, Plan, Preflight, PreviewRow, Problem, RunEvent, Token, TokenSequence
from training.spec import PREVIEW_FILE, TrainSpec
from training.tasks.base import TokenSegment
from training.trainer.device import Device, configure_torch, get_num_threads, select_device
from training.trainer.failures import to_failure
from training.trainer.prepare import PreparedRun, RunDatasets, prepare_from_files, read_datasets
from training.trainer.setup import load_trainable_model
from training.trainer.state import StopFlag
from training.updates.lora import LoraUpdate

MAX_COUNTED_PARAMETERS = 200_000_000
"""Base size up to which the model is loaded to count trainable parameters, within seconds."""
MAX_PREVIEW_TOKENS = 2048
"""Per sequence of a row."""


def preflight(folder: Path, emit: Callable[[RunEvent], None], stop: StopFlag) -> None:
    """Check the files and emit one ``Preflight`` event with errors, warnings and the plan.

    Raises ``TrainingError`` if the base cannot be used; other errors are in the event.
    """
    spec = TrainSpec.read(folder)
    configure_torch(spec.threads)
    files = read_datasets(folder, spec, stop, sampling=SamplingPlan(processes=get_num_threads()))
    plan, problem, warnings = None, None, list[str]()
    try:
        prepared = prepare_from_files(files, folder, spec)
        plan, warnings = _build_plan(spec, prepared), list(prepared.iter_warnings())
    except TrainingError as error:
        failure = to_failure(error)
        assert failure, "every TrainingError has a code"
        problem = Problem(code=failure.code, message=failure.message, param=failure.param)
    datasets = {role: data for role, data in files.by_role.items() if data.num_rows or data.error_count}
    emit(
        Preflight(
            files={role: _build_file_report(data) for role, data in datasets.items()},
            faults=[error for data in datasets.values() for error in data.errors][:MAX_REPORTED_ERRORS],
            fault_count=sum(data.error_count for data in datasets.values()),
            error=problem,
            warnings=warnings,
            plan=plan,
        )
    )


def preview(folder: Path, emit: Callable[[RunEvent], None], stop: StopFlag) -> None:
    """Emit the first valid rows of the training file, one event per row.

    Raises ``TrainingError`` if there are none.
    """
    spec = TrainSpec.read(folder)
    configure_torch(spec.threads)
    files = read_datasets(folder, spec, stop, sampling=SamplingPlan(processes=get_num_threads()))
    data = files.training
    if not data.examples:
        data.raise_if_invalid()
    state = ResultMetadata.read(folder / spec.start).state if spec.start else files.task.prepare(data.examples)
    count = json.loads((folder / PREVIEW_FILE).read_text())["rows"]
    for example, line in list(zip(data.examples, data.lines, strict=True))[:count]:
        row = files.task.preview(example, state)
        emit(
            PreviewRow(
                line=line or None,
                cut=example.truncated,
                target=row.target,
                sequences=[_build_token_sequence(files, segment) for segment in row.segments],
            )
        )


def _build_file_report(data: Dataset) -> FileReport:
    return FileReport(
        rows=data.num_rows,
        tokens=data.num_tokens,
        longest_row_tokens=data.longest_row_tokens,
        cut_rows=data.truncated_rows,
        split_rows=data.split_rows,
        split_parts=data.split_parts,
        fault_count=data.error_count,
    )


def _build_plan(spec: TrainSpec, prepared: PreparedRun) -> Plan:
    hyper, rows = prepared.hyper, prepared.training.num_examples
    device = select_device(hyper.dtype)
    trainable_parameters = _count_trainable_parameters(spec, prepared, device)
    inputs = _build_estimate_inputs(spec, prepared, device, trainable_parameters)
    general_tokens = prepared.general.num_tokens * prepared.general_per_epoch / max(1, prepared.general.num_examples)
    steps_per_epoch = ceil((rows + prepared.general_per_epoch) / hyper.batch_size)
    return Plan(
        total_steps=hyper.max_steps,
        total_tokens=round((prepared.training.num_tokens + general_tokens) * hyper.max_steps / steps_per_epoch),
        hyperparameters=hyper.public(),
        trainable_parameters=trainable_parameters,
        total_parameters=prepared.base.parameters,
        tokens_per_second=estimate.estimate_throughput(inputs, _measure_flops_per_second(device)),
        start_seconds=estimate.STARTUP_SECONDS
        + inputs.parameters * inputs.weight_bytes / estimate.LOAD_BYTES_PER_SECOND,
        peak_memory_bytes=estimate.estimate_peak_memory(inputs),
    )


def _count_trainable_parameters(spec: TrainSpec, prepared: PreparedRun, device: Device) -> int | None:
    """Count the trainable parameters, or return None if the base is too large to load.

    Raises ``TrainingError`` if the update does not fit the base.
    """
    if prepared.base.parameters > MAX_COUNTED_PARAMETERS:
        return None
    model = load_trainable_model(spec, prepared, device)
    return sum(weight.numel() for weight in weights.get_trainable_parameters(model).values())


def _build_estimate_inputs(
    spec: TrainSpec, prepared: PreparedRun, device: Device, trainable_parameters: int | None
) -> EstimateInputs:
    hyper, base = prepared.hyper, prepared.base
    rank = spec.update.rank if isinstance(spec.update, LoraUpdate) else 0
    mean_row_tokens = prepared.training.num_tokens / prepared.training.num_examples
    stored = getattr(torch, base.dtype)
    return EstimateInputs(
        update=spec.update.type,
        optimizer=hyper.optimizer,
        parameters=base.parameters,
        width=base.width,
        trainable_parameters=trainable_parameters
        or estimate.estimate_trainable_parameters(spec.update.type, base.parameters, base.width, rank),
        weight_bytes=spec.update.get_weights_dtype(device.dtype, stored).itemsize,
        activation_bytes=device.dtype.itemsize,
        micro_batch_tokens=max(
            prepared.training.longest_row_tokens, hyper.batch_size * mean_row_tokens / hyper.gradient_accumulation_steps
        ),
        gradient_checkpointing=hyper.gradient_checkpointing,
    )


def _measure_flops_per_second(device: Device) -> float:
    """Return the best speed of a few matrix products on this machine, some milliseconds each."""
    width = 512
    square = torch.ones(width, width, device=device.torch_device, dtype=device.dtype)
    durations = []
    for _ in range(5):
        start = time.perf_counter()
        # Reading a number waits for the GPU.
        (square @ square)[0, 0].item()
        durations.append(time.perf_counter() - start)
    return 2 * width**3 / min(durations)


def _build_token_sequence(files: RunDatasets, segment: TokenSegment) -> TokenSequence:
    ids, texts = list(segment.ids), _iter_token_texts(files.base.processor, list(segment.ids))
    weighted = zip(ids[:MAX_PREVIEW_TOKENS], texts, segment.weights or [0.0] * len(ids), strict=False)
    return TokenSequence(
        name=segment.name,
        rendered=_decode(files.base.processor, ids),
        length=len(ids),
        tokens=[Token(token=token, text=text, trained=weight > 0, weight=weight) for token, text, weight in weighted],
    )


def _iter_token_texts(tokenizer: Any, ids: list[int]) -> Iterator[str]:
    """Yield the text that each token adds. Decoded alone, some tokens lose their leading space."""
    for index, token in enumerate(ids):
        before = _decode(tokenizer, ids[index - 1 : index]) if index else ""
        both = _decode(tokenizer, ids[max(0, index - 1) : index + 1])
        yield both.removeprefix(before) if both.startswith(before) else _decode(tokenizer, [token])


def _decode(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text
