"""Tool call parser: it separates calls from text in the formats of several templates and for any
chunking."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from jinja2 import TemplateError

from inference.generation.detokenizer import IncrementalDetokenizer
from inference.generation.tool_parser import ParsedToolCall, ToolCallParser, ToolPolicy
from tests.tiny import build_byte_tokenizer
from tests.training.tasks.test_chat_tools import HERMES, TEMPLATES, WITHOUT_CALLS, WITHOUT_TOOLS, build_tokenizer
from training.tasks.chat_format.template import ChatTemplate
from training.tasks.chat_format.tool_calls import ToolCallFormat, infer_format

# Like Qwen 2.5: whitespace around the tags.
QWEN = HERMES.replace('<tool_call>{"name"', '\n<tool_call>\n{"name"').replace("}}</tool_call>", "}}\n</tool_call>")
QWEN = QWEN.replace("{%- for call in m.tool_calls -%}\n<", "{%- for call in m.tool_calls %}\n<")
# Like Llama 3.1: a single call without delimiters, arguments under another key.
LLAMA = (
    "{%- if tools -%}<|system|>{{ tools | tojson }}<|end|>{%- endif -%}"
    "{%- for m in messages -%}<|{{ m.role }}|>{%- if m.tool_calls -%}"
    "{%- if m.tool_calls | length > 1 -%}{{ raise_exception('one call at a time') }}{%- endif -%}"
    '{%- set call = m.tool_calls[0].function -%}{"name": "{{ call.name }}", '
    '"parameters": {{ call.arguments | tojson }}}{%- else -%}{{ m.content }}{%- endif -%}<|end|>{%- endfor -%}'
    "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)
# Like Mistral 7B v0.3: a list after a control token, an id in each call.
MISTRAL_LIST = (
    "{%- if tools -%}[TOOLS]{{ tools | tojson }}[/TOOLS]{%- endif -%}"
    "{%- for m in messages -%}{%- if m.tool_calls -%}[CALLS][{%- for call in m.tool_calls -%}"
    '{%- if call.id | length != 9 -%}{{ raise_exception("nine letters") }}{%- endif -%}'
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}, "id": "{{ call.id }}"}'
    "{%- if not loop.last -%}{{ ', ' }}{%- endif -%}{%- endfor -%}]<|end|>"
    "{%- elif m.role == 'assistant' -%}{{ m.content }}<|end|>"
    "{%- else -%}<|{{ m.role }}|>{{ m.content }}{%- endif -%}{%- endfor -%}"
)
# Like Hermes 2: the name after the arguments.
NAME_LAST = HERMES.replace(
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}</tool_call>',
    '{ "arguments": {{ call.function.arguments | tojson }}, "name": "{{ call.function.name }}"}\n</tool_call> ',
)
# Like DeepSeek V3: a fenced JSON block between control tokens.
FENCED = TEMPLATES["joining"].replace(
    "{{ '[CALLS]' + call.function.name + '\n' + call.function.arguments }}",
    "{{ ('[CALLS]' if loop.first else '\n') + '[ARGS]function[TOOLS]' + call.function.name + '\n```json\n' "
    "+ call.function.arguments + '\n```[/TOOLS]' + ('[RESULT]' if loop.last else '') }}",
)
ALL_TEMPLATES = {
    **TEMPLATES,
    "qwen": QWEN,
    "llama": LLAMA,
    "mistral-list": MISTRAL_LIST,
    "fenced": FENCED,
    "behind": NAME_LAST,
}
TOOL_SCHEMAS: dict[str, dict[str, Any]] = {"get_weather": {}, "add": {}}
WEATHER, ADD = (
    ParsedToolCall("get_weather", '{"city": "Pa\\"}ris", "in": {"a": [1, {}]}}'),
    ParsedToolCall("add", '{"a": 1, "b": 2}'),
)


def build_template(name: str) -> ChatTemplate:
    return ChatTemplate(build_tokenizer(ALL_TEMPLATES[name]))


def render_calls(template: ChatTemplate, *calls: ParsedToolCall) -> str:
    """Render an assistant's message with these calls."""
    tool_calls = [
        {
            "id": f"abcdefgh{index}",
            "type": "function",
            "function": {"name": call.name, "arguments": json.loads(call.arguments)},
        }
        for index, call in enumerate(calls)
    ]
    tool = {"type": "function", "function": {"name": "add", "description": "", "parameters": {}}}
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "tool_calls": tool_calls}]
    return template.render_answer(messages, [tool])


def parse_calls(
    call_format: ToolCallFormat | None, chunks: list[str], **options: Any
) -> tuple[str, list[ParsedToolCall]]:
    parser = ToolCallParser(call_format, ToolPolicy(TOOL_SCHEMAS, **options))
    deltas = [*(parser.feed(chunk) for chunk in chunks), parser.finish()]
    return "".join(delta.text for delta in deltas), [call for delta in deltas for call in delta.calls]


def list_chunkings(text: str) -> list[list[str]]:
    """Return the text as one chunk, as single characters and as random chunks."""
    rng, chunks, start = random.Random(text), list[str](), 0
    while start < len(text):
        size = rng.randint(1, 7)
        chunks.append(text[start : start + size])
        start += size
    return [[text], list(text), chunks]


@pytest.mark.parametrize("name", ALL_TEMPLATES)
def test_calls_of_a_template_are_parsed(name: str) -> None:
    template = build_template(name)
    call_format = infer_format(template)
    together: list[list[ParsedToolCall]] = [[WEATHER], [ADD]] + ([[WEATHER, ADD, WEATHER]] if name != "llama" else [])
    for calls in together:
        text = render_calls(template, *calls)
        for chunks in list_chunkings(text):
            assert parse_calls(call_format, chunks) == ("", calls), text
        for chunks in list_chunkings(f"Let me look.\n{text}"):
            assert parse_calls(call_format, chunks) == ("Let me look.", calls)
        for chunks in list_chunkings(f"{text} \n"):
            assert parse_calls(call_format, chunks) == ("", calls)
        for chunks in list_chunkings(text):
            assert parse_calls(call_format, chunks, single_call=True) == ("", calls[:1])


@pytest.mark.parametrize("name", ALL_TEMPLATES)
def test_text_that_is_not_a_call_is_unchanged(name: str) -> None:
    template = build_template(name)
    call_format = infer_format(template)
    text = render_calls(template, ADD)
    has_suffix = text[-1] != "}" or text.count("}") > 1
    for invalid_text in [
        "Hello.",
        " \n",
        "",
        "{} {",
        text.replace('"a": 1', '"a": 1,'),
        text.replace('"a": 1', '"a": NaN'),
        text.replace("add", "rm_rf"),
        text.replace("add", "a d"),
        text[: len(text) // 2],
        text.replace('{"a": 1, "b": 2}', "[1]"),
        *([text[:-1]] if has_suffix and call_format.suffix else []),
    ]:
        for chunks in list_chunkings(invalid_text):
            assert parse_calls(call_format, chunks) == (invalid_text, [])
            assert parse_calls(call_format, [*chunks, " And so on."]) == (invalid_text + " And so on.", [])
    for chunks in list_chunkings(text.replace("add", "rm_rf") + text):
        content, calls = parse_calls(call_format, chunks)
        assert calls == [ADD], "a call after an invalid one must be parsed"
        assert "rm_rf" in content


def test_text_is_not_withheld() -> None:
    parser = ToolCallParser(infer_format(build_template("hermes")), ToolPolicy(TOOL_SCHEMAS))
    assert parser.feed("Is 1 < 2? ").text == "Is 1 < 2?"
    assert parser.feed("<tool_").text == ""
    assert parser.feed("box> ").text == " <tool_box>"
    assert parser.feed('<tool_call>{"name": "add"').text == ""
    assert parser.feed(', "arguments": {"a": 1}}</tool_call>').calls == [ParsedToolCall("add", '{"a": 1}')]


def test_arguments_constrained_by_a_schema_are_parsed_as_they_are() -> None:
    """A schema can allow longer numbers and deeper objects than the JSON reader for unconstrained
    output."""
    call_format = infer_format(build_template("hermes"))
    for arguments in ('{"a": 123456789012345678901234567890}', '{"a": "\\u0000"}', '{"a": ' * 40 + "{}" + "}" * 40):
        text = f'<tool_call>{{"name": "add", "arguments": {arguments}}}</tool_call>'
        assert parse_calls(call_format, [text], constrained=True) == ("", [ParsedToolCall("add", arguments)])
        assert parse_calls(call_format, [text]) == (text, [])


def test_whitespace_in_a_call_may_differ() -> None:
    call_format = infer_format(build_template("hermes"))
    assert parse_calls(call_format, ['<tool_call>{"name":"add","arguments":{"a":1}}</tool_call>']) == (
        "",
        [ParsedToolCall("add", '{"a":1}')],
    )


def test_only_control_tokens_of_calls_are_visible() -> None:
    tokenizer = build_tokenizer(MISTRAL_LIST)
    call_format = infer_format(ChatTemplate(tokenizer))
    ids = tokenizer.encode("[CALLS]a[TOOLS]b<|end|>c", add_special_tokens=False)
    detokenizer = IncrementalDetokenizer(tokenizer, [], visible_special_ids=call_format.control_token_ids)
    assert "".join(detokenizer.feed(token).text for token in ids) + detokenizer.finish().text == "[CALLS]abc"


@pytest.mark.parametrize(
    "template", [WITHOUT_TOOLS, WITHOUT_CALLS, HERMES.replace("call.function.arguments | tojson", "'x'")]
)
def test_a_template_without_parsable_calls_raises(template: str) -> None:
    with pytest.raises(TemplateError):
        infer_format(ChatTemplate(build_byte_tokenizer(template)))
