"""What both phases do first: base model, rows, labels and numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from training.artifacts.result import Card
from training.data.dataset import Dataset, FileRole, Reader
from training.data.scan import Sample
from training.hyperparameters import auto
from training.hyperparameters.auto import Facts, Resolved
from training.models import base_model
from training.models.base_model import BaseModel
from training.spec import TrainSpec
from training.tasks import METHODS
from training.tasks.base import AnyTask, State
from training.trainer import device
from training.trainer.state import Stop

GENERAL_HELD_OUT = 200
"""General rows at most, and a tenth of them at most, that are kept out of training to measure forgetting on."""


@dataclass(frozen=True)
class Prepared:
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
    mixed: int
    """General rows in each epoch."""
    state: State
    hyper: Resolved
    start: Path | None
    """An earlier result to go on from."""

    def notes(self) -> Iterator[str]:
        """What a person should know though nothing is wrong."""
        few = auto.trust(self.training.rows)
        if few:
            yield few
        names = {"training": self.training, "validation": self.validation, "general": self.general}
        for name, data in names.items():
            if data.cut:
                yield f"{data.cut} rows of the {name} file were cut to {self.hyper.max_length} tokens."


@dataclass(frozen=True)
class Files:
    """The files of a run as they were read, faults and all."""

    task: AnyTask
    base: BaseModel
    reader: Reader
    training: Dataset
    validation: Dataset
    general: Dataset

    @property
    def by_role(self) -> dict[FileRole, Dataset]:
        return {"training_file": self.training, "validation_file": self.validation, "general_file": self.general}


def read(folder: Path, spec: TrainSpec, stop: Stop, sample: Sample | None = None) -> Files:
    """Raises ``TrainingError`` for a base that cannot be used; what is wrong with rows is in the files."""
    asked = spec.hyperparameters
    task = METHODS[spec.method][spec.task].learning(asked.train_on_inputs is True)
    base = base_model.describe(spec.base, spec.base_id, task)
    limit = base.context if asked.max_length == "auto" else min(asked.max_length, base.context)
    reader = Reader(task, base.processor, spec.columns, limit, stop.heed, sample)
    training = _read(reader, folder, spec.training_file, "training_file")
    validation = _read(reader, folder, spec.validation_file, "validation_file")
    return Files(task, base, reader, training, validation, _read(reader, folder, spec.general_file, "general_file"))


def prepare(folder: Path, spec: TrainSpec, stop: Stop, sample: Sample | None = None) -> Prepared:
    """Raises ``TrainingError``: a base that cannot be used, rows that cannot be trained on.

    With a ``sample`` the numbers are right, but the examples too few to train on.
    """
    return prepared(read(folder, spec, stop, sample), folder, spec)


def prepared(files: Files, folder: Path, spec: TrainSpec) -> Prepared:
    """Raises ``TrainingError``: rows that cannot be trained on."""
    asked, start = spec.hyperparameters, folder / spec.start if spec.start else None
    task, training, validation, general = files.task, files.training, files.validation, files.general
    for data in files.by_role.values():
        data.raise_faults()
    state = task.continued(Card.read(start).state, training.examples) if start else task.prepare(training.examples)
    checked: list[tuple[Dataset, FileRole]] = [(validation, "validation_file"), (general, "general_file")]
    for data, role in [*checked, (training, "training_file")] if start else checked:
        files.reader.refuse_unknown(data, state, role)
        data.raise_faults()
    if asked.validation_share != "auto" and asked.validation_share > 0 and not spec.validation_file:
        training, validation = _carved(training, asked.validation_share, spec.seed)
    general, held_out = _carved(general, 0.1, spec.seed, GENERAL_HELD_OUT)
    mixed = auto.general_rows(asked, training.rows, general.rows)
    limit = files.reader.max_length
    hyper = auto.resolve(asked, _facts(spec, task, files.base, training, mixed)).model_copy(
        update={"max_length": limit}
    )
    return Prepared(task, files.base, training, validation, general, held_out, mixed, state, hyper, start)


def _read(reader: Reader, folder: Path, name: str | None, role: FileRole) -> Dataset:
    return reader.read(folder / name, role) if name else Dataset()


def _carved(data: Dataset, share: float, seed: int, most: int | None = None) -> tuple[Dataset, Dataset]:
    """The rows, and of them a share chosen by the seed: at least one, so long as one is left."""
    rows = data.rows
    if rows < 2:
        return data, Dataset()
    count = min(max(1, round(rows * share)), rows - 1, most or rows)
    if data.unencoded:
        return replace(data, unencoded=data.unencoded - count), Dataset(unencoded=count)
    chosen = set(Random(f"{seed}/aside").sample(range(rows), count))
    return data.only([row for row in range(rows) if row not in chosen]), data.only(sorted(chosen))


def _facts(spec: TrainSpec, task: AnyTask, base: BaseModel, training: Dataset, mixed: int) -> Facts:
    place = device.choose()
    rows = training.rows
    return Facts(
        family=task.family,
        update=spec.update.type,
        method=spec.method,
        parameters=base.parameters,
        width=base.width,
        context=base.context,
        rows=rows + mixed,
        longest=training.longest,
        mean=training.tokens / rows,
        separable=task.separable,
        dtype=place.dtype_name,
        part_tokens=place.appetite.part,
        most_tokens=place.appetite.most,
        general=bool(spec.general_file),
    )
