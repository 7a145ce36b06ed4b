"""Rows and LoRA configuration for PEFT and ``transformers``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import LoraConfig, TaskType

from benchmarks.trainer_comparison.config import TrainerConfig, read_rows, to_prompt_completion

IGNORE_INDEX = -100
"""Label of tokens that are not targets."""


def encode_rows(path: Path, tokenizer: Any) -> list[dict[str, list[int]]]:
    """Encode rows as ``input_ids``, ``attention_mask`` and ``labels``.

    Prompt tokens are no targets.
    """
    return [_encode_row(row, tokenizer) for row in read_rows(path)]


def _encode_row(row: dict[str, str], tokenizer: Any) -> dict[str, list[int]]:
    prompt_messages, completion = to_prompt_completion(row)
    prompt: str = tokenizer.apply_chat_template(prompt_messages, tokenize=False, add_generation_prompt=True)
    text: str = tokenizer.apply_chat_template([*prompt_messages, *completion], tokenize=False)
    assert text.startswith(prompt)
    prompt_ids, target_ids = (
        tokenizer(part, add_special_tokens=False)["input_ids"] for part in (prompt, text[len(prompt) :])
    )
    return {
        "input_ids": prompt_ids + target_ids,
        "attention_mask": [1] * len(prompt_ids + target_ids),
        "labels": [IGNORE_INDEX] * len(prompt_ids) + target_ids,
    }


def build_lora_config(config: TrainerConfig) -> LoraConfig:
    """Build a LoRA configuration for all linear layers except the output layer."""
    return LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type=TaskType.CAUSAL_LM,
    )
