"""Tests for the catalog: every base loads with its own classes and renders its template."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.families.catalog import DECODERS


@pytest.mark.parametrize("name", DECODERS)
def test_a_base_loads_with_the_classes_that_its_files_name(tmp_path: Path, name: str) -> None:
    family = DECODERS[name]
    base = family.create_base(tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    assert type(model).__name__ == family.model_class
    assert (tokenizer.pad_token, tokenizer.eos_token) == (family.tokenizer.pad, family.tokenizer.eos)
    ids = tokenizer("Hello there")["input_ids"]
    assert (ids[0] == tokenizer.bos_token_id) == family.tokenizer.adds_bos
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == "Hello there"
    if family.template:
        text = tokenizer.apply_chat_template([{"role": "user", "content": "Hello there"}], tokenize=False)
        assert "Hello there" in text
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits
    assert logits.shape == (1, len(ids), len(tokenizer))
    assert logits.isfinite().all()
