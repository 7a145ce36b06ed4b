"""A look at a run's files before there is a job: what is wrong with them, what training would come to, how rows look.

Like ``training.run.validate`` these are phases of a child; they change nothing and train nothing.
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
from training.trainer import device
from training.trainer.device import Device
from training.trainer.failures import to_failure
from training.trainer.prepare import PreparedRun, RunDatasets, prepare_from_files, read_datasets
from training.trainer.setup import load_trainable_model
from training.trainer.state import StopFlag
from training.updates.lora import LoraUpdate

MAX_COUNTED_PARAMETERS = 200_000_000
"""Parameters of a base up to which it is loaded to count what an update trains: within seconds."""
MAX_PREVIEW_TOKENS = 2048
"""Of each sequence of a row."""


def preflight(folder: Path, emit: Callable[[RunEvent], None], stop: StopFlag) -> None:
    """Raises ``TrainingError`` for a base that cannot be used; everything else is in the report."""
    spec = TrainSpec.read(folder)
    device.configure_torch(spec.threads)
    files = read_datasets(folder, spec, stop, sampling=SamplingPlan(processes=device.get_num_threads()))
    plan, problem, warnings = None, None, list[str]()
    try:
        ready = prepare_from_files(files, folder, spec)
        plan, warnings = _build_plan(spec, ready), list(ready.iter_warnings())
    except TrainingError as error:
        failure = to_failure(error)
        assert failure, "every TrainingError has a code"
        problem = Problem(code=failure.code, message=failure.message, param=failure.param)
    present = {role: data for role, data in files.by_role.items() if data.num_rows or data.error_count}
    emit(
        Preflight(
            files={role: _build_file_report(data) for role, data in present.items()},
            faults=[fault for data in present.values() for fault in data.errors][:MAX_REPORTED_ERRORS],
            fault_count=sum(data.error_count for data in present.values()),
            error=problem,
            warnings=warnings,
            plan=plan,
        )
    )


def preview(folder: Path, emit: Callable[[RunEvent], None], stop: StopFlag) -> None:
    """The first good rows of the training file, one line each. Raises ``TrainingError`` where there are none."""
    spec = TrainSpec.read(folder)
    device.configure_torch(spec.threads)
    files = read_datasets(folder, spec, stop, sampling=SamplingPlan(processes=device.get_num_threads()))
    data = files.training
    if not data.examples:
        data.raise_if_invalid()
    state = ResultMetadata.read(folder / spec.start).state if spec.start else files.task.prepare(data.examples)
    count = json.loads((folder / PREVIEW_FILE).read_text())["rows"]
    for example, line in list(zip(data.examples, data.lines, strict=True))[:count]:
        shown = files.task.preview(example, state)
        emit(
            PreviewRow(
                line=line,
                cut=example.truncated,
                target=shown.target,
                sequences=[_build_token_sequence(files, part) for part in shown.segments],
            )
        )


def _build_file_report(data: Dataset) -> FileReport:
    return FileReport(
        rows=data.num_rows,
        tokens=data.num_tokens,
        longest_row_tokens=data.longest_row_tokens,
        cut_rows=data.truncated_rows,
        fault_count=data.error_count,
    )


def _build_plan(spec: TrainSpec, prepared: PreparedRun) -> Plan:
    hyper, rows = prepared.hyper, prepared.training.num_rows
    place = device.select_device(hyper.dtype)
    counted = _count_trainable_parameters(spec, prepared, place)
    size = _build_estimate_inputs(spec, prepared, place, counted)
    general = prepared.general.num_tokens * prepared.general_per_epoch / max(1, prepared.general.num_rows)
    epoch_steps = ceil((rows + prepared.general_per_epoch) / hyper.batch_size)
    return Plan(
        total_steps=hyper.max_steps,
        total_tokens=round((prepared.training.num_tokens + general) * hyper.max_steps / epoch_steps),
        hyperparameters=hyper.public(),
        trainable_parameters=counted,
        total_parameters=prepared.base.parameters,
        tokens_per_second=estimate.estimate_throughput(size, _measure_flops_per_second(place)),
        start_seconds=estimate.STARTUP_SECONDS + size.parameters * size.weight_bytes / estimate.LOAD_BYTES_PER_SECOND,
        peak_memory_bytes=estimate.estimate_peak_memory(size),
    )


def _count_trainable_parameters(spec: TrainSpec, prepared: PreparedRun, place: Device) -> int | None:
    """Raises ``TrainingError`` where the update does not fit the base."""
    if prepared.base.parameters > MAX_COUNTED_PARAMETERS:
        return None
    model = load_trainable_model(spec, prepared, place)
    return sum(weight.numel() for weight in weights.get_trainable_parameters(model).values())


def _build_estimate_inputs(
    spec: TrainSpec, prepared: PreparedRun, place: Device, trainable_parameters: int | None
) -> EstimateInputs:
    hyper, base = prepared.hyper, prepared.base
    rank = spec.update.rank if isinstance(spec.update, LoraUpdate) else 0
    mean = prepared.training.num_tokens / prepared.training.num_rows
    stored = getattr(torch, base.dtype)
    return EstimateInputs(
        update=spec.update.type,
        optimizer=hyper.optimizer,
        parameters=base.parameters,
        width=base.width,
        trainable_parameters=trainable_parameters
        or estimate.estimate_trainable_parameters(spec.update.type, base.parameters, base.width, rank),
        weight_bytes=spec.update.get_weights_dtype(place.dtype, stored).itemsize,
        activation_bytes=place.dtype.itemsize,
        micro_batch_tokens=max(
            prepared.training.longest_row_tokens, hyper.batch_size * mean / hyper.gradient_accumulation_steps
        ),
        gradient_checkpointing=hyper.gradient_checkpointing,
    )


def _measure_flops_per_second(place: Device) -> float:
    """Of a matrix product on this machine: the best of a few, some milliseconds each."""
    width = 512
    square = torch.ones(width, width, device=place.torch_device, dtype=place.dtype)
    took = []
    for _ in range(5):
        start = time.perf_counter()
        # Reading a number waits for a GPU.
        (square @ square)[0, 0].item()
        took.append(time.perf_counter() - start)
    return 2 * width**3 / min(took)


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
    """Of each token what it adds to the text: some tokenizers drop the blank before a token that stands alone."""
    for index, token in enumerate(ids):
        before = _decode(tokenizer, ids[index - 1 : index]) if index else ""
        both = _decode(tokenizer, ids[max(0, index - 1) : index + 1])
        yield both.removeprefix(before) if both.startswith(before) else _decode(tokenizer, [token])


def _decode(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text
