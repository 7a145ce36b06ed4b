"""Description of a base model, read without loading its weights."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from training.errors import TrainingError
from training.models import support
from training.models.architecture import Architecture, read_architecture
from training.tasks.base import MAX_LENGTH, AnyTask
from training.tasks.chat_format.named_templates import TEMPLATE_NAMES, build_named_template
from training.tasks.chat_format.template import ChatTemplate
from training.tasks.support.sequence import is_causal_classifier

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
    has_given_template: bool = False
    """True if the processor's chat template is not the base's own."""

    def save_with_processor(self, model: Any, directory: Path) -> None:
        """Write a fine-tuned model with this base's processor, in this base's dtype."""
        import torch

        dtype = getattr(torch, self.dtype)
        model.config.dtype = dtype
        if is_causal_classifier(model):
            # transformers compares ids with it to find the last token of a row.
            model.config.get_text_config().pad_token_id = self.processor.pad_token_id
        if self.has_given_template:
            _add_end_tokens(model.generation_config, ChatTemplate(self.processor).get_end_of_turn_ids())
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


def read_base_model_info(
    directory: Path, name: str, task: AnyTask, chat_template: str | Path | None = None
) -> BaseModelInfo:
    """Read the description of a base.

    ``chat_template`` replaces the base's own, if the task reads one: a name of ``TEMPLATE_NAMES``,
    or a file. Raises ``TrainingError`` (base_model_unavailable) if the base is incomplete or does
    not fit the task.
    """
    weights = sorted(directory.glob("*.safetensors"))
    if not (directory / "config.json").is_file() or not weights:
        raise _build_unavailable_error(f"The base model '{name}' is incomplete on this worker.")
    _raise_if_unsupported(name, support.check_format(directory))
    try:
        model_config = support.read_config(directory)
    except ValueError as error:
        raise _build_unavailable_error(f"The base model '{name}' cannot be used: {error}") from error
    _raise_if_unsupported(name, support.check_architecture(model_config, task))
    config, processor = model_config.get_text_config(), task.load_processor(directory)
    _raise_if_unsupported(name, support.check_vocabulary(model_config, processor))
    if task.needs_chat_template:
        _set_chat_template(processor, name, chat_template)
    max_positions = getattr(config, "max_position_embeddings", None) or MAX_LENGTH
    tensors = [tensor for path in weights for tensor in _read_tensor_headers(path)]
    parameters = sum(prod(tensor["shape"]) for tensor in tensors)
    dtype = max(tensors, key=lambda tensor: prod(tensor["shape"]))["dtype"]
    if dtype not in _DTYPES:
        raise _build_unavailable_error(f"The base model '{name}' has weights of the type {dtype}; use another release.")
    return BaseModelInfo(
        id=name,
        directory=directory,
        processor=processor,
        parameters=parameters,
        width=_get_width(config),
        # A tokenizer without a limit reports 10^30.
        context_length=min(max_positions, getattr(processor, "model_max_length", MAX_LENGTH), MAX_LENGTH),
        dtype=_DTYPES[dtype],
        architecture=read_architecture(model_config, parameters),
        has_given_template=task.needs_chat_template and chat_template is not None,
    )


def _raise_if_unsupported(name: str, reasons: list[str]) -> None:
    if reasons:
        raise _build_unavailable_error(f"The base model '{name}' cannot be used: {' '.join(reasons)}")


def _add_end_tokens(generation_config: Any, tokens: set[int]) -> None:
    """Let other engines end an answer where the chat template does."""
    configured = generation_config.eos_token_id
    known = configured if isinstance(configured, list) else [configured] if configured is not None else []
    generation_config.eos_token_id = [*known, *sorted(tokens.difference(known))]


def _set_chat_template(processor: Any, name: str, chat_template: str | Path | None) -> None:
    if isinstance(chat_template, Path):
        processor.chat_template = chat_template.read_text(encoding="utf-8")
    elif chat_template is not None:
        try:
            processor.chat_template = build_named_template(chat_template, processor)
        except ValueError as error:
            raise _build_unavailable_error(
                f"The field 'chat_template' of the base model '{name}' in models.toml: {error}."
            ) from error
    if not processor.chat_template:
        raise _build_unavailable_error(
            f"The base model '{name}' has no chat template (chat_template.jinja). The operator can choose one with the "
            f"field 'chat_template' in models.toml: {', '.join(TEMPLATE_NAMES)}."
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
