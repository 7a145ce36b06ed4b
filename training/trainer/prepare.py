"""Preparation shared by validation and training: base model, rows, labels, hyperparameters."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import torch

from training.artifacts.result import ResultMetadata
from training.data.dataset import Dataset, DatasetReader, FileRole
from training.data.encoding import RowEncoder
from training.data.example_cache import ExampleCache
from training.data.scan import SamplingPlan
from training.hyperparameters import auto
from training.hyperparameters.auto import AutoInputs, PlannedHyperparameters
from training.hyperparameters.device_fit import DeviceLimits, Fit, StepRows, choose_fit
from training.models import base_model, quantization
from training.models.base_model import BaseModelInfo
from training.models.step_memory import WEIGHT_BYTES, StepInputs, average_weight_bytes, count_trainable_parameters
from training.progress import ProgressReporter
from training.run_events import RunEvent
from training.spec import Precision, TrainSpec
from training.tasks.base import AnyTask, TaskState
from training.tasks.examples import read_column
from training.trainer.device import DTYPES, get_num_threads
from training.trainer.state import StopFlag
from training.updates.layers import LayersUpdate
from training.updates.lora import LoraUpdate

MAX_HELD_OUT_ROWS = 200
"""Maximum number of general rows held out of training, to measure forgetting."""
HELD_OUT_SHARE = 0.1
"""Share of the general rows held out, up to that maximum."""

Emit = Callable[[RunEvent], None]

_BITSANDBYTES_SETTINGS = (("update", "base_precision", "nf4"), ("hyperparameters", "optimizer", "adamw8bit"))
"""(section of the spec, field, value) of the settings that need the extra."""


def ignore_event(event: RunEvent) -> None:
    """Emit nothing."""


@dataclass(frozen=True)
class PreparedRun:
    """Everything a run needs except the model's weights."""

    task: AnyTask
    base: BaseModelInfo
    training: Dataset
    validation: Dataset
    """Empty if there is no validation file and no ``validation_share``."""
    general: Dataset
    """General rows to mix in; empty if there is no general file."""
    held_out: Dataset
    """General rows used only for evaluation."""
    general_per_epoch: int
    """General rows in each epoch."""
    state: TaskState
    hyper: PlannedHyperparameters
    start: Path | None
    """Directory of an earlier result to continue from."""

    def iter_warnings(self) -> Iterator[str]:
        """Yield warnings for the user that do not fail the job."""
        warning = auto.warn_if_too_few_rows(self.training.num_rows)
        if warning:
            yield warning
        names = {"training": self.training, "validation": self.validation, "general": self.general}
        for name, data in names.items():
            if data.truncated_rows:
                yield (
                    f"{data.truncated_rows} rows of the {name} file were truncated to {self.hyper.max_length} tokens."
                )
            # A chat of several sequences is not split for its length.
            if self.task.splits_rows and data.split_rows:
                yield (
                    f"{data.split_rows} rows of the {name} file were split into {data.split_parts} parts of at most "
                    f"{self.hyper.max_length} tokens."
                )


@dataclass(frozen=True)
class RunDatasets:
    """Data files of a run as they were read, with their errors."""

    task: AnyTask
    base: BaseModelInfo
    reader: DatasetReader
    training: Dataset
    validation: Dataset
    general: Dataset

    @property
    def by_role(self) -> dict[FileRole, Dataset]:
        return {"training_file": self.training, "validation_file": self.validation, "general_file": self.general}


def read_datasets(
    folder: Path, spec: TrainSpec, stop: StopFlag, sampling: SamplingPlan | None = None, emit: Emit = ignore_event
) -> RunDatasets:
    """Read the data files. Errors of rows are collected in the datasets.

    Raises ``TrainingError`` if the base cannot be used or the worker lacks an extra.
    """
    for section, field, value in _BITSANDBYTES_SETTINGS:
        if getattr(getattr(spec, section), field, None) == value:
            quantization.require_bitsandbytes(f"{section}.{field}")
    requested = spec.hyperparameters
    task = spec.create_task()
    base = base_model.read_base_model_info(spec.base, spec.base_id, task, spec.chat_template)
    max_length = (
        base.context_length if requested.max_length == "auto" else min(requested.max_length, base.context_length)
    )
    reader = DatasetReader(
        RowEncoder(task, base.processor, spec.columns, max_length),
        ProgressReporter(emit, stop.raise_if_set).bind("encoding"),
        ExampleCache(spec.cache or folder / "encoded", spec.cache_bytes),
        sampling,
        get_num_threads(),
    )
    training = _read_dataset(reader, folder, spec.training_file, "training_file")
    validation = _read_dataset(reader, folder, spec.validation_file, "validation_file")
    return RunDatasets(
        task, base, reader, training, validation, _read_dataset(reader, folder, spec.general_file, "general_file")
    )


def prepare(
    folder: Path, spec: TrainSpec, stop: StopFlag, sampling: SamplingPlan | None = None, emit: Emit = ignore_event
) -> PreparedRun:
    """Read the data files and prepare the run.

    With ``sampling``, token counts are estimates and the examples are too few to train on.

    Raises ``TrainingError`` if the base cannot be used or the rows cannot be trained on.
    """
    return prepare_from_files(read_datasets(folder, spec, stop, sampling, emit), folder, spec)


def prepare_from_files(files: RunDatasets, folder: Path, spec: TrainSpec) -> PreparedRun:
    """Resolve task state, splits and hyperparameters.

    Raises ``TrainingError`` if the rows cannot be trained on.
    """
    requested, start = spec.hyperparameters, folder / spec.start if spec.start else None
    task, training, validation, general = files.task, files.training, files.validation, files.general
    for data in files.by_role.values():
        data.raise_if_invalid()
    state = (
        task.update_state(ResultMetadata.read(start).state, training.examples)
        if start
        else task.prepare(training.examples)
    )
    to_validate: list[tuple[Dataset, FileRole]] = [(validation, "validation_file"), (general, "general_file")]
    if start:
        to_validate.append((training, "training_file"))
    for data, role in to_validate:
        files.reader.validate_against_state(data, state, role)
        data.raise_if_invalid()
    if requested.validation_share != "auto" and requested.validation_share > 0 and not spec.validation_file:
        training, validation = _split_dataset(training, requested.validation_share, spec.seed)
    general, held_out = _split_dataset(general, HELD_OUT_SHARE, spec.seed, MAX_HELD_OUT_ROWS)
    general_per_epoch = auto.count_general_rows(requested, training.num_examples, general.num_examples)
    inputs = _build_auto_inputs(spec, task, files.base, training, general_per_epoch)
    hyper = auto.resolve(requested, inputs).model_copy(update={"max_length": files.reader.encoder.max_length})
    return PreparedRun(
        task, files.base, training, validation, general, held_out, general_per_epoch, state, hyper, start
    )


def _read_dataset(reader: DatasetReader, folder: Path, name: str | None, role: FileRole) -> Dataset:
    return reader.read(folder / name, role) if name else Dataset()


def _split_dataset(data: Dataset, share: float, seed: int, max_rows: int | None = None) -> tuple[Dataset, Dataset]:
    """Split off a share of the rows, chosen by the seed, and return the rest and the share.

    Both parts have at least one row, unless there are fewer than two rows. All examples of a row
    are in the same part.
    """
    rows = data.num_rows
    if rows < 2:
        return data, Dataset()
    count = min(max(1, round(rows * share)), rows - 1, max_rows or rows)
    if data.unencoded:
        return replace(data, unencoded=data.unencoded - count), Dataset(unencoded=count)
    chosen = set(Random(f"{seed}/aside").sample(range(rows), count))
    rest, share_of_rows = array("q"), array("q")
    for row, examples in enumerate(data.iter_rows()):
        (share_of_rows if row in chosen else rest).extend(examples)
    return data.select(rest), data.select(share_of_rows)


def _build_auto_inputs(
    spec: TrainSpec, task: AnyTask, base: BaseModelInfo, training: Dataset, general_per_epoch: int
) -> AutoInputs:
    return AutoInputs(
        family=task.family,
        update=spec.update.type,
        method=spec.method,
        parameters=base.parameters,
        width=base.width,
        context_length=base.context_length,
        rows=training.num_examples + general_per_epoch,
        splittable=task.supports_micro_batches,
        has_general_file=bool(spec.general_file),
    )


def fit_to_device(spec: TrainSpec, prepared: PreparedRun, limits: DeviceLimits) -> Fit:
    """Choose the hyperparameters that depend on the device that trains."""
    return choose_fit(prepared.hyper, _build_step_inputs(spec, prepared), _build_step_rows(prepared), limits)


def _packs_rows(prepared: PreparedRun) -> bool:
    """Predict whether the rows of a batch will be concatenated instead of padded."""
    is_causal = prepared.task.peft_task_type == "CAUSAL_LM"
    return is_causal and not prepared.hyper.neftune_alpha and prepared.base.architecture.full_attention


def _build_step_inputs(spec: TrainSpec, prepared: PreparedRun) -> dict[Precision, StepInputs]:
    """Describe the step in each precision, apart from its micro-batch."""
    update, sizes, hyper = spec.update, prepared.base.architecture, prepared.hyper
    lora = update if isinstance(update, LoraUpdate) else None
    last = update.last if isinstance(update, LayersUpdate) else 0
    rank = lora.rank if lora else 0
    base_precision = lora.base_precision if lora else "native"
    stored = getattr(torch, prepared.base.dtype)
    trained_blocks = {"layers": min(last, sizes.layers), "head": 0}.get(update.type, sizes.layers)
    targets = lora.target_modules if lora else None
    return {
        precision: StepInputs(
            architecture=sizes,
            update=update.type,
            trainable_parameters=count_trainable_parameters(sizes, update.type, rank, targets, last),
            base_bytes=average_weight_bytes(
                sizes, str(update.get_weights_dtype(dtype, stored)).removeprefix("torch."), base_precision
            ),
            compute_bytes=WEIGHT_BYTES[precision],
            optimizer=hyper.optimizer,
            tokens=0,
            longest_row_tokens=0,
            checkpointing=False,
            accumulates=False,
            device_type="cpu",
            trained_blocks=trained_blocks,
            lora_rank=rank,
            lora_dropout=bool(lora and lora.dropout),
            quantized=base_precision != "native",
            keeps_initial_weights=bool(hyper.l2_to_base),
            full_logits=prepared.task.uses_lm_head and sizes.transforms_logits,
        )
        for precision, dtype in DTYPES.items()
    }


def _build_step_rows(prepared: PreparedRun) -> StepRows:
    data, batch_size = prepared.training, prepared.hyper.batch_size
    lengths = [size for dataset in (data, prepared.general) for size in read_column(dataset.examples, "size")]
    if data.longest_unencoded_tokens:
        lengths.append(data.longest_unencoded_tokens)
    longest = sorted(lengths, reverse=True)[:batch_size]
    return StepRows(batch_size, data.num_tokens / data.num_examples, longest, _packs_rows(prepared))
