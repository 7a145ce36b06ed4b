"""Encoders, encoder-decoders and a vision model of the catalog."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import ModernBertConfig, ModernBertModel

from tests.families.catalog import INITIALIZER_RANGE
from tests.families.tokenizers import TokenizerSpec
from tests.tiny import create_tiny_encoder_base
from tests.tiny_seq2seq import create_tiny_bart_base, create_tiny_t5_base
from tests.tiny_vision import create_tiny_vit_base

ENCODER_TASKS = (
    "text-classification",
    "text-regression",
    "token-classification",
    "question-answering",
    "embedding",
)


@dataclass(frozen=True)
class EncoderFamily:
    """A family of models that have no chat template."""

    title: str
    model_class: str
    create_base: Callable[[Path], Path]
    tasks: tuple[str, ...] = ENCODER_TASKS
    refused: Mapping[str, str] = field(default_factory=dict)
    """Task that is refused -> the reason, as the refusal gives it."""


def create_tiny_modernbert_base(directory: Path) -> Path:
    """Save a ModernBERT: alternating local and global attention, rotary positions, no biases."""
    spec = TokenizerSpec("[SEP]", "[PAD]", "[CLS]", adds_bos=True, adds_eos=True, control=("[MASK]", "[UNK]"))
    tokenizer = spec.build(None)
    config = ModernBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        local_attention=16,
        max_position_embeddings=1024,
        initializer_range=INITIALIZER_RANGE,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        cls_token_id=tokenizer.bos_token_id,
        sep_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ModernBertModel(config)
    directory.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


ENCODERS: Mapping[str, EncoderFamily] = {
    "bert": EncoderFamily("BERT", "BertModel", create_tiny_encoder_base),
    "modernbert": EncoderFamily("ModernBERT", "ModernBertModel", create_tiny_modernbert_base),
    "t5": EncoderFamily("T5", "T5ForConditionalGeneration", create_tiny_t5_base, ("seq2seq",)),
    "bart": EncoderFamily("BART", "BartForConditionalGeneration", create_tiny_bart_base, ("seq2seq",)),
    "vit": EncoderFamily("ViT", "ViTModel", create_tiny_vit_base, ("image-classification",)),
}
