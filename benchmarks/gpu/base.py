"""Base model with random weights: ``python -m benchmarks.gpu.base SHAPE DIRECTORY DEVICE``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from benchmarks.gpu.shapes import SHAPES, TINY_SHAPES, ModelShape


def create_base(shape: ModelShape, directory: Path, device: str) -> int:
    """Save the model in bfloat16 with a tokenizer of bytes, and return its number of weights."""
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(shape.model_type, **shape.config), dtype=torch.bfloat16
        )
    model.save_pretrained(directory)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(["<end>", *alphabet])}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>", pad_token="<end>").save_pretrained(directory)
    return sum(weight.numel() for weight in model.parameters())


if __name__ == "__main__":
    name, directory, device = sys.argv[1:]
    print(json.dumps({"parameters": create_base({**SHAPES, **TINY_SHAPES}[name], Path(directory), device)}))
