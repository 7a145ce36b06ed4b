"""Loading of base models and results for inference. Outputs equal the trainer's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from training.artifacts.result import TEMPLATE_FILE, ResultMetadata
from training.errors import TrainingError
from training.models import base_model
from training.models.base_model import BaseModelInfo
from training.models.logprobs import compute_from_logits
from training.tasks import TASKS
from training.tasks.base import AnyTask, TaskContext
from training.updates.lora import BasePrecision, load_base


@dataclass(frozen=True)
class ServedModel:
    """Model in eval mode, with its task and everything the task needs for inference."""

    task: AnyTask
    model: Any
    context: TaskContext
    base: BaseModelInfo
    metadata: ResultMetadata | None
    """None for a base model."""

    @property
    def vocab_size(self) -> int:
        """Number of token ids that have both a text and an embedding.

        The embedding matrix may have rows beyond the tokenizer, and the tokenizer a control token
        beyond the matrix.
        """
        rows: int = self.model.config.get_text_config().vocab_size
        last: int = max(self.context.processor.get_vocab().values())
        return min(rows, last + 1)


def load(
    base_dir: Path,
    result_dir: Path | None,
    task: str,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    chat_template: str | None = None,
    base_precision: BasePrecision = "native",
) -> ServedModel:
    """Load a base (``result_dir`` None) or a result of it.

    ``chat_template`` is the name of the base's template in the registry; a result has its own.
    ``base_precision`` is that of a base; a result loads its base as it was trained.

    Raises ``TrainingError``: base_model_unavailable if the base is incomplete or cannot perform the
    task without fine-tuning, missing_extra if the precision needs a package that is not installed.
    """
    task_type = TASKS[task]
    saved = find_template(result_dir) if result_dir else None
    base = base_model.read_base_model_info(base_dir, base_dir.name, task_type, saved or chat_template)
    if result_dir is None:
        metadata, state = None, task_type.load_base_state(base_dir)
        model = load_base(base_dir, task_type, state, dtype, base_precision)
    else:
        metadata = read_metadata(result_dir, task)
        state = metadata.state
        model = metadata.update.load(base_dir, result_dir, task_type, state, dtype)
    model.requires_grad_(False)
    context = TaskContext(base.processor, state, logprob_fn=compute_from_logits)
    return ServedModel(task_type, model.to(device), context, base, metadata)


def find_template(result_dir: Path) -> Path | None:
    """Return the file of a result's chat template. None if it has the one of its base."""
    file = result_dir / TEMPLATE_FILE
    return file if file.is_file() else None


def read_metadata(result_dir: Path, task: str) -> ResultMetadata:
    """Read the metadata of a result. Raises ``TrainingError`` if it belongs to another task."""
    metadata = ResultMetadata.read(result_dir)
    if metadata.task != task:
        raise TrainingError("parity_failed", f"The result belongs to the task '{metadata.task}', not '{task}'.")
    return metadata


def load_adapter(model: Any, result_dir: Path, name: str) -> Any:
    """Add a LoRA result to ``model`` and return the PeftModel that holds all adapters.

    ``model`` is a base from ``load``, or the return value of an earlier call. A forward pass
    selects an adapter by ``adapter_names`` or after ``set_adapter``; ``delete_adapter(name)``
    removes it.
    """
    from peft import PeftModel

    if isinstance(model, PeftModel):
        model.load_adapter(result_dir, adapter_name=name, is_trainable=False, local_files_only=True)
    else:
        model = PeftModel.from_pretrained(model, result_dir, adapter_name=name, local_files_only=True)
    model.requires_grad_(False)
    return model.eval()


def merge(base_dir: Path, result_dir: Path, destination: Path) -> None:
    """Write a complete model directory, tokenizer included.

    A LoRA result is merged into its base as it was trained, so an NF4 base is dequantized. Any
    other result is written unchanged.
    """
    metadata = ResultMetadata.read(result_dir)
    task = TASKS[metadata.task]
    base = base_model.read_base_model_info(base_dir, base_dir.name, task, find_template(result_dir))
    model = metadata.update.load_merged(base_dir, result_dir, task, metadata.state, torch.float32)
    destination.mkdir(parents=True, exist_ok=True)
    base.save_with_processor(model, destination)
    task.write_library_files(model, destination)


def predict(served: ServedModel, inputs: Sequence[Any], top_k: int) -> list[dict[str, Any]]:
    """Predict one batch with a task that does not generate. Results are in the order of the
    inputs."""
    examples = served.task.encode_inputs(inputs, served.context.processor, served.base.context_length)
    return served.task.answer(served.model, examples, served.context, top_k)
