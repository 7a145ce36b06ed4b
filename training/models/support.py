"""Checks whether a base model can be trained and served for a task, before its weights are loaded.

A reason is a sentence that names the obstacle and the way around it. No torch; transformers is
imported inside functions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from training.tasks.base import AnyTask

CONFIG_FILE = "config.json"

ATTENTION_LAYER_TYPES = frozenset({"full_attention", "sliding_attention", "chunked_attention"})
"""Layer types of a config whose state is keys and values."""
SERVED_RECURRENT_MODELS = frozenset({"qwen3_5_text", "qwen3_5_moe_text", "qwen3_next"})
"""Types of models whose recurrent layers, gated DeltaNet, mask the padding of a batch. Mamba, RWKV
and short convolutions may read it."""


def check_base(directory: Path, task: AnyTask) -> list[str]:
    """Return the reasons why a base cannot be used for the task; an empty list if it can.

    Reads configs and the tokenizer only.
    """
    if not (directory / CONFIG_FILE).is_file():
        return [f"It has no {CONFIG_FILE}; download it again."]
    reasons = check_format(directory)
    if reasons:
        return reasons
    try:
        config = read_config(directory)
    except ValueError as error:
        return [str(error)]
    reasons = check_architecture(config, task)
    return reasons or check_vocabulary(config, task.load_processor(directory))


def read_config(directory: Path) -> Any:
    """Read the transformers config. Raises ``ValueError`` with the reason why it cannot be read."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(directory, local_files_only=True)
    except (ValueError, KeyError, OSError, StrictDataclassError) as error:
        raise ValueError(f"transformers cannot read its {CONFIG_FILE}: {error}") from error


def check_format(directory: Path) -> list[str]:
    """Return the reasons that follow from ``config.json`` alone, in microseconds.

    A directory without a readable config gives none: it is incomplete, which its loader reports.
    """
    try:
        config = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    sections = [config, *(value for value in config.values() if isinstance(value, dict))]
    quantization = next(
        (section["quantization_config"] for section in sections if "quantization_config" in section), None
    )
    if quantization is None:
        return []
    method = quantization.get("quant_method", "unknown") if isinstance(quantization, Mapping) else "unknown"
    return [
        f"Its weights are quantized ('{method}' in the quantization_config), and gradients need plain weights; "
        "use the bfloat16 release of the model."
    ]


def check_architecture(config: Any, task: AnyTask) -> list[str]:
    """Return the reasons that follow from a transformers config."""
    if task.auto_class is None:
        return []
    architectures = _get_model_classes(task.auto_class)
    if type(config) not in architectures:
        return [
            f"transformers has no {task.auto_class.removeprefix('AutoModelFor')} model of the type "
            f"'{config.model_type}', so it cannot be trained for {task.name}; choose another base or task."
        ]
    if config.is_encoder_decoder:
        return list(_check_encoder_decoder(config, task))
    if task.name == "question-answering" and _is_causal(config):
        return [
            "It reads from left to right, so the token that stands for 'no answer' sees neither question nor context; "
            "use an encoder, or the task chat."
        ]
    if task.generative and _is_recurrent(config, architectures[type(config)]):
        return [
            f"The recurrent layers of '{config.model_type}' models cannot be served in batches; choose a model with "
            "attention or gated DeltaNet layers."
        ]
    return []


def check_vocabulary(config: Any, processor: Any) -> list[str]:
    """Return the reason why texts could contain tokens without an embedding.

    A token beyond the embedding matrix is harmless if no text contains it: it is a control token,
    which is plain text in a row, and neither the chat template nor the tokenizer writes it. Rows of
    the matrix beyond the vocabulary are harmless too.
    """
    rows = getattr(config.get_text_config(), "vocab_size", None)
    if rows is None or not hasattr(processor, "get_vocab"):
        return []
    beyond = {token: number for token, number in processor.get_vocab().items() if number >= rows}
    written = sorted((token for token in beyond if _can_occur(token, beyond[token], processor)), key=beyond.__getitem__)
    if not written:
        return []
    return [
        f"Its tokenizer has the token '{written[0]}' ({beyond[written[0]]}), but the embedding matrix has {rows} rows; "
        "use a release whose embeddings include the added tokens."
    ]


def _can_occur(token: str, number: int, tokenizer: Any) -> bool:
    """Return True if a text, the chat template or the tokenizer itself may write this token."""
    added = tokenizer.added_tokens_decoder.get(number)
    is_control = added is not None and added.special
    named = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token}
    return not is_control or token in named or token in (tokenizer.chat_template or "")


def _check_encoder_decoder(config: Any, task: AnyTask) -> Iterator[str]:
    if task.family != "seq2seq":
        yield f"It is an encoder-decoder model, which is trained for seq2seq only, not for {task.name}."
    elif getattr(config, "decoder_start_token_id", None) is None:
        yield "Its config.json has no decoder_start_token_id, the token that begins every output; add it."


def _is_recurrent(config: Any, model_class: Any) -> bool:
    """Return True if the engine cannot batch the state of every layer."""
    text = config.get_text_config()
    is_attention = set(getattr(text, "layer_types", None) or ()) <= ATTENTION_LAYER_TYPES
    is_stateful = getattr(model_class, "_is_stateful", False)
    return text.model_type not in SERVED_RECURRENT_MODELS and (is_stateful or not is_attention)


def _is_causal(config: Any) -> bool:
    """Return True for decoders. Encoders such as BERT can be loaded as decoders, but predict
    masked tokens too."""
    causal, masked = (_get_model_classes(name) for name in ("AutoModelForCausalLM", "AutoModelForMaskedLM"))
    return type(config) in causal and type(config) not in masked


def _get_model_classes(auto_class: str) -> Any:
    """Return transformers' mapping of config classes to model classes."""
    import transformers

    return getattr(transformers, auto_class)._model_mapping
