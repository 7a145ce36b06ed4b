"""A row as plain PEFT and ``transformers`` are given it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import LoraConfig, TaskType

from benchmarks.trainer_comparison.config import TrainerConfig, read_rows, to_prompt_completion

IGNORE_INDEX = -100
"""Label of what is not learnt."""


def encode_rows(path: Path, tokenizer: Any) -> list[dict[str, list[int]]]:
    """``input_ids``, ``attention_mask`` and ``labels``; the prompt is not learnt."""
    return [_encode_row(row, tokenizer) for row in read_rows(path)]


def _encode_row(row: dict[str, str], tokenizer: Any) -> dict[str, list[int]]:
    asked, answered = to_prompt_completion(row)
    prompt: str = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    whole: str = tokenizer.apply_chat_template([*asked, *answered], tokenize=False)
    assert whole.startswith(prompt)
    before, after = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, whole[len(prompt) :]))
    return {
        "input_ids": before + after,
        "attention_mask": [1] * len(before + after),
        "labels": [IGNORE_INDEX] * len(before) + after,
    }


def build_lora_config(config: TrainerConfig) -> LoraConfig:
    """On all linear layers but the output."""
    return LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type=TaskType.CAUSAL_LM,
    )
