"""Write a base model for all trainers: SmolLM2's weights, or random weights that are the same in
every run.

Usage: ``python -m benchmarks.trainer_comparison.base SHAPE VOCABULARY FOLDER``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedTokenizerFast

from benchmarks.trainer_comparison.shapes import (
    CHAT_TEMPLATE,
    CONTEXT_LENGTH,
    EOS_TOKEN,
    SMOLLM2_FILE,
    ModelShape,
    find_smollm2,
    select_shape,
)

END_OF_MESSAGE = "'<|im_end|>' + '\n'"
"""End of a message in SmolLM2's template."""
END_WITHOUT_NEWLINE = "'<|im_end|>' + ('' if loop.last and not add_generation_prompt else '\n')"


def write_base(shape: ModelShape, vocabulary: Path, directory: Path) -> None:
    """Write float32 weights and a tokenizer with a chat template."""
    package = find_smollm2() if shape.is_smollm2 else None
    if package:
        convert_smollm2(package, directory)
    else:
        write_random_base(shape, vocabulary, directory)


def convert_smollm2(package: Path, directory: Path) -> None:
    """Convert the package's GGUF file."""
    source = AutoModelForCausalLM.from_pretrained(package, gguf_file=SMOLLM2_FILE, dtype=torch.float32)
    fields = source.config.to_dict()
    # A model read from GGUF counts as quantized and cannot be saved, although its weights are
    # float32.
    del fields["quantization_config"]
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**fields))
    model.load_state_dict(source.state_dict())
    model.generation_config = source.generation_config
    model.save_pretrained(directory)
    load_smollm2_tokenizer(package).save_pretrained(directory)


def load_smollm2_tokenizer(package: Path) -> PreTrainedTokenizerFast:
    """Load the tokenizer of the package's GGUF file.

    The trainers would train on different targets after SmolLM2's template: only Luthier leaves out
    the newline after the last message. So this template writes none.
    """
    tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(package, gguf_file=SMOLLM2_FILE)
    assert END_OF_MESSAGE in tokenizer.chat_template, tokenizer.chat_template
    tokenizer.chat_template = tokenizer.chat_template.replace(END_OF_MESSAGE, END_WITHOUT_NEWLINE)
    return tokenizer


def write_random_base(shape: ModelShape, vocabulary: Path, directory: Path) -> None:
    tokenizer = load_gpt2_tokenizer(vocabulary)
    end = tokenizer.eos_token_id
    torch.manual_seed(0)
    config = AutoConfig.for_model(**shape.model_config, bos_token_id=end, eos_token_id=end, pad_token_id=end)
    model = AutoModelForCausalLM.from_config(config)
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
    write_base(select_shape(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
