"""Round trip of answers with real chat templates: a trained target follows the prompt of serving,
and the parser of an output reads the row from it."""

from __future__ import annotations

import json
import random
from functools import cache
from typing import Any

import pytest

from inference.generation.channel_parser import ChannelParser
from inference.generation.detokenizer import IncrementalDetokenizer
from inference.generation.reasoning_parser import ReasoningParser, count_reasoning_tokens
from inference.generation.tool_parser import OutputParser, ParsedDelta, ToolCallParser, ToolPolicy
from tests.families.catalog import DECODERS
from training.tasks.base import RowIssue
from training.tasks.chat import Chat, ChatRow
from training.tasks.chat_format.conversation import FieldOmitted
from training.tasks.chat_format.reasoning import THINKING_OFF, THINKING_ON
from training.tasks.chat_format.template import ChatTemplate
from training.tasks.chat_format.tool_calls import ToolCallFormat, infer_format
from training.tasks.support.causal import CausalExample

TEMPLATES = [name for name, family in DECODERS.items() if family.template]
REASONING = ["qwen3", "qwen3-moe", "qwen3.5", "smollm3", "gpt-oss", "deepseek-v3"]
TOOLS = ["llama-3", "qwen2.5", "qwen3", "qwen3.5", "mistral", "smollm3", "gpt-oss", "granite"]

PARAMETERS = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "hourly": {"type": "boolean"},
        "units": {"type": "object"},
        "note": {},
    },
}
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "description": "Forecast", "parameters": PARAMETERS},
}
ARGUMENTS = {"city": "Santa Fe\n12", "days": 3, "hourly": True, "units": {"t": ["C", 1]}, "note": None}


@cache
def build_tokenizer(name: str) -> Any:
    return DECODERS[name].tokenizer.build(DECODERS[name].load_template())


def build_call(**arguments: Any) -> dict[str, Any]:
    function = {"name": "get_weather", "arguments": json.dumps(arguments)}
    return {"id": "abcdefgh1", "type": "function", "function": function}


def answer(content: str | None, reasoning: str | None = None, **fields: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, **fields}
    return message if reasoning is None else {**message, "reasoning_content": reasoning}


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def result(content: str) -> dict[str, Any]:
    return {"role": "tool", "content": content, "tool_call_id": "abcdefgh1"}


PLAIN = [
    user("Hi"),
    answer("Hello <b>you</b>!"),
    user("Tags?"),
    answer("Write <think> and </think>, never <|im_end|>."),
    user("Bye"),
    answer("So long."),
]
THOUGHT = [
    user("2 + 2?"),
    answer("4", "Two and two.\n\nThat is four."),
    user("Sure?"),
    answer("Yes."),
    user("Why?"),
    answer("It is\n\nso.", "Count: 1, 2 < 3, 4"),
]
CALLING = [user("Rain?"), answer(None, tool_calls=[build_call(**ARGUMENTS)]), result('{"mm": 3}'), answer("Yes.")]
CALLING_AFTER_THOUGHT = [
    user("Rain?"),
    answer(None, "I must look.", tool_calls=[build_call(**ARGUMENTS)]),
    result("3 mm"),
    answer("Yes.", "3 mm is rain."),
    user("And in Rome?"),
    answer(None, "Again.", tool_calls=[build_call(city="Rome")]),
]


def encode(name: str, messages: list[dict[str, Any]], tools: list[Any] | None = None, **options: Any) -> Any:
    row = ChatRow.model_validate({"messages": messages, **({"tools": tools} if tools else {})})
    assert not list(Chat().check_row(row))
    [examples] = Chat(**options).encode([row], build_tokenizer(name), 100_000)
    return row, examples


def find_target(examples: list[CausalExample], prompt: list[int]) -> list[int]:
    """Return the target tokens that directly follow a prompt. There must be one such target."""
    targets = []
    for example in examples:
        if list(example.ids[: len(prompt)]) == prompt and example.weights[len(prompt)]:
            weights = list(example.weights[len(prompt) :])
            length = weights.index(0.0) if 0.0 in weights else len(weights)
            targets.append(list(example.ids[len(prompt) : len(prompt) + length]))
    [target] = targets
    return target


def parse(name: str, prompt: list[int], target: list[int], call_format: ToolCallFormat | None) -> ParsedDelta:
    """Parse a target as a model's output, in random chunks."""
    tokenizer = build_tokenizer(name)
    template = ChatTemplate(tokenizer)
    shape = template.reasoning_format
    stop = template.get_end_of_turn_ids() | {tokenizer.eos_token_id}
    stop |= {tokenizer.convert_tokens_to_ids(token) for token in DECODERS[name].stop_tokens}
    assert target[-1] in stop
    visible = set(call_format.control_token_ids if call_format else ())
    visible |= template.find_control_tokens(shape.opening + shape.closing) if shape else set()
    detokenizer = IncrementalDetokenizer(tokenizer, [], visible_special_ids=visible)
    policy = ToolPolicy({"get_weather": PARAMETERS} if call_format else {})
    parser: OutputParser = ToolCallParser(call_format, policy)
    if shape:
        is_open = shape.is_opened_by(tokenizer.decode(prompt))
        parser = ChannelParser(policy) if shape.uses_channels else ReasoningParser(shape, is_open, parser)
    texts = [detokenizer.feed(token).text for token in target[:-1]] + [detokenizer.finish().text]
    rng, parsed, chunk = random.Random(0), ParsedDelta(), ""
    for text in texts:
        chunk += text
        if rng.random() < 0.3:
            parsed, chunk = parsed + parser.feed(chunk), ""
    return parsed + parser.feed(chunk) + parser.finish()


def check_round_trip(name: str, messages: list[dict[str, Any]], tools: list[Any] | None = None) -> None:
    tokenizer = build_tokenizer(name)
    template = ChatTemplate(tokenizer)
    call_format = infer_format(template) if tools else None
    row, examples = encode(name, messages, tools)
    assert isinstance(examples, list), examples
    assert [example.continues for example in examples] == [False] + [True] * (len(examples) - 1)
    count = 0
    for index, message in enumerate(row.messages):
        if message.role == "assistant":
            options = THINKING_ON if message.reasoning_content else THINKING_OFF
            prompt = Chat().encode_prompt(row.messages[:index], template, row.all_tools, options)
            target = find_target(examples, prompt)
            count += len(target)
            parsed = parse(name, prompt, target, call_format)
            assert parsed.reasoning == (message.reasoning_content or "")
            assert parsed.text.strip() == (message.content or "")
            calls = [(call.function.name, call.function.arguments) for call in message.tool_calls or ()]
            assert [(call.name, json.loads(call.arguments)) for call in parsed.calls] == calls
    assert count == sum(map(Chat().count_targets, examples)), "every target must be trained once"


@pytest.mark.parametrize("name", TEMPLATES)
def test_plain_answers(name: str) -> None:
    check_round_trip(name, PLAIN)


@pytest.mark.parametrize("name", REASONING)
def test_answers_with_reasoning(name: str) -> None:
    check_round_trip(name, THOUGHT)


@pytest.mark.parametrize("name", TOOLS)
def test_tool_calls(name: str) -> None:
    check_round_trip(name, CALLING, [WEATHER])


@pytest.mark.parametrize("name", sorted({*TOOLS} & {*REASONING}))
def test_tool_calls_after_reasoning(name: str) -> None:
    check_round_trip(name, CALLING_AFTER_THOUGHT, [WEATHER])


@pytest.mark.parametrize("name", sorted({*TEMPLATES} - {*REASONING}))
def test_a_template_without_reasoning_refuses_it(name: str) -> None:
    _, issue = encode(name, THOUGHT)
    assert isinstance(issue, RowIssue)
    assert (issue.code, issue.field) == ("template", "messages[5].reasoning_content")


@pytest.mark.parametrize("name", ["phi-4-mini", "olmo-2", "deepseek-v3"])
def test_a_template_without_tools_refuses_them(name: str) -> None:
    _, issue = encode(name, CALLING, [WEATHER])
    assert isinstance(issue, RowIssue)
    assert (issue.code, issue.field) == ("template", "tools")


@pytest.mark.parametrize("name", ["gpt-oss", "llama-3"])
def test_content_beside_a_call_is_refused_if_the_template_drops_it(name: str) -> None:
    """GPT-OSS' template renders such content as reasoning, Llama's not at all."""
    messages = [user("Rain?"), answer("Let me look.", tool_calls=[build_call(city="Rome")])]
    _, issue = encode(name, messages, [WEATHER])
    assert isinstance(issue, RowIssue)
    assert (issue.code, issue.field) == ("template", "messages[1].content")


@pytest.mark.parametrize("name", REASONING)
def test_reasoning_may_be_context_only(name: str) -> None:
    tokenizer = build_tokenizer(name)
    _, trained = encode(name, THOUGHT)
    _, examples = encode(name, THOUGHT, train_on_reasoning=False)
    assert [example.ids for example in examples] == [example.ids for example in trained]
    texts = [
        tokenizer.decode([id for id, weight in zip(example.ids, example.weights, strict=True) if weight])
        for example in reversed(examples)
    ]
    assert [any(word in text for word in ("Two", "Count", "<think>")) for text in texts] == [False] * 3
    assert [word in text for word, text in zip(("4", "Yes.", "so."), texts, strict=True)] == [True] * 3


@pytest.mark.parametrize("name", REASONING)
def test_reasoning_tokens_are_counted(name: str) -> None:
    tokenizer = build_tokenizer(name)
    template = ChatTemplate(tokenizer)
    shape = template.reasoning_format
    assert shape is not None
    row, examples = encode(name, THOUGHT[:2])
    prompt = Chat().encode_prompt(row.messages[:1], template, (), THINKING_ON)
    target = find_target(examples, prompt)
    is_open = shape.is_opened_by(tokenizer.decode(prompt))
    count = count_reasoning_tokens(tokenizer, target, shape, is_open)
    text = tokenizer.decode(target[:count])
    assert text.endswith(shape.close_tag)
    assert text.count(shape.close_tag) == 1
    # Output that ends within its reasoning, and output without.
    assert count_reasoning_tokens(tokenizer, target[: count - 1], shape, is_open) == count - 1
    assert count_reasoning_tokens(tokenizer, tokenizer.encode("4", add_special_tokens=False), shape, False) == 0


def test_both_spellings_of_reasoning_are_one_row() -> None:
    rows = [
        {"reasoning_content": "Two and two.", "content": "4"},
        {"reasoning": " Two and two.\n", "content": "4"},
        {"content": "<think>\nTwo and two.\n</think>\n\n4"},
        {"content": "<think>Two and two.</think>4"},
    ]
    encoded = [encode("qwen3", [user("2 + 2?"), {"role": "assistant", **row}])[1] for row in rows]
    assert encoded[0][0].has_reasoning
    assert all(examples == encoded[0] for examples in encoded)
    _, empty = encode("qwen3", [user("2 + 2?"), answer("<think>\n\n</think>\n\n4")])
    assert empty == encode("qwen3", [user("2 + 2?"), answer("4")])[1]


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({**answer("4", "a"), "reasoning": "a"}, "reasoning"),
        (answer("<think>a</think>4", "a"), "content"),
        (answer("<think>a"), "content"),
        (answer("a</think>4"), "content"),
        (answer("4", "a</think>b"), "reasoning_content"),
        ({**user("4"), "reasoning_content": "a"}, "reasoning_content"),
    ],
)
def test_rows_with_wrong_reasoning(message: dict[str, Any], field: str) -> None:
    messages = [user("2 + 2?"), message] + ([answer("a")] if message["role"] == "user" else [])
    issues = list(Chat().check_row(ChatRow.model_validate({"messages": messages})))
    assert [(issue.code, issue.field) for issue in issues] == [("wrong_value", f"messages[1].{field}")]


def test_a_format_without_a_recognizable_call_is_refused() -> None:
    with pytest.raises(FieldOmitted):
        infer_format(ChatTemplate(build_tokenizer("gemma-3")))
