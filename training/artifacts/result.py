"""Format of a trained model on disk: the update's files, described by ``luthier.json``.

``result/`` and ``checkpoints/step-N/model/`` have this format. The same run gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from training.hyperparameters.auto import ResolvedHyperparameters
from training.models import base_model
from training.spec import Method
from training.tasks import TASKS
from training.tasks.base import TaskState
from training.updates import Update
from training.updates.lora import LoraUpdate

METADATA_FILE = "luthier.json"
TEMPLATE_FILE = "chat_template.jinja"
"""Chat template of a result, by the name that transformers and vLLM read."""


class ResultMetadata(BaseModel):
    """Metadata of a result, sufficient to serve it."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    task: str
    update: Update
    base: str
    """Id of the base model."""
    state: TaskState
    """State that the task derived from the data before training, such as a classifier's labels."""
    method: Method = "supervised"
    hyperparameters: ResolvedHyperparameters
    seed: int

    def write(self, directory: Path, model: Any, base: base_model.BaseModelInfo) -> None:
        """Write model and metadata into an existing, empty directory."""
        self.update.save(model, base, directory)
        if base.has_given_template:
            (directory / TEMPLATE_FILE).write_text(base.processor.chat_template, encoding="utf-8")
        if not isinstance(self.update, LoraUpdate):
            TASKS[self.task].write_library_files(model, directory)
        (directory / METADATA_FILE).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, directory: Path) -> ResultMetadata:
        return cls.model_validate_json((directory / METADATA_FILE).read_bytes())
