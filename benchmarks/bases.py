"""Base models for runs whose task no installed model can do: weights drawn at random, and how a home lists them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ResNetConfig,
    ResNetModel,
)
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

SEED = 0
VOCAB_SIZE = 4000
PAD_TOKEN, EOS_TOKEN = "<pad>", "</s>"
CONTEXT_LENGTH = 128
HIDDEN_SIZE = 256
IMAGE_SIZE = 64
"""Pixels of what the ResNet sees: its stem halves twice, which would leave little of 32."""


@dataclass(frozen=True)
class RegistryEntry:
    """What ``models.toml`` says of a base model."""

    path: Path
    tasks: list[str]
    parameters: int
    context: int
    license: str
    description: str

    def add_to_registry(self, home: Path, name: str) -> None:
        """Add it to the home's ``models.toml``."""
        values = {**vars(self), "path": str(self.path.resolve())}
        lines = [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""]
        with (home / "models.toml").open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")


def create_translation_base(directory: Path, texts: Iterable[str]) -> RegistryEntry:
    """A small BART with random weights; its tokenizer, byte-level BPE, is made from ``texts``."""
    tokenizer = train_bpe_tokenizer(texts)
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    config = BartConfig(
        vocab_size=len(tokenizer),
        d_model=HIDDEN_SIZE,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=2 * HIDDEN_SIZE,
        decoder_ffn_dim=2 * HIDDEN_SIZE,
        max_position_embeddings=CONTEXT_LENGTH,
        # About Glorot's for square matrices of this width; BART's own 0.02 is meant for models four times as wide.
        init_std=HIDDEN_SIZE**-0.5,
        bos_token_id=None,
        decoder_start_token_id=end,
        eos_token_id=end,
        forced_eos_token_id=None,
        pad_token_id=pad,
    )
    model = _init_random_model(BartForConditionalGeneration, config)
    model.generation_config = GenerationConfig(decoder_start_token_id=end, eos_token_id=end, pad_token_id=pad)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    told = f"BART of 2 and 2 blocks, width {HIDDEN_SIZE}, random initialisation, byte-level BPE made from the training pairs"
    return RegistryEntry(directory, ["seq2seq"], model.num_parameters(), CONTEXT_LENGTH, "none: made on the spot", told)


def create_image_base(directory: Path) -> RegistryEntry:
    """A small ResNet with random weights, without a head."""
    config = ResNetConfig(embedding_size=32, hidden_sizes=[64, 128, 256], depths=[1, 1, 1], layer_type="basic")
    model = _init_random_model(ResNetModel, config)
    model.save_pretrained(directory)
    ViTImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}).save_pretrained(directory)
    told = f"ResNet of 3 basic blocks, widths 64 to 256, pictures scaled to {IMAGE_SIZE} x {IMAGE_SIZE}, random initialisation"
    return RegistryEntry(directory, ["image-classification"], model.num_parameters(), 1, "none: made on the spot", told)


def train_bpe_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Every text ends in ``END``."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[PAD_TOKEN, EOS_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    end = (EOS_TOKEN, backend.token_to_id(EOS_TOKEN))
    backend.post_processor = processors.TemplateProcessing(
        single=f"$A {EOS_TOKEN}", pair=f"$A {EOS_TOKEN} $B {EOS_TOKEN}", special_tokens=[end]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD_TOKEN,
        eos_token=EOS_TOKEN,
        model_max_length=CONTEXT_LENGTH,
        clean_up_tokenization_spaces=False,
    )


def _init_random_model(model_class: type[PreTrainedModel], config: BartConfig | ResNetConfig) -> PreTrainedModel:
    """The same weights every time."""
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        return model_class(config)
