"""Parsers of reasoning, channels and parameters, for any chunking of outputs that end anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from inference.generation.argument_scanners import ParameterScanner, decode_parameters
from inference.generation.channel_parser import ChannelParser
from inference.generation.reasoning_parser import ReasoningParser
from inference.generation.tool_parser import OutputParser, ParsedDelta, ParsedToolCall, ToolCallParser, ToolPolicy
from tests.inference.generation.test_tool_parser import list_chunkings
from training.tasks.chat_format.reasoning import ReasoningFormat
from training.tasks.chat_format.tool_calls import ParameterFormat

THINK = ReasoningFormat("reasoning_content", "<think>\n", "\n</think>\n\n", "</think>")
SHAPE = ParameterFormat("<parameter=", ">\n", "\n</parameter>\n")
POLICY = ToolPolicy({"add": {}})


def parse_all_chunkings(build_parser: Callable[[], OutputParser], text: str) -> ParsedDelta:
    """Parse a text in several chunkings, which must agree."""
    results = []
    for chunks in list_chunkings(text) if text else [[""]]:
        parser, parsed = build_parser(), ParsedDelta()
        for chunk in chunks:
            parsed += parser.feed(chunk)
        parsed += parser.finish()
        assert parser.has_calls == bool(parsed.calls)
        results.append(parsed)
    assert all(result == results[0] for result in results)
    return results[0]


@pytest.mark.parametrize(
    ("is_open", "text", "reasoning", "content"),
    [
        (False, "<think>\na\n\nb\n</think>\n\nc\n", "a\n\nb", "c\n"),
        (False, "\n<think>a</think>c", "a", "c"),
        (False, "a <think>b</think>", "", "a <think>b</think>"),
        (False, "<thinking>a", "", "<thinking>a"),
        (False, "<thi", "", "<thi"),
        (False, "", "", ""),
        (False, "<think>\n\n</think>\n\nc</think>d", "", "c</think>d"),
        (False, "<think>\na < b </thin", "a < b </thin", ""),
        (False, "<think>a</think>\n", "a", ""),
        (True, "a\n</think>\n\nc", "a", "c"),
        (True, "\n</think>\n\nc", "", "c"),
        (True, "a ", "a", ""),
    ],
)
def test_reasoning_is_separated(is_open: bool, text: str, reasoning: str, content: str) -> None:
    parsed = parse_all_chunkings(lambda: ReasoningParser(THINK, is_open, ToolCallParser(None, POLICY)), text)
    assert (parsed.reasoning, parsed.text, parsed.calls) == (reasoning, content, [])


def test_reasoning_is_not_withheld() -> None:
    parser = ReasoningParser(THINK, True, ToolCallParser(None, POLICY))
    assert parser.feed("\nIs 1 < 2? ").reasoning == "Is 1 < 2?"
    assert parser.feed("Yes</").reasoning == " Yes"
    assert parser.feed("think>\n") == ParsedDelta()
    assert parser.feed("\nSo").text == "So"


CALL = '<|start|>assistant to=functions.add<|channel|>commentary json<|message|>{"a": 1}'


@pytest.mark.parametrize(
    ("text", "reasoning", "content", "calls"),
    [
        ("<|channel|>final<|message|>a", "", "a", 0),
        ("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b", "a", "b", 0),
        ("<|channel|>analysis<|message|>a", "a", "", 0),
        ("<|channel|>analysis<|message|>a<|end|>" + CALL, "a", "", 1),
        ("<|channel|>analysis<|message|>a<|end|>" + CALL + "<|call|>", "a", "", 1),
        ('<|channel|>commentary to=functions.add <|constrain|>json<|message|>{"a": 1}', "", "", 1),
        ("<|channel|>commentary<|message|>Wait.<|end|>" + CALL, "", "Wait.", 1),
        (CALL.removeprefix("<|start|>assistant")[:-1], "", '{"a": 1', 0),
        (CALL.removeprefix("<|start|>assistant").replace("add", "rm"), "", '{"a": 1}', 0),
        ("plain text", "", "plain text", 0),
        ("to be", "", "to be", 0),
        ("<|channel|>ana", "", "", 0),
        ("", "", "", 0),
    ],
)
def test_channels_are_separated(text: str, reasoning: str, content: str, calls: int) -> None:
    parsed = parse_all_chunkings(lambda: ChannelParser(POLICY), text)
    assert (parsed.reasoning, parsed.text) == (reasoning, content)
    assert parsed.calls == [ParsedToolCall("add", '{"a": 1}')] * calls


def test_parameters_are_read_by_their_schema() -> None:
    schema = {"properties": {"a": {"type": "string"}, "b": {"type": "boolean"}, "c": {"type": ["object", "null"]}}}
    values = {"a": "12", "b": True, "c": None, "d": 12, "e": "so <b>", "f": ["x"]}
    written = {"a": "12", "b": "True", "c": "None", "d": "12", "e": "so <b>", "f": '["x"]'}
    text = "".join(f"<parameter={name}>\n{value}\n</parameter>\n" for name, value in written.items())
    assert json.loads(decode_parameters(text, SHAPE, schema) or "") == values
    assert decode_parameters("<parameter=a\n</parameter>\n", SHAPE, schema) is None
    for chunks in list_chunkings(text + "</function>"):
        scanner, so_far, end = ParameterScanner(0, SHAPE), "", None
        for chunk in chunks:
            so_far += chunk
            end = scanner.find_end(so_far) if end is None else end
        assert end == len(text)
