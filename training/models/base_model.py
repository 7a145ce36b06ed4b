"""Description of a base model, read without loading its weights."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from training.errors import TrainingError
from training.models.architecture import Architecture, read_architecture
from training.tasks.base import MAX_LENGTH, AnyTask

_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True)
class BaseModelInfo:
    """Base model in a directory."""

    id: str
    """Name in the registry."""
    directory: Path
    processor: Any
    """Tokenizer or image processor."""
    parameters: int
    width: int
    """Width of the hidden state."""
    context_length: int
    """Maximum sequence length, tokens."""
    dtype: str
    """Dtype of the weights on disk, by its name in torch."""
    architecture: Architecture

    def save_with_processor(self, model: Any, directory: Path) -> None:
        """Write a fine-tuned model with this base's processor, in this base's dtype."""
        import torch

        dtype = getattr(torch, self.dtype)
        model.config.dtype = dtype
        # Tied weights have two names and one tensor. Converted separately, they would be two
        # tensors, and both would be saved.
        converted: dict[int, torch.Tensor] = {}
        state = {
            name: converted.setdefault(id(weight), weight.detach().to(dtype))
            if weight.is_floating_point()
            else weight.detach()
            for name, weight in model.state_dict(keep_vars=True).items()
        }
        model.save_pretrained(directory, state_dict=state)
        self.processor.save_pretrained(directory)


def read_base_model_info(directory: Path, name: str, task: AnyTask) -> BaseModelInfo:
    """Read the description of a base.

    Raises ``TrainingError`` (base_model_unavailable) if it is incomplete or does not fit the task.
    """
    from transformers import AutoConfig

    weights = sorted(directory.glob("*.safetensors"))
    if not (directory / "config.json").is_file() or not weights:
        raise _build_unavailable_error(f"The base model '{name}' is incomplete on this worker.")
    model_config = AutoConfig.from_pretrained(directory, local_files_only=True)
    config = model_config.get_text_config()
    processor = task.load_processor(directory)
    if task.needs_chat_template and not processor.chat_template:
        raise _build_unavailable_error(f"The base model '{name}' has no chat template (chat_template.jinja).")
    max_positions = getattr(config, "max_position_embeddings", None) or MAX_LENGTH
    tensors = [tensor for path in weights for tensor in _read_tensor_headers(path)]
    parameters = sum(prod(tensor["shape"]) for tensor in tensors)
    return BaseModelInfo(
        id=name,
        directory=directory,
        processor=processor,
        parameters=parameters,
        width=_get_width(config),
        # A tokenizer without a limit reports 10^30.
        context_length=min(max_positions, getattr(processor, "model_max_length", MAX_LENGTH), MAX_LENGTH),
        dtype=_DTYPES[max(tensors, key=lambda tensor: prod(tensor["shape"]))["dtype"]],
        architecture=read_architecture(model_config, parameters),
    )


def _get_width(config: Any) -> int:
    """Return the hidden size; for a convolutional model, that of its last stage."""
    width = getattr(config, "hidden_size", None) or config.hidden_sizes[-1]
    return int(width)


def _build_unavailable_error(message: str) -> TrainingError:
    return TrainingError("base_model_unavailable", message, "model")


def _read_tensor_headers(path: Path) -> list[dict[str, Any]]:
    """Read shapes and dtypes from a safetensors header: its length in 8 bytes, then JSON."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return [tensor for name, tensor in header.items() if name != "__metadata__"]
