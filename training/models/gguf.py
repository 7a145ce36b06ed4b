"""Conversion of a GGUF file to a directory of safetensors: ``python -m training.models.gguf``.

GGUF is the format of llama.cpp, with 4 to 8 bits a weight. Training needs whole weights, so the
conversion runs once and the result is a base model like any other.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from gguf import GGUFReader
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Sequence
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GgufConfig

DTYPE = torch.bfloat16
"""Dtype of the converted weights: the one that ``auto`` trains in, so that trainer and engine
compute with the same weights. Rounding SmolLM2-135M's Q4_1 weights to it changes the loss of
English text by 0.0006."""

PRE_TOKENIZERS: Mapping[str, PreTokenizer] = {
    # Single digits, then GPT-2's split. Digits come first: the spaces before a number are one
    # piece, which GPT-2's split alone would divide.
    "smollm": Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]),
}
"""``tokenizer.ggml.pre`` -> split of a text before merges. transformers replaces names that it does
not have by GPT-2's, which gives other tokens than those of the model's training."""


class UnsupportedGguf(ValueError):
    """The file is no GGUF file, or its tokenizer is not supported. The message gives the reason."""


def convert_gguf(source: Path, destination: Path) -> None:
    """Write the weights, tokenizer, chat template and generation config of ``source`` to the new
    directory ``destination``.

    The directory appears complete or not at all. The same file gives the same bytes.

    Raises ``UnsupportedGguf``, and ``FileExistsError`` if ``destination`` exists.
    """
    if destination.exists():
        raise FileExistsError(f"{destination} exists; remove it before the conversion")
    fields = _read_fields(source)
    tokenizer = _load_tokenizer(source, fields)
    model = AutoModelForCausalLM.from_pretrained(
        source.parent,
        gguf_file=source.name,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    )
    if len(tokenizer) > model.config.vocab_size:
        raise UnsupportedGguf(
            f"{source.name} has no token that transformers adds to its tokenizer: {len(tokenizer)} tokens, but an "
            f"embedding of {model.config.vocab_size}"
        )
    # The dense weights are ordinary ones, but the model counts as quantized and would not save.
    dense = type(model)(_clean_config(model.config)).to(DTYPE)
    dense.load_state_dict(model.state_dict())
    tokenizer.model_max_length = dense.config.max_position_embeddings
    dense.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    destination.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{destination.name}-", dir=destination.parent))
    try:
        dense.save_pretrained(part)
        tokenizer.save_pretrained(part)
        # Services may run as other users than the one who converts.
        for path, mode in ((part, 0o755), *((file, 0o644) for file in part.iterdir())):
            path.chmod(mode)
        part.rename(destination)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _read_fields(source: Path) -> dict[str, Any]:
    try:
        fields = GGUFReader(source).fields
    except (ValueError, IndexError) as error:
        message = f"{source.name} is not a readable GGUF file ({error}); install its package again"
        raise UnsupportedGguf(message) from error
    names = ("tokenizer.ggml.pre", "tokenizer.chat_template")
    return {name: fields[name].contents() for name in names if name in fields}


def _load_tokenizer(source: Path, fields: Mapping[str, Any]) -> Any:
    name = str(fields.get("tokenizer.ggml.pre"))
    if name not in PRE_TOKENIZERS:
        supported = ", ".join(PRE_TOKENIZERS)
        raise UnsupportedGguf(f"{source.name} has the pre-tokenizer '{name}'; supported: {supported}")
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    tokenizer.backend_tokenizer.pre_tokenizer = PRE_TOKENIZERS[name]
    tokenizer.chat_template = fields.get("tokenizer.chat_template")
    return tokenizer


def _clean_config(config: Any) -> Any:
    """Return the config without traces of the GGUF file."""
    values = config.to_dict()
    for name in ("quantization_config", "_model_name_or_path", "_name_or_path", "dtype"):
        values.pop(name, None)
    return type(config).from_dict(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("destination", type=Path)
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        convert_gguf(arguments.source, arguments.destination)
    except (UnsupportedGguf, OSError) as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
