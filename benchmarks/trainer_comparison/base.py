"""Write a base model whose random weights are the same in every run.

Usage: ``python -m benchmarks.trainer_comparison.base SHAPE VOCABULARY FOLDER``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.trainer_comparison.shapes import CHAT_TEMPLATE, CONTEXT_LENGTH, EOS_TOKEN, SHAPES, ModelShape


def write_base(shape: ModelShape, vocabulary: Path, directory: Path) -> None:
    """Write float32 weights and GPT-2's tokenizer with a chat template."""
    tokenizer = load_gpt2_tokenizer(vocabulary)
    end = tokenizer.eos_token_id
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**shape.llama_config, bos_token_id=end, eos_token_id=end, pad_token_id=end))
    model.generation_config = GenerationConfig(bos_token_id=end, eos_token_id=end, pad_token_id=end)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def load_gpt2_tokenizer(vocabulary: Path) -> PreTrainedTokenizerFast:
    """Load GPT-2's tokenizer from the two published files."""
    names = (str(vocabulary / "gpt2_vocab.json"), str(vocabulary / "gpt2_merges.txt"))
    backend = Tokenizer(models.BPE.from_file(*names))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=EOS_TOKEN,
        pad_token=EOS_TOKEN,
        model_max_length=CONTEXT_LENGTH,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


if __name__ == "__main__":
    write_base(SHAPES[sys.argv[1]], Path(sys.argv[2]), Path(sys.argv[3]))
