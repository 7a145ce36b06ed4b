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
VOCABULARY = 4000
PAD, END = "<pad>", "</s>"
CONTEXT = 128
WIDTH = 256
SIDE = 64
"""Pixels of what the ResNet sees: its stem halves twice, which would leave little of 32."""


@dataclass(frozen=True)
class Entry:
    """What ``models.toml`` says of a base model."""

    path: Path
    tasks: list[str]
    parameters: int
    context: int
    license: str
    description: str

    def list_in(self, home: Path, name: str) -> None:
        """Add it to the home's ``models.toml``."""
        values = {**vars(self), "path": str(self.path.resolve())}
        lines = [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""]
        with (home / "models.toml").open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")


def translator(directory: Path, texts: Iterable[str]) -> Entry:
    """A small BART with random weights; its tokenizer, byte-level BPE, is made from ``texts``."""
    tokenizer = bpe(texts)
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    config = BartConfig(
        vocab_size=len(tokenizer),
        d_model=WIDTH,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=2 * WIDTH,
        decoder_ffn_dim=2 * WIDTH,
        max_position_embeddings=CONTEXT,
        # About Glorot's for square matrices of this width; BART's own 0.02 is meant for models four times as wide.
        init_std=WIDTH**-0.5,
        bos_token_id=None,
        decoder_start_token_id=end,
        eos_token_id=end,
        forced_eos_token_id=None,
        pad_token_id=pad,
    )
    model = _drawn(BartForConditionalGeneration, config)
    model.generation_config = GenerationConfig(decoder_start_token_id=end, eos_token_id=end, pad_token_id=pad)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    told = f"BART of 2 and 2 blocks, width {WIDTH}, random initialisation, byte-level BPE made from the training pairs"
    return Entry(directory, ["seq2seq"], model.num_parameters(), CONTEXT, "none: made on the spot", told)


def picture_reader(directory: Path) -> Entry:
    """A small ResNet with random weights, without a head."""
    config = ResNetConfig(embedding_size=32, hidden_sizes=[64, 128, 256], depths=[1, 1, 1], layer_type="basic")
    model = _drawn(ResNetModel, config)
    model.save_pretrained(directory)
    ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(directory)
    told = f"ResNet of 3 basic blocks, widths 64 to 256, pictures scaled to {SIDE} x {SIDE}, random initialisation"
    return Entry(directory, ["image-classification"], model.num_parameters(), 1, "none: made on the spot", told)


def bpe(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Every text ends in ``END``."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    end = (END, backend.token_to_id(END))
    backend.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", pair=f"$A {END} $B {END}", special_tokens=[end]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        eos_token=END,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def _drawn(kind: type[PreTrainedModel], config: BartConfig | ResNetConfig) -> PreTrainedModel:
    """The same weights every time."""
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        return kind(config)
