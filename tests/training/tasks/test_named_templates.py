"""Tests for the chat templates that the registry names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.families.catalog import DECODERS
from training.errors import TrainingError
from training.models.base_model import read_base_model_info
from training.tasks.chat import Chat, ChatRow
from training.tasks.chat_format.named_templates import TEMPLATE_NAMES, build_named_template
from training.tasks.chat_format.template import ChatTemplate

MESSAGES = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "Bye"},
    {"role": "assistant", "content": "So long."},
]


def build_tokenizer(family: str, name: str) -> Any:
    tokenizer = DECODERS[family].tokenizer.build(None)
    tokenizer.chat_template = build_named_template(name, tokenizer)
    return tokenizer


@pytest.mark.parametrize("name", TEMPLATE_NAMES)
@pytest.mark.parametrize("family", ["gpt-neox", "llama-3", "gemma-2", "qwen3", "mistral"])
def test_answers_follow_the_prompt_of_serving_and_end_with_a_token(family: str, name: str) -> None:
    tokenizer = build_tokenizer(family, name)
    template = ChatTemplate(tokenizer)
    row = ChatRow.model_validate({"messages": MESSAGES})
    [[example]] = Chat().encode([row], tokenizer, 1000)
    end_ids = template.get_end_of_turn_ids()
    for index, text in ((2, "Hello!"), (4, "So long.")):
        prompt = Chat().encode_prompt(row.messages[:index], template)
        assert list(example.ids[: len(prompt)]) == prompt
        target = list(example.ids[len(prompt) :])
        end = next(position for position, token in enumerate(target) if token in end_ids)
        assert tokenizer.decode(target[:end]).strip() == text
        assert list(example.weights[len(prompt) : len(prompt) + end + 2]) == [1.0] * (end + 1) + [0.0] * (
            len(target) > end + 1
        )
    assert sum(example.weights) < len(example.ids) / 2
    starts = [token for token in example.ids if token == tokenizer.bos_token_id]
    if DECODERS[family].tokenizer.adds_bos:
        assert len(starts) == 1
        assert example.ids[0] == tokenizer.bos_token_id


@pytest.mark.parametrize(
    ("family", "name", "end"),
    [
        ("qwen3", "chatml", "<|im_end|>"),
        ("gpt-neox", "chatml", "<|endoftext|>"),
        ("llama-3", "llama3", "<|eot_id|>"),
        ("gemma-2", "gemma", "<end_of_turn>"),
        ("gemma-2", "mistral", "<eos>"),
    ],
)
def test_a_turn_ends_with_a_token_of_the_tokenizer(family: str, name: str, end: str) -> None:
    tokenizer = build_tokenizer(family, name)
    assert ChatTemplate(tokenizer).get_end_of_turn_ids() == {tokenizer.convert_tokens_to_ids(end)}


def test_a_tokenizer_without_an_end_token_is_refused() -> None:
    tokenizer = DECODERS["gpt-neox"].tokenizer.build(None)
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="eos_token"):
        build_named_template("plain", tokenizer)


def test_a_base_that_needs_a_template_names_the_choices(tmp_path: Path) -> None:
    base = DECODERS["gpt-neox"].create_base(tmp_path / "base")
    for chosen in (None, "chatlm"):
        with pytest.raises(TrainingError, match=r"'chat_template'.*chatml, llama3, gemma, mistral, plain") as caught:
            read_base_model_info(base, "base", Chat(), chosen)
        assert caught.value.code == "base_model_unavailable"
    assert read_base_model_info(base, "base", Chat(), "chatml").has_given_template
