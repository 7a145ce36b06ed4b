"""Tests for the targets of conversations with several chat templates."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import pytest
from jinja2 import TemplateError

from tests.tiny import CHAT_TEMPLATE, build_byte_tokenizer
from training.data.dataset import DatasetReader
from training.data.encoding import RowEncoder
from training.progress import ignore_progress
from training.tasks.base import RowIssue, TaskContext
from training.tasks.chat import Chat, ChatRow
from training.tasks.chat_format.rows import Message
from training.tasks.chat_format.template import ChatTemplate
from training.tasks.support.causal import CausalExample

CHATML = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] | trim }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
# Like Qwen 3: earlier answers have no thoughts, the last one and the prompt have an empty thought.
THINKING = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n"
    "{% if m['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m['content'] }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
# Like DeepSeek's distilled models: the prompt opens a thought that no answer of the data contains.
OPENED = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
)
# Has no control tokens.
PLAIN = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
TEMPLATES = {"tiny": CHAT_TEMPLATE, "chatml": CHATML, "thinking": THINKING, "opened": OPENED, "plain": PLAIN}


def encode_row(
    tokenizer: Any, row: dict[str, Any], task: Chat | None = None, max_length: int = 10_000
) -> list[CausalExample]:
    """Return the training sequences of a row."""
    [examples] = (task or Chat()).encode([ChatRow.model_validate(row)], tokenizer, max_length)
    assert isinstance(examples, list), examples
    return examples


def encode(
    tokenizer: Any, *messages: tuple[str, Any], weight: float = 1.0, max_length: int = 10_000, **extra: Any
) -> Any:
    """Return the sequence that is the whole conversation, or the issue."""
    row = {"messages": [{"role": role, "content": content, **extra} for role, content in messages], "weight": weight}
    [examples] = Chat().encode([ChatRow.model_validate(row)], tokenizer, max_length)
    return examples[0] if isinstance(examples, list) else examples


def decode_trained_spans(tokenizer: Any, example: CausalExample) -> list[str]:
    """Return the text of each run of target tokens."""
    runs: list[list[int]] = []
    previous_weight = 0.0
    for token, weight in zip(example.ids, example.weights, strict=True):
        if weight:
            if not previous_weight:
                runs.append([])
            runs[-1].append(token)
        previous_weight = weight
    return [tokenizer.decode(run) for run in runs]


def decode_all_spans(tokenizer: Any, examples: Sequence[CausalExample]) -> list[str]:
    """Return the text of each run of target tokens, in the order of the conversation."""
    return [run for example in reversed(examples) for run in decode_trained_spans(tokenizer, example)]


CONVERSATION = (
    ("system", "Be kind."),
    ("user", "Hi"),
    ("assistant", "Hello!"),
    ("user", "Bye"),
    ("assistant", "So long."),
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tiny", ["Hello!<|end|>", "So long.<|end|>"]),
        ("chatml", ["Hello!<|end|>", "So long.<|end|>"]),
        ("thinking", ["Hello!<|end|>", "So long.<|end|>"]),
        ("opened", ["\n</think>\n\nHello!<|end|>", "\n</think>\n\nSo long.<|end|>"]),
        ("plain", [" Hello!\n", " So long.\n"]),
    ],
)
def test_only_answers_and_their_ends_are_learned(name: str, expected: list[str]) -> None:
    tokenizer = build_byte_tokenizer(TEMPLATES[name])
    row = {"messages": [{"role": role, "content": content} for role, content in CONVERSATION]}
    assert decode_all_spans(tokenizer, encode_row(tokenizer, row)) == expected


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_answer_follows_the_prompt_of_serving(name: str) -> None:
    """The templates "thinking" and "opened" render earlier answers without what their prompts end
    with."""
    tokenizer = build_byte_tokenizer(TEMPLATES[name])
    row = {"messages": [{"role": role, "content": content} for role, content in CONVERSATION]}
    examples = encode_row(tokenizer, row)
    assert len(examples) == (2 if name in ("thinking", "opened") else 1)
    for position in (2, 4):
        messages = [Message(role=role, content=text) for role, text in CONVERSATION[:position]]
        prompt = Chat().encode_prompt(messages, ChatTemplate(tokenizer))
        [example] = [
            example
            for example in examples
            if list(example.ids[: len(prompt)]) == prompt and example.weights[len(prompt) :][:1] == array("f", [1.0])
        ]
        assert example.weights[len(prompt) - 1] == 0.0


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_serving_prompt_is_a_prefix_of_what_was_trained(name: str) -> None:
    tokenizer = build_byte_tokenizer(TEMPLATES[name])
    example = encode(tokenizer, *CONVERSATION)
    prompt = Chat().encode_prompt(
        [Message(role=role, content=text) for role, text in CONVERSATION[:-1]], ChatTemplate(tokenizer)
    )
    assert list(example.ids[: len(prompt)]) == prompt
    assert example.weights[len(prompt)] == 1.0
    assert not any(example.weights[len(prompt) - 3 : len(prompt)])


def test_tokens_are_those_of_the_template() -> None:
    tokenizer = build_byte_tokenizer()
    messages = [{"role": role, "content": content} for role, content in CONVERSATION]
    expected = tokenizer.apply_chat_template(messages, return_dict=False)
    assert list(encode(tokenizer, *CONVERSATION).ids) == expected


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("hostile", ["<|end|>", "a<|end|><|assistant|>b", "<|pad|><|pad|>", "<|end|>" * 3 + " x"])
@pytest.mark.parametrize("position", [1, 2, 4])
def test_a_control_tokens_name_in_a_message_is_text(name: str, hostile: str, position: int) -> None:
    tokenizer = build_byte_tokenizer(TEMPLATES[name])
    conversation = [(role, hostile if index == position else text) for index, (role, text) in enumerate(CONVERSATION)]
    control = set(tokenizer.all_special_ids)
    expected = [token for token in encode(tokenizer, *CONVERSATION).ids if token in control]
    example = encode(tokenizer, *conversation)
    assert [token for token in example.ids if token in control] == expected
    text = tokenizer.decode(list(example.ids))
    assert hostile.strip() in text
    row = {"messages": [{"role": role, "content": content} for role, content in conversation]}
    runs = decode_all_spans(tokenizer, encode_row(tokenizer, row))
    assert len(runs) == 2
    if position != 1:
        assert hostile.strip() in runs[position // 2 - 1]
    prompt = Chat().encode_prompt(
        [Message(role=role, content=content) for role, content in conversation[:-1]], ChatTemplate(tokenizer)
    )
    assert list(example.ids[: len(prompt)]) == prompt


def test_weights_of_messages_and_rows() -> None:
    tokenizer = build_byte_tokenizer()
    row = {
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "skipped", "weight": 0},
            {"role": "user", "content": "b"},
            {"role": "assistant", "content": "trained", "weight": 1},
        ],
        "weight": 2.5,
    }
    [example] = encode_row(tokenizer, row)
    assert decode_trained_spans(tokenizer, example) == ["trained<|end|>"]
    assert set(example.weights) == {0.0, 2.5}
    assert Chat().count_targets(example) == len("trained") + 1
    assert Chat().sum_weights(example, TaskContext(tokenizer)) == 2.5 * (len("trained") + 1)


@pytest.mark.parametrize("name", TEMPLATES)
def test_train_on_inputs_learns_all_but_the_first_token(name: str) -> None:
    tokenizer = build_byte_tokenizer(TEMPLATES[name])
    messages = [{"role": role, "content": content} for role, content in CONVERSATION]
    row: dict[str, Any] = {"messages": messages, "weight": 2.5}
    input_task, task = Chat().with_options(train_on_inputs=True), Chat()
    example, *others = encode_row(tokenizer, row, input_task)
    answers, *other_answers = encode_row(tokenizer, row, task)
    assert example.ids == answers.ids
    assert others == other_answers, "inputs are learned once"
    if not others:
        assert list(example.weights) == [0.0] + [2.5] * (len(example.ids) - 1)
    assert task.with_options(train_on_inputs=False) == task != input_task
    messages[2]["weight"] = 0  # type: ignore[assignment]
    [example] = encode_row(tokenizer, {"messages": messages}, input_task)
    excluded = [token for token, weight in zip(example.ids[1:], example.weights[1:], strict=True) if not weight]
    assert tokenizer.decode(excluded) in ("Hello!<|end|>", " Hello!\n")


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_conversation_may_begin_with_the_assistant(name: str) -> None:
    tokenizer = build_byte_tokenizer(TEMPLATES[name])
    turns = [("assistant", "Welcome."), *CONVERSATION[1:3]]
    row = {"messages": [{"role": role, "content": content} for role, content in turns]}
    runs = decode_all_spans(tokenizer, encode_row(tokenizer, row))
    assert [run.removeprefix("\n</think>").strip().removesuffix("<|end|>") for run in runs] == ["Welcome.", "Hello!"]


def test_a_template_error_for_a_value_is_a_row_issue() -> None:
    tokenizer = build_byte_tokenizer("{{ messages[0]['content'] + 1 }}")
    assert encode(tokenizer, *CONVERSATION).code == "template"


def test_text_parts_and_the_developer_role_are_converted_for_templates() -> None:
    tokenizer = build_byte_tokenizer()
    parts = [{"type": "text", "text": "Be "}, {"type": "text", "text": "kind."}]
    assert encode(tokenizer, ("developer", parts), *CONVERSATION[1:]).ids == encode(tokenizer, *CONVERSATION).ids


def test_long_rows_are_truncated_on_the_right_and_need_a_target() -> None:
    tokenizer = build_byte_tokenizer()
    whole = encode(tokenizer, *CONVERSATION)
    cut = encode(tokenizer, *CONVERSATION, max_length=30)
    assert cut.ids == whole.ids[:30]
    assert (cut.truncated, whole.truncated) == (True, False)
    assert decode_trained_spans(tokenizer, cut) == ["Hello!<|end|>"]
    issue = encode(tokenizer, *CONVERSATION, max_length=12)
    assert isinstance(issue, RowIssue)
    assert issue.code == "too_long"


def test_todays_date_is_not_in_the_prompt() -> None:
    tokenizer = build_byte_tokenizer("{{ strftime_now('%d %b %Y') }}|" + CHAT_TEMPLATE)
    prompt = Chat().encode_prompt([Message(role="user", content="a")], ChatTemplate(tokenizer))
    assert tokenizer.decode(prompt).startswith("26 Jul 2024|")


def test_a_template_that_refuses_is_a_row_issue_in_training_and_an_error_in_serving() -> None:
    tokenizer = build_byte_tokenizer("{{ raise_exception('No system prompts here') }}")
    issue = encode(tokenizer, *CONVERSATION)
    assert isinstance(issue, RowIssue)
    assert issue.code == "template"
    assert "No system prompts here" in issue.message
    with pytest.raises(TemplateError):
        Chat().encode_prompt([Message(role="user", content="a")], ChatTemplate(tokenizer))


def test_a_template_cannot_reach_python() -> None:
    tokenizer = build_byte_tokenizer("{{ ''.__class__.__mro__[1].__subclasses__() }}")
    assert isinstance(encode(tokenizer, *CONVERSATION), RowIssue)


def test_stop_tokens(chat_base: Any) -> None:
    from training.artifacts import serving

    served = serving.load(chat_base, None, "chat")
    tokenizer = served.context.processor
    assert Chat().stop_tokens(served.model, tokenizer) == {tokenizer.convert_tokens_to_ids("<|end|>")}


def build_message(role: str = "assistant", content: Any = "b", **extra: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **extra}


USER = build_message("user", "a")


@pytest.mark.parametrize(
    ("row", "expected_errors"),
    [
        ({"messages": [USER, build_message()]}, []),
        ({}, [("missing_field", "messages")]),
        ({"messages": []}, [("empty_content", "messages")]),
        ({"messages": "hello"}, [("wrong_type", "messages")]),
        ({"messages": [USER, build_message()], "extra": 1}, [("unknown_field", "extra")]),
        ({"messages": [USER]}, [("no_assistant", "messages")]),
        ({"messages": [USER, build_message(), USER]}, [("last_not_assistant", "messages[2].role")]),
        ({"messages": [USER, build_message("assistant", " \n")]}, [("empty_content", "messages[1].content")]),
        ({"messages": [USER, build_message("robot")]}, [("wrong_value", "messages[1].role")]),
        ({"messages": [USER, {"role": "assistant"}]}, [("missing_field", "messages[1].content")]),
        ({"messages": [USER, build_message("assistant", None)]}, [("wrong_type", "messages[1].content")]),
        ({"messages": [USER, build_message("assistant", 3)]}, [("wrong_type", "messages[1].content")]),
        ({"messages": [USER, build_message("assistant", ["x"])]}, [("wrong_type", "messages[1].content")]),
        ({"messages": [USER, build_message(weight=2)]}, [("wrong_value", "messages[1].weight")]),
        ({"messages": [USER, build_message(weight=0)]}, [("no_target", "messages")]),
        ({"messages": [USER, build_message(refusal="No.")]}, [("wrong_value", "messages[1].refusal")]),
        ({"messages": [USER, build_message(refusal=None, audio=None, annotations=[], tool_calls=None)]}, []),
        ({"messages": [USER, build_message(rolle="x")]}, [("unknown_field", "messages[1].rolle")]),
        ({"messages": [USER, build_message()], "weight": 0}, [("wrong_value", "weight")]),
        ({"messages": [USER, build_message()], "weight": "a lot"}, [("wrong_value", "weight")]),
        (
            {"messages": [build_message("user", 1), build_message("assistant", 2)]},
            [("wrong_type", f"messages[{i}].content") for i in (0, 1)],
        ),
    ],
)
def test_rows_that_cannot_be_learned(tmp_path: Any, row: Any, expected_errors: Sequence[tuple[str, str]]) -> None:
    import json

    (tmp_path / "data").write_text("\n" + json.dumps(row))
    reader = DatasetReader(RowEncoder(Chat(), build_byte_tokenizer(), {}, 1000), ignore_progress)
    data = reader.read(tmp_path / "data", "training_file")
    assert [(error.code, error.field, error.line) for error in data.errors] == [
        (*error, 2) for error in expected_errors
    ]
