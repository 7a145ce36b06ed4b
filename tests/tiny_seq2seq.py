"""Encoder-decoders small enough to create in a test, with the same weights every time."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import processors
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from tests.tiny import CONTEXT_LENGTH, INITIALIZER_RANGE, build_byte_tokenizer


def create_tiny_t5_base(directory: Path, *, hidden_size: int = 32) -> Path:
    """Save a byte-level T5: relative positions, and scaled embeddings as the output layer."""
    tokenizer = _build_tokenizer_with_eos()
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=hidden_size,
        d_kv=hidden_size // 4,
        d_ff=2 * hidden_size,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.1,
        initializer_factor=1.0,
        decoder_start_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return _save_model(T5ForConditionalGeneration, config, tokenizer, directory)


def create_tiny_bart_base(directory: Path, *, hidden_size: int = 32) -> Path:
    """Save a byte-level BART: learned positions, and a bias on its logits."""
    tokenizer = _build_tokenizer_with_eos()
    config = BartConfig(
        vocab_size=len(tokenizer),
        d_model=hidden_size,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=2 * hidden_size,
        decoder_ffn_dim=2 * hidden_size,
        max_position_embeddings=CONTEXT_LENGTH,
        init_std=INITIALIZER_RANGE,
        bos_token_id=None,
        decoder_start_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
    )
    return _save_model(BartForConditionalGeneration, config, tokenizer, directory)


def _build_tokenizer_with_eos() -> PreTrainedTokenizerFast:
    """Return the byte tokenizer, extended to append its end-of-text token to each text."""
    tokenizer = build_byte_tokenizer(template=None)
    end = (tokenizer.eos_token, tokenizer.eos_token_id)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end[0]}", pair=f"$A {end[0]} $B {end[0]}", special_tokens=[end]
    )
    return tokenizer


def _save_model(
    model_class: type[PreTrainedModel],
    config: T5Config | BartConfig,
    tokenizer: PreTrainedTokenizerFast,
    directory: Path,
) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model_class(config)
    model.generation_config = GenerationConfig(
        decoder_start_token_id=config.decoder_start_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
    )
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
