"""Outputs of a whole text: padding, and the position that a causal model's head reads.

A causal model's head reads the last token, the only one that has seen the whole text. transformers
looks for it by comparing ids with the padding token, which fails without such a token and is wrong
if the text ends with it. Here the attention mask gives the position.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.tasks.base import Batch

if TYPE_CHECKING:
    import torch


def load_padded_tokenizer(directory: Path) -> Any:
    """Load a tokenizer and give it a padding token that ends no text.

    It is the tokenizer's own padding token, else the end token, else the unknown token, else the
    first other control token. A token that the tokenizer appends to every text is passed over, so
    that transformers finds the end of a padded text too. A tokenizer without any of these keeps no
    padding token.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    last = tokenizer("a")["input_ids"][-1:]
    preferred = [tokenizer.pad_token, tokenizer.eos_token, tokenizer.unk_token, *tokenizer.all_special_tokens]
    usable = (token for token in preferred if token and tokenizer.convert_tokens_to_ids([token]) != last)
    padding = next(usable, tokenizer.pad_token)
    if padding != tokenizer.pad_token:
        tokenizer.pad_token = padding
    return tokenizer


def compute_sequence_logits(model: Any, inputs: Batch) -> torch.Tensor:
    """Return the logits (B, L) float32 of the model's head for each text."""
    import torch

    # The adapter's layers are inside the base model.
    classifier = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not is_causal_classifier(classifier):
        logits_BL: torch.Tensor = model(**inputs).logits
        return logits_BL.float()
    hidden_BTD = classifier.base_model(**inputs, use_cache=False).last_hidden_state
    last_B = inputs["attention_mask"].sum(1) - 1
    pooled_BD = hidden_BTD[torch.arange(len(last_B), device=last_B.device), last_B]
    last_logits_BL: torch.Tensor = classifier.score(pooled_BD)
    return last_logits_BL.float()


def is_causal_classifier(model: Any) -> bool:
    """Return True if the model's head reads the last token.

    transformers names this head ``score``, and the heads of encoders ``classifier``.
    """
    return hasattr(model, "score")
