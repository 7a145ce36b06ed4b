"""Preflight and preview of a run before a job exists: row errors, training plan, encoded rows.

Like ``training.run.validate``, both are phases of a child process. They train and change nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any

import torch

from training import estimate
from training.artifacts.result import ResultMetadata
from training.data.dataset import Dataset
from training.data.scan import MAX_REPORTED_ERRORS, SamplingPlan
from training.errors import TrainingError
from training.hyperparameters.device_fit import DeviceLimits
from training.models import weights
from training.run_events import DeviceReport, Preflight, PreviewRow, RunEvent
from training.run_reports import FileReport, Plan, Problem, Token, TokenSequence
from training.spec import DEVICE_FILE, PREVIEW_FILE, TrainSpec
from training.tasks.base import TokenSegment
from training.trainer import device
from training.trainer.device import Device, configure_torch, get_num_threads
from training.trainer.failures import to_failure
from training.trainer.prepare import PreparedRun, RunDatasets, fit_to_device, prepare_from_files, read_datasets
from training.trainer.setup import load_trainable_model
from training.trainer.state import StopFlag

MAX_COUNTED_PARAMETERS = 200_000_000
"""Base size up to which the model is loaded to count trainable parameters, within seconds."""
UNKNOWN_DEVICE_WARNING = "No worker has reported its device, so the estimate is for a CPU like that of the API."
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
        report, warnings = _read_device(folder)
        plan, warnings = _build_plan(spec, prepared, report), [*prepared.iter_warnings(), *warnings]
    except TrainingError as error:
        failure = to_failure(error)
        assert failure, "every TrainingError has a code"
        problem = Problem(code=failure.code, message=failure.message, param=failure.param)
    datasets = {role: data for role, data in files.by_role.items() if data.num_rows or data.error_count}
    emit(
        Preflight(
            files={role: _build_file_report(data, files.task.splits_rows) for role, data in datasets.items()},
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
    for line, examples in islice(_iter_rows(data), count):
        parts = [files.task.preview(example, state) for example in examples]
        emit(
            PreviewRow(
                line=line or None,
                cut=any(example.truncated for example in examples),
                target=parts[0].target,
                sequences=[_build_token_sequence(files, segment) for part in parts for segment in part.segments],
            )
        )


def _iter_rows(data: Dataset) -> Iterator[tuple[int | None, list[Any]]]:
    """Yield the line and the examples of each encoded row."""
    row: list[Any] = []
    for index, example in enumerate(data.examples):
        if row and not example.continues:
            yield data.lines[index - 1], row
            row = []
        row.append(example)
    if row:
        yield data.lines[-1], row


def _build_file_report(data: Dataset, splits_rows: bool) -> FileReport:
    # A chat of several sequences is not split for its length.
    return FileReport(
        rows=data.num_rows,
        tokens=data.num_tokens,
        longest_row_tokens=data.longest_row_tokens,
        cut_rows=data.truncated_rows,
        split_rows=data.split_rows if splits_rows else 0,
        split_parts=data.split_parts if splits_rows else 0,
        fault_count=data.error_count,
    )


def report_device(folder: Path, emit: Callable[[RunEvent], None], stop: StopFlag) -> None:
    """Emit one ``DeviceReport`` of the device that this process would train on."""
    configure_torch(None)
    emit(device.report_device())


def _read_device(folder: Path) -> tuple[DeviceReport, list[str]]:
    """Return the device of the workers, and a warning if none has reported one.

    A preflight runs beside the API, under a limit of memory, so it does not look for accelerators.
    """
    if (folder / DEVICE_FILE).exists():
        return DeviceReport.model_validate_json((folder / DEVICE_FILE).read_bytes()), []
    return device.report_device(device.select_cpu()), [UNKNOWN_DEVICE_WARNING]


def _build_plan(spec: TrainSpec, prepared: PreparedRun, report: DeviceReport) -> Plan:
    limits = DeviceLimits(report.device_type, report.precisions, report.free_bytes)
    fit = fit_to_device(spec, prepared, limits)
    hyper, rows, base = fit.resolve(prepared.hyper), prepared.training.num_examples, prepared.base
    general_tokens = prepared.general.num_tokens * prepared.general_per_epoch / max(1, prepared.general.num_examples)
    steps_per_epoch = ceil((rows + prepared.general_per_epoch) / hyper.batch_size)
    # A precision that the device did not report is one that the job demands.
    speed = report.flops_per_second.get(hyper.dtype) or min(report.flops_per_second.values())
    return Plan(
        total_steps=hyper.max_steps,
        total_tokens=round((prepared.training.num_tokens + general_tokens) * hyper.max_steps / steps_per_epoch),
        hyperparameters=hyper.public(),
        trainable_parameters=_count_trainable_parameters(spec, prepared, Device(torch.device("cpu"), torch.float32)),
        total_parameters=base.parameters,
        tokens_per_second=estimate.estimate_throughput(spec.update.type, base.parameters, speed),
        start_seconds=estimate.STARTUP_SECONDS + fit.memory.weights / estimate.LOAD_BYTES_PER_SECOND,
        peak_memory_bytes=estimate.estimate_peak_memory(fit.memory.total, limits.type),
    )


def _count_trainable_parameters(spec: TrainSpec, prepared: PreparedRun, cpu: Device) -> int | None:
    """Count the trainable parameters, or return None if the base is too large to load.

    Raises ``TrainingError`` if the update does not fit the base.
    """
    if prepared.base.parameters > MAX_COUNTED_PARAMETERS:
        return None
    model = load_trainable_model(spec, prepared, cpu)
    return sum(weight.numel() for weight in weights.get_trainable_parameters(model).values())


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
