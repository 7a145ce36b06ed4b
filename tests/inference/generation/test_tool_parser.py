"""Calls told from words, in the forms of several templates, however the text arrives."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from jinja2 import TemplateError

from inference.generation.detokenizer import TextStream
from inference.generation.tool_parser import Call, CallReader
from tests.tiny import byte_tokenizer
from tests.training.tasks.test_chat_tools import CALL_LESS, HERMES, IGNORING, TEMPLATES, tokenizer_of
from training.tasks.chat_format.template import ChatTemplate
from training.tasks.chat_format.tool_calls import CallForm, learn

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
BEHIND = HERMES.replace(
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}</tool_call>',
    '{ "arguments": {{ call.function.arguments | tojson }}, "name": "{{ call.function.name }}"}\n</tool_call> ',
)
# As DeepSeek V3: a fence of JSON between control tokens.
FENCED = TEMPLATES["joining"].replace(
    "{{ '[CALLS]' + call.function.name + '\n' + call.function.arguments }}",
    "{{ ('[CALLS]' if loop.first else '\n') + '[ARGS]function[TOOLS]' + call.function.name + '\n```json\n' "
    "+ call.function.arguments + '\n```[/TOOLS]' + ('[RESULT]' if loop.last else '') }}",
)
FORMS = {**TEMPLATES, "qwen": QWEN, "llama": LLAMA, "mistral-list": MISTRAL_LIST, "fenced": FENCED, "behind": BEHIND}
OFFERED = {"get_weather", "add"}
WEATHER, ADD = Call("get_weather", '{"city": "Pa\\"}ris", "in": {"a": [1, {}]}}'), Call("add", '{"a": 1, "b": 2}')


def template_of(name: str) -> ChatTemplate:
    return ChatTemplate(tokenizer_of(FORMS[name]))


def written(template: ChatTemplate, *calls: Call) -> str:
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
    return template.answer(turns, [tool])


def read(form: CallForm | None, pieces: list[str], **options: Any) -> tuple[str, list[Call]]:
    reader = CallReader(form, OFFERED, **options)
    said = [*(reader.feed(piece) for piece in pieces), reader.finish()]
    return "".join(each.text for each in said), [call for each in said for call in each.calls]


def ways(text: str) -> list[list[str]]:
    """Whole, in characters, in pieces."""
    rng, pieces, at = random.Random(text), list[str](), 0
    while at < len(text):
        size = rng.randint(1, 7)
        pieces.append(text[at : at + size])
        at += size
    return [[text], list(text), pieces]


@pytest.mark.parametrize("name", FORMS)
def test_what_a_template_writes_is_read_back(name: str) -> None:
    template = template_of(name)
    form = learn(template)
    together: list[list[Call]] = [[WEATHER], [ADD]] + ([[WEATHER, ADD, WEATHER]] if name != "llama" else [])
    for calls in together:
        text = written(template, *calls)
        for pieces in ways(text):
            assert read(form, pieces) == ("", calls), text
        for pieces in ways(f"Let me look.\n{text}"):
            assert read(form, pieces) == ("Let me look.", calls)
        for pieces in ways(f"{text} \n"):
            assert read(form, pieces) == ("", calls)
        for pieces in ways(text):
            assert read(form, pieces, single=True) == ("", calls[:1])


@pytest.mark.parametrize("name", FORMS)
def test_what_is_no_call_is_given_as_it_was_written(name: str) -> None:
    template = template_of(name)
    form = learn(template)
    text = written(template, ADD)
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
        *([text[:-1]] if closed and form.close else []),
    ]:
        for pieces in ways(spoilt):
            assert read(form, pieces) == (spoilt, [])
            assert read(form, [*pieces, " And so on."]) == (spoilt + " And so on.", [])
    for pieces in ways(text.replace("add", "rm_rf") + text):
        words, calls = read(form, pieces)
        assert calls == [ADD], "a call behind a spoilt one is still a call"
        assert "rm_rf" in words


def test_words_are_not_held_back() -> None:
    reader = CallReader(learn(template_of("hermes")), OFFERED)
    assert reader.feed("Is 1 < 2? ").text == "Is 1 < 2?"
    assert reader.feed("<tool_").text == ""
    assert reader.feed("box> ").text == " <tool_box>"
    assert reader.feed('<tool_call>{"name": "add"').text == ""
    assert reader.feed(', "arguments": {"a": 1}}</tool_call>').calls == [Call("add", '{"a": 1}')]


def test_arguments_that_were_held_to_a_schema_are_read_as_they_are() -> None:
    """A schema may let numbers be longer, and objects deeper, than the reader of what models write freely."""
    form = learn(template_of("hermes"))
    for arguments in ('{"a": 123456789012345678901234567890}', '{"a": "\\u0000"}', '{"a": ' * 40 + "{}" + "}" * 40):
        text = f'<tool_call>{{"name": "add", "arguments": {arguments}}}</tool_call>'
        assert read(form, [text], held=True) == ("", [Call("add", arguments)])
        assert read(form, [text]) == (text, [])


def test_blanks_in_a_call_may_differ() -> None:
    form = learn(template_of("hermes"))
    assert read(form, ['<tool_call>{"name":"add","arguments":{"a":1}}</tool_call>']) == ("", [Call("add", '{"a":1}')])


def test_a_control_token_of_a_call_is_seen_and_no_other() -> None:
    tokenizer = tokenizer_of(MISTRAL_LIST)
    form = learn(ChatTemplate(tokenizer))
    ids = tokenizer.encode("[CALLS]a[TOOLS]b<|end|>c", add_special_tokens=False)
    stream = TextStream(tokenizer, [], shown=form.tokens)
    assert "".join(stream.feed(token).text for token in ids) + stream.finish().text == "[CALLS]abc"


@pytest.mark.parametrize("template", [IGNORING, CALL_LESS, HERMES.replace("call.function.arguments | tojson", "'x'")])
def test_a_template_whose_calls_cannot_be_read_says_so(template: str) -> None:
    with pytest.raises(TemplateError):
        learn(ChatTemplate(byte_tokenizer(template)))
