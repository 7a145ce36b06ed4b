"""What both phases do first: base model, rows, labels and numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from training.artifacts.result import ResultMetadata
from training.data.dataset import Dataset, DatasetReader, FileRole
from training.data.scan import SamplingPlan
from training.hyperparameters import auto
from training.hyperparameters.auto import AutoInputs, ResolvedHyperparameters
from training.models import base_model
from training.models.base_model import BaseModel
from training.spec import TrainSpec
from training.tasks import METHODS
from training.tasks.base import AnyTask, TaskState
from training.trainer import device
from training.trainer.state import StopFlag

MAX_HELD_OUT_ROWS = 200
"""General rows at most, and a tenth of them at most, that are kept out of training to measure forgetting on."""


@dataclass(frozen=True)
class PreparedRun:
    """All of a run but the model's weights."""

    task: AnyTask
    base: BaseModel
    training: Dataset
    validation: Dataset
    """Empty where there is neither a validation file nor a share."""
    general: Dataset
    """Rows to mix in; empty where there is no general file."""
    held_out: Dataset
    """General rows to measure on."""
    general_per_epoch: int
    """General rows in each epoch."""
    state: TaskState
    hyper: ResolvedHyperparameters
    start: Path | None
    """An earlier result to go on from."""

    def iter_warnings(self) -> Iterator[str]:
        """What a person should know though nothing is wrong."""
        few = auto.warn_if_too_few_rows(self.training.num_rows)
        if few:
            yield few
        names = {"training": self.training, "validation": self.validation, "general": self.general}
        for name, data in names.items():
            if data.truncated_rows:
                yield f"{data.truncated_rows} rows of the {name} file were cut to {self.hyper.max_length} tokens."


@dataclass(frozen=True)
class RunDatasets:
    """The files of a run as they were read, faults and all."""

    task: AnyTask
    base: BaseModel
    reader: DatasetReader
    training: Dataset
    validation: Dataset
    general: Dataset

    @property
    def by_role(self) -> dict[FileRole, Dataset]:
        return {"training_file": self.training, "validation_file": self.validation, "general_file": self.general}


def read_datasets(folder: Path, spec: TrainSpec, stop: StopFlag, sampling: SamplingPlan | None = None) -> RunDatasets:
    """Raises ``TrainingError`` for a base that cannot be used; what is wrong with rows is in the files."""
    asked = spec.hyperparameters
    task = METHODS[spec.method][spec.task].with_options(asked.train_on_inputs is True)
    base = base_model.describe(spec.base, spec.base_id, task)
    limit = base.context_length if asked.max_length == "auto" else min(asked.max_length, base.context_length)
    reader = DatasetReader(task, base.processor, spec.columns, limit, stop.raise_if_set, sampling)
    training = _read_dataset(reader, folder, spec.training_file, "training_file")
    validation = _read_dataset(reader, folder, spec.validation_file, "validation_file")
    return RunDatasets(
        task, base, reader, training, validation, _read_dataset(reader, folder, spec.general_file, "general_file")
    )


def prepare(folder: Path, spec: TrainSpec, stop: StopFlag, sampling: SamplingPlan | None = None) -> PreparedRun:
    """Raises ``TrainingError``: a base that cannot be used, rows that cannot be trained on.

    With a ``sample`` the numbers are right, but the examples too few to train on.
    """
    return prepare_from_files(read_datasets(folder, spec, stop, sampling), folder, spec)


def prepare_from_files(files: RunDatasets, folder: Path, spec: TrainSpec) -> PreparedRun:
    """Raises ``TrainingError``: rows that cannot be trained on."""
    asked, start = spec.hyperparameters, folder / spec.start if spec.start else None
    task, training, validation, general = files.task, files.training, files.validation, files.general
    for data in files.by_role.values():
        data.raise_if_invalid()
    state = (
        task.update_state(ResultMetadata.read(start).state, training.examples)
        if start
        else task.prepare(training.examples)
    )
    checked: list[tuple[Dataset, FileRole]] = [(validation, "validation_file"), (general, "general_file")]
    for data, role in [*checked, (training, "training_file")] if start else checked:
        files.reader.validate_against_state(data, state, role)
        data.raise_if_invalid()
    if asked.validation_share != "auto" and asked.validation_share > 0 and not spec.validation_file:
        training, validation = _split_dataset(training, asked.validation_share, spec.seed)
    general, held_out = _split_dataset(general, 0.1, spec.seed, MAX_HELD_OUT_ROWS)
    mixed = auto.count_general_rows(asked, training.num_rows, general.num_rows)
    limit = files.reader.max_length
    hyper = auto.resolve(asked, _build_auto_inputs(spec, task, files.base, training, mixed)).model_copy(
        update={"max_length": limit}
    )
    return PreparedRun(task, files.base, training, validation, general, held_out, mixed, state, hyper, start)


def _read_dataset(reader: DatasetReader, folder: Path, name: str | None, role: FileRole) -> Dataset:
    return reader.read(folder / name, role) if name else Dataset()


def _split_dataset(data: Dataset, share: float, seed: int, max_rows: int | None = None) -> tuple[Dataset, Dataset]:
    """The rows, and of them a share chosen by the seed: at least one, so long as one is left."""
    rows = data.num_rows
    if rows < 2:
        return data, Dataset()
    count = min(max(1, round(rows * share)), rows - 1, max_rows or rows)
    if data.unencoded:
        return replace(data, unencoded=data.unencoded - count), Dataset(unencoded=count)
    chosen = set(Random(f"{seed}/aside").sample(range(rows), count))
    return data.select([row for row in range(rows) if row not in chosen]), data.select(sorted(chosen))


def _build_auto_inputs(
    spec: TrainSpec, task: AnyTask, base: BaseModel, training: Dataset, general_per_epoch: int
) -> AutoInputs:
    place = device.select_device()
    rows = training.num_rows
    return AutoInputs(
        family=task.family,
        update=spec.update.type,
        method=spec.method,
        parameters=base.parameters,
        width=base.width,
        context_length=base.context_length,
        rows=rows + general_per_epoch,
        longest_row_tokens=training.longest_row_tokens,
        mean_row_tokens=training.num_tokens / rows,
        splittable=task.splittable,
        dtype=place.dtype_name,
        micro_batch_tokens=place.token_budget.micro_batch,
        max_micro_batch_tokens=place.token_budget.max_tokens,
        has_general_file=bool(spec.general_file),
    )
