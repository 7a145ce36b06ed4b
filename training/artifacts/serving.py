"""What an engine needs to answer from a base model or a result. The numbers are the trainer's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from training.artifacts.result import ResultMetadata
from training.errors import TrainingError
from training.models import base_model
from training.models.base_model import BaseModel
from training.models.logprobs import compute_target_logprobs
from training.tasks import TASKS
from training.tasks.base import AnyTask, TaskContext


@dataclass(frozen=True)
class ServedModel:
    """A model in eval mode with its task and everything the task needs to answer."""

    task: AnyTask
    model: Any
    context: TaskContext
    base: BaseModel
    metadata: ResultMetadata | None
    """None for a base model."""


def load(
    base_dir: Path, result_dir: Path | None, task: str, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> ServedModel:
    """A base (``result_dir`` None) or a result on it.

    Raises ``TrainingError`` (base_model_unavailable) for a base that is incomplete or cannot answer untuned.
    """
    kind = TASKS[task]
    base = base_model.describe(base_dir, base_dir.name, kind)
    if result_dir is None:
        card, state = None, kind.load_base_state(base_dir)
        model = kind.load_model(base_dir, state, dtype).eval()
    else:
        card = read_metadata(result_dir, task)
        state = card.state
        model = card.update.load(base_dir, result_dir, kind, state, dtype)
    model.requires_grad_(False)
    return ServedModel(
        kind, model.to(device), TaskContext(base.processor, state, logprob_fn=compute_target_logprobs), base, card
    )


def read_metadata(result_dir: Path, task: str) -> ResultMetadata:
    card = ResultMetadata.read(result_dir)
    if card.task != task:
        raise TrainingError("parity_failed", f"The result is one of the task '{card.task}', not '{task}'.")
    return card


def load_adapter(model: Any, result_dir: Path, name: str) -> Any:
    """Put a LoRA result beside those that ``model`` has already; the PeftModel that holds them all.

    ``model`` is a base from ``load``, or what this gave before. A forward pass chooses by
    ``adapter_names`` or after ``set_adapter``; ``delete_adapter(name)`` removes it.
    """
    from peft import PeftModel

    if isinstance(model, PeftModel):
        model.load_adapter(result_dir, adapter_name=name, is_trainable=False, local_files_only=True)
    else:
        model = PeftModel.from_pretrained(model, result_dir, adapter_name=name, local_files_only=True)
    model.requires_grad_(False)
    return model.eval()


def merge(base_dir: Path, result_dir: Path, destination: Path) -> None:
    """Write a plain model directory, tokenizer included: a LoRA result merged into its base, another one as it is."""
    card = ResultMetadata.read(result_dir)
    served = load(base_dir, result_dir, card.task)
    model = served.model.merge_and_unload() if hasattr(served.model, "merge_and_unload") else served.model
    destination.mkdir(parents=True, exist_ok=True)
    served.base.save_with_processor(model, destination)
    served.task.write_extras(model, destination)


def predict(served: ServedModel, inputs: Sequence[Any], top_k: int) -> list[dict[str, Any]]:
    """Answers of a task that does not generate, in the order of the inputs, computed as one batch."""
    examples = served.task.encode_inputs(inputs, served.context.processor, served.base.context_length)
    return served.task.answer(served.model, examples, served.context, top_k)
