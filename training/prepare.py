"""What both phases do first: base model, rows, labels and numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from training import auto, base_model
from training.auto import Facts, Resolved
from training.base_model import BaseModel
from training.data import Dataset, Reader
from training.loop import Stop
from training.spec import TrainSpec
from training.tasks import TASKS
from training.tasks.base import AnyTask, State


@dataclass(frozen=True)
class Prepared:
    """All of a run but the model's weights."""

    task: AnyTask
    base: BaseModel
    training: Dataset
    validation: Dataset
    """Empty where there is no validation file."""
    state: State
    hyper: Resolved

    def notes(self) -> Iterator[str]:
        """What a person should know though nothing is wrong."""
        few = auto.trust(len(self.training.examples))
        if few:
            yield few
        for name, data in (("training", self.training), ("validation", self.validation)):
            if data.cut:
                yield f"{data.cut} rows of the {name} file were cut to {self.hyper.max_length} tokens."


def prepare(folder: Path, spec: TrainSpec, stop: Stop) -> Prepared:
    """Raises ``TrainingError``: a base that cannot be used, rows that cannot be trained on."""
    task = TASKS[spec.task]
    base = base_model.describe(spec.base, spec.base_id, task.generative)
    asked = spec.hyperparameters.max_length
    limit = base.context if asked == "auto" else min(asked, base.context)
    reader = Reader(task, base.tokenizer, spec.columns, limit, stop.heed)
    training = reader.read(folder / spec.training_file, "training_file")
    validation = Dataset()
    if spec.validation_file:
        validation = reader.read(folder / spec.validation_file, "validation_file")
    training.raise_faults()
    validation.raise_faults()
    state = task.prepare(training.examples)
    reader.refuse_unknown(validation, state)
    validation.raise_faults()
    facts = Facts(
        generative=task.generative,
        update=spec.update.type,
        parameters=base.parameters,
        width=base.width,
        context=base.context,
        rows=len(training.examples),
        longest=training.longest,
    )
    hyper = auto.resolve(spec.hyperparameters, facts).model_copy(update={"max_length": limit})
    return Prepared(task, base, training, validation, state, hyper)
