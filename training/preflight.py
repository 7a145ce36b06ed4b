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
from training.artifacts.result import Card
from training.data.dataset import Dataset
from training.data.scan import FAULTS_KEPT, Sample
from training.errors import TrainingError
from training.estimate import Size
from training.models import weights
from training.run_events import FileReport, Line, Plan, Preflight, PreviewRow, Problem, Token, TokenSequence
from training.spec import PREVIEW, TrainSpec
from training.tasks.base import Part
from training.trainer import device
from training.trainer.device import Place
from training.trainer.failures import as_failure
from training.trainer.prepare import Files, Prepared, prepared, read
from training.trainer.setup import updatable
from training.trainer.state import Stop
from training.updates.lora import LoraUpdate

COUNTED = 200_000_000
"""Parameters of a base up to which it is loaded to count what an update trains: within seconds."""
SHOWN_TOKENS = 2048
"""Of each sequence of a row."""


def preflight(folder: Path, emit: Callable[[Line], None], stop: Stop) -> None:
    """Raises ``TrainingError`` for a base that cannot be used; everything else is in the report."""
    spec = TrainSpec.read(folder)
    device.prepare(spec.threads)
    files = read(folder, spec, stop, sample=Sample(processes=device.threads()))
    plan, problem, warnings = None, None, list[str]()
    try:
        ready = prepared(files, folder, spec)
        plan, warnings = _plan(spec, ready), list(ready.notes())
    except TrainingError as error:
        failure = as_failure(error)
        assert failure, "every TrainingError has a code"
        problem = Problem(code=failure.code, message=failure.message, param=failure.param)
    present = {role: data for role, data in files.by_role.items() if data.rows or data.fault_count}
    emit(
        Preflight(
            files={role: _file_report(data) for role, data in present.items()},
            faults=[fault for data in present.values() for fault in data.faults][:FAULTS_KEPT],
            fault_count=sum(data.fault_count for data in present.values()),
            error=problem,
            warnings=warnings,
            plan=plan,
        )
    )


def preview(folder: Path, emit: Callable[[Line], None], stop: Stop) -> None:
    """The first good rows of the training file, one line each. Raises ``TrainingError`` where there are none."""
    spec = TrainSpec.read(folder)
    device.prepare(spec.threads)
    files = read(folder, spec, stop, sample=Sample(processes=device.threads()))
    data = files.training
    if not data.examples:
        data.raise_faults()
    state = Card.read(folder / spec.start).state if spec.start else files.task.prepare(data.examples)
    count = json.loads((folder / PREVIEW).read_text())["rows"]
    for example, line in list(zip(data.examples, data.lines, strict=True))[:count]:
        shown = files.task.shown(example, state)
        emit(
            PreviewRow(
                line=line,
                cut=example.cut,
                target=shown.target,
                sequences=[_sequence(files, part) for part in shown.parts],
            )
        )


def _file_report(data: Dataset) -> FileReport:
    return FileReport(
        rows=data.rows,
        tokens=data.tokens,
        longest_row_tokens=data.longest,
        cut_rows=data.cut,
        fault_count=data.fault_count,
    )


def _plan(spec: TrainSpec, ready: Prepared) -> Plan:
    hyper, rows = ready.hyper, ready.training.rows
    place = device.choose(hyper.dtype)
    counted = _trained(spec, ready, place)
    size = _size(spec, ready, place, counted)
    general = ready.general.tokens * ready.mixed / max(1, ready.general.rows)
    epoch_steps = ceil((rows + ready.mixed) / hyper.batch_size)
    return Plan(
        total_steps=hyper.max_steps,
        total_tokens=round((ready.training.tokens + general) * hyper.max_steps / epoch_steps),
        hyperparameters=hyper.told(),
        trainable_parameters=counted,
        total_parameters=ready.base.parameters,
        tokens_per_second=estimate.tokens_per_second(size, _operations_per_second(place)),
        start_seconds=estimate.START_SECONDS + size.parameters * size.weight_bytes / estimate.LOAD_BYTES_A_SECOND,
        peak_memory_bytes=estimate.peak_memory(size),
    )


def _trained(spec: TrainSpec, ready: Prepared, place: Place) -> int | None:
    """Raises ``TrainingError`` where the update does not fit the base."""
    if ready.base.parameters > COUNTED:
        return None
    model = updatable(spec, ready, place)
    return sum(weight.numel() for weight in weights.trainable(model).values())


def _size(spec: TrainSpec, ready: Prepared, place: Place, counted: int | None) -> Size:
    hyper, base = ready.hyper, ready.base
    rank = spec.update.rank if isinstance(spec.update, LoraUpdate) else 0
    mean = ready.training.tokens / ready.training.rows
    stored = getattr(torch, base.dtype)
    return Size(
        update=spec.update.type,
        optimizer=hyper.optimizer,
        parameters=base.parameters,
        width=base.width,
        trained=counted or estimate.guess_trained(spec.update.type, base.parameters, base.width, rank),
        weight_bytes=spec.update.weights_dtype(place.dtype, stored).itemsize,
        value_bytes=place.dtype.itemsize,
        part_tokens=max(ready.training.longest, hyper.batch_size * mean / hyper.gradient_accumulation_steps),
        checkpointing=hyper.gradient_checkpointing,
    )


def _operations_per_second(place: Place) -> float:
    """Of a matrix product on this machine: the best of a few, some milliseconds each."""
    width = 512
    square = torch.ones(width, width, device=place.device, dtype=place.dtype)
    took = []
    for _ in range(5):
        start = time.perf_counter()
        # Reading a number waits for a GPU.
        (square @ square)[0, 0].item()
        took.append(time.perf_counter() - start)
    return 2 * width**3 / min(took)


def _sequence(files: Files, part: Part) -> TokenSequence:
    ids, texts = list(part.ids), _texts(files.base.processor, list(part.ids))
    weighted = zip(ids[:SHOWN_TOKENS], texts, part.weights or [0.0] * len(ids), strict=False)
    return TokenSequence(
        name=part.name,
        rendered=_decoded(files.base.processor, ids),
        length=len(ids),
        tokens=[Token(token=token, text=text, trained=weight > 0, weight=weight) for token, text, weight in weighted],
    )


def _texts(tokenizer: Any, ids: list[int]) -> Iterator[str]:
    """Of each token what it adds to the text: some tokenizers drop the blank before a token that stands alone."""
    for index, token in enumerate(ids):
        before = _decoded(tokenizer, ids[index - 1 : index]) if index else ""
        both = _decoded(tokenizer, ids[max(0, index - 1) : index + 1])
        yield both.removeprefix(before) if both.startswith(before) else _decoded(tokenizer, [token])


def _decoded(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text
