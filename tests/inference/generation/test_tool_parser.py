"""Calls told from words, in the forms of several templates, however the text arrives."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from jinja2 import TemplateError

from inference.generation.detokenizer import IncrementalDetokenizer
from inference.generation.tool_parser import ParsedToolCall, ToolCallParser
from tests.tiny import build_byte_tokenizer
from tests.training.tasks.test_chat_tools import HERMES, TEMPLATES, WITHOUT_CALLS, WITHOUT_TOOLS, build_tokenizer
from training.tasks.chat_format.template import ChatTemplate
from training.tasks.chat_format.tool_calls import ToolCallFormat, infer_format

# As Qwen 2.5: blanks around the tags.
QWEN = HERMES.replace('<tool_call>{"name"', '\n<tool_call>\n{"name"').replace("}}</tool_call>", "}}\n</tool_call>")
QWEN = QWEN.replace("{%- for call in m.tool_calls -%}\n<", "{%- for call in m.tool_calls %}\n<")
# As Llama 3.1: one call, nothing around its JSON, arguments under another name.
LLAMA = (
    "{%- if tools -%}<|system|>{{ tools | tojson }}<|end|>{%- endif -%}"
    "{%- for m in messages -%}<|{{ m.role }}|>{%- if m.tool_calls -%}"
    "{%- if m.tool_calls | length > 1 -%}{{ raise_exception('one call at a time') }}{%- endif -%}"
    '{%- set call = m.tool_calls[0].function -%}{"name": "{{ call.name }}", '
    '"parameters": {{ call.arguments | tojson }}}{%- else -%}{{ m.content }}{%- endif -%}<|end|>{%- endfor -%}'
    "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)
# As Mistral 7B v0.3: a list behind a control token, an id in each call.
MISTRAL_LIST = (
    "{%- if tools -%}[TOOLS]{{ tools | tojson }}[/TOOLS]{%- endif -%}"
    "{%- for m in messages -%}{%- if m.tool_calls -%}[CALLS][{%- for call in m.tool_calls -%}"
    '{%- if call.id | length != 9 -%}{{ raise_exception("nine letters") }}{%- endif -%}'
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}, "id": "{{ call.id }}"}'
    "{%- if not loop.last -%}{{ ', ' }}{%- endif -%}{%- endfor -%}]<|end|>"
    "{%- elif m.role == 'assistant' -%}{{ m.content }}<|end|>"
    "{%- else -%}<|{{ m.role }}|>{{ m.content }}{%- endif -%}{%- endfor -%}"
)
# As Hermes 2: the name behind the arguments.
NAME_LAST = HERMES.replace(
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}</tool_call>',
    '{ "arguments": {{ call.function.arguments | tojson }}, "name": "{{ call.function.name }}"}\n</tool_call> ',
)
# As DeepSeek V3: a fence of JSON between control tokens.
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
TOOL_NAMES = {"get_weather", "add"}
WEATHER, ADD = (
    ParsedToolCall("get_weather", '{"city": "Pa\\"}ris", "in": {"a": [1, {}]}}'),
    ParsedToolCall("add", '{"a": 1, "b": 2}'),
)


def build_template(name: str) -> ChatTemplate:
    return ChatTemplate(build_tokenizer(ALL_TEMPLATES[name]))


def render_calls(template: ChatTemplate, *calls: ParsedToolCall) -> str:
    """As the template itself writes them."""
    made = [
        {
            "id": f"abcdefgh{at}",
            "type": "function",
            "function": {"name": call.name, "arguments": json.loads(call.arguments)},
        }
        for at, call in enumerate(calls)
    ]
    tool = {"type": "function", "function": {"name": "add", "description": "", "parameters": {}}}
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "tool_calls": made}]
    return template.render_answer(turns, [tool])


def parse_calls(
    call_format: ToolCallFormat | None, chunks: list[str], **options: Any
) -> tuple[str, list[ParsedToolCall]]:
    reader = ToolCallParser(call_format, TOOL_NAMES, **options)
    said = [*(reader.feed(piece) for piece in chunks), reader.finish()]
    return "".join(each.text for each in said), [call for each in said for call in each.calls]


def list_chunkings(text: str) -> list[list[str]]:
    """Whole, in characters, in pieces."""
    rng, pieces, at = random.Random(text), list[str](), 0
    while at < len(text):
        size = rng.randint(1, 7)
        pieces.append(text[at : at + size])
        at += size
    return [[text], list(text), pieces]


@pytest.mark.parametrize("name", ALL_TEMPLATES)
def test_what_a_template_writes_is_read_back(name: str) -> None:
    template = build_template(name)
    form = infer_format(template)
    together: list[list[ParsedToolCall]] = [[WEATHER], [ADD]] + ([[WEATHER, ADD, WEATHER]] if name != "llama" else [])
    for calls in together:
        text = render_calls(template, *calls)
        for pieces in list_chunkings(text):
            assert parse_calls(form, pieces) == ("", calls), text
        for pieces in list_chunkings(f"Let me look.\n{text}"):
            assert parse_calls(form, pieces) == ("Let me look.", calls)
        for pieces in list_chunkings(f"{text} \n"):
            assert parse_calls(form, pieces) == ("", calls)
        for pieces in list_chunkings(text):
            assert parse_calls(form, pieces, single_call=True) == ("", calls[:1])


@pytest.mark.parametrize("name", ALL_TEMPLATES)
def test_what_is_no_call_is_given_as_it_was_written(name: str) -> None:
    template = build_template(name)
    form = infer_format(template)
    text = render_calls(template, ADD)
    closed = text[-1] != "}" or text.count("}") > 1
    for spoilt in [
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
        *([text[:-1]] if closed and form.suffix else []),
    ]:
        for pieces in list_chunkings(spoilt):
            assert parse_calls(form, pieces) == (spoilt, [])
            assert parse_calls(form, [*pieces, " And so on."]) == (spoilt + " And so on.", [])
    for pieces in list_chunkings(text.replace("add", "rm_rf") + text):
        words, calls = parse_calls(form, pieces)
        assert calls == [ADD], "a call behind a spoilt one is still a call"
        assert "rm_rf" in words


def test_words_are_not_held_back() -> None:
    reader = ToolCallParser(infer_format(build_template("hermes")), TOOL_NAMES)
    assert reader.feed("Is 1 < 2? ").text == "Is 1 < 2?"
    assert reader.feed("<tool_").text == ""
    assert reader.feed("box> ").text == " <tool_box>"
    assert reader.feed('<tool_call>{"name": "add"').text == ""
    assert reader.feed(', "arguments": {"a": 1}}</tool_call>').calls == [ParsedToolCall("add", '{"a": 1}')]


def test_arguments_constrained_by_a_schema_are_parsed_as_they_are() -> None:
    """A schema may let numbers be longer, and objects deeper, than the reader of what models write freely."""
    form = infer_format(build_template("hermes"))
    for arguments in ('{"a": 123456789012345678901234567890}', '{"a": "\\u0000"}', '{"a": ' * 40 + "{}" + "}" * 40):
        text = f'<tool_call>{{"name": "add", "arguments": {arguments}}}</tool_call>'
        assert parse_calls(form, [text], constrained=True) == ("", [ParsedToolCall("add", arguments)])
        assert parse_calls(form, [text]) == (text, [])


def test_blanks_in_a_call_may_differ() -> None:
    form = infer_format(build_template("hermes"))
    assert parse_calls(form, ['<tool_call>{"name":"add","arguments":{"a":1}}</tool_call>']) == (
        "",
        [ParsedToolCall("add", '{"a":1}')],
    )


def test_a_control_token_of_a_call_is_seen_and_no_other() -> None:
    tokenizer = build_tokenizer(MISTRAL_LIST)
    form = infer_format(ChatTemplate(tokenizer))
    ids = tokenizer.encode("[CALLS]a[TOOLS]b<|end|>c", add_special_tokens=False)
    stream = IncrementalDetokenizer(tokenizer, [], visible_special_ids=form.control_token_ids)
    assert "".join(stream.feed(token).text for token in ids) + stream.finish().text == "[CALLS]abc"


@pytest.mark.parametrize(
    "template", [WITHOUT_TOOLS, WITHOUT_CALLS, HERMES.replace("call.function.arguments | tojson", "'x'")]
)
def test_a_template_whose_calls_cannot_be_read_says_so(template: str) -> None:
    with pytest.raises(TemplateError):
        infer_format(ChatTemplate(build_byte_tokenizer(template)))
