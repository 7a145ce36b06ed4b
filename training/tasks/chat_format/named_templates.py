"""Chat templates for base models that have none, chosen by name in the registry.

A template ends a turn with its own control token if the tokenizer has it, and else with the end
token of the tokenizer, which every base knows from its training. Its other marks may be plain text;
then a message can contain them, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_CHATML = """
{%- if tools -%}
{{ '<|im_start|>system\\n' + (messages[0]['content'] + '\\n\\n' if messages[0]['role'] == 'system' else '') }}
{{- '# Tools\\n\\nYou may call these functions:\\n<tools>' }}
{%- for tool in tools %}{{ '\\n' + tool | tojson }}{% endfor %}
{{- '\\n</tools>\\n\\nTo call one, write its name and arguments as JSON:\\n<tool_call>\\n' }}
{{- '{"name": "...", "arguments": {...}}\\n</tool_call>' + end + '\\n' }}
{%- endif -%}
{%- for message in messages -%}
{%- if message['role'] == 'system' and tools and loop.first -%}
{%- elif message['role'] == 'tool' -%}
{{ '<|im_start|>tool\\n' + message['content'] + end + '\\n' }}
{%- else -%}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] }}
{%- for call in message['tool_calls'] or [] -%}
{{ ('\\n' if message['content'] or not loop.first else '') + '<tool_call>\\n{"name": "' + call['function']['name'] }}
{{- '", "arguments": ' + call['function']['arguments'] | tojson + '}\\n</tool_call>' }}
{%- endfor -%}
{{ end + '\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""
_LLAMA3 = """
{%- for message in messages -%}
{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] + end }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif -%}
"""
_WITH_SYSTEM_IN_QUESTION = """
{%- set first = messages[0]['role'] == 'system' -%}
{%- for message in (messages[1:] if first else messages) -%}
{%- if message['role'] == 'system' -%}
{{ raise_exception('a system message must be the first') }}
{%- endif -%}
{%- set before = messages[0]['content'] + '\\n\\n' if first and loop.first else '' -%}
TURN
{%- endfor -%}
PROMPT
"""
_GEMMA_TURN = """{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}
{{- before + message['content'] + end + '\\n' }}"""
_GEMMA_PROMPT = "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}"
_MISTRAL_TURN = """{%- if message['role'] == 'assistant' -%}{{ ' ' + message['content'] + end }}
{%- else -%}{{ '[INST] ' + before + message['content'] + ' [/INST]' }}{%- endif -%}"""
_PLAIN = """
{%- for message in messages -%}
{{ {'system': 'Instructions', 'user': 'User', 'assistant': 'Assistant'}.get(message['role'], message['role']) }}
{{- ': ' + message['content'] + (end if message['role'] == 'assistant' else '') + '\\n\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'Assistant:' }}{%- endif -%}
"""


@dataclass(frozen=True)
class _NamedTemplate:
    """Jinja text that reads ``end``."""

    body: str
    end: str | None = None
    """Control token that ends a turn. None: the end token of the tokenizer."""


_TEMPLATES: Mapping[str, _NamedTemplate] = {
    "chatml": _NamedTemplate(_CHATML, "<|im_end|>"),
    "llama3": _NamedTemplate(_LLAMA3, "<|eot_id|>"),
    "gemma": _NamedTemplate(
        _WITH_SYSTEM_IN_QUESTION.replace("TURN", _GEMMA_TURN).replace("PROMPT", _GEMMA_PROMPT), "<end_of_turn>"
    ),
    "mistral": _NamedTemplate(_WITH_SYSTEM_IN_QUESTION.replace("TURN", _MISTRAL_TURN).replace("PROMPT", "")),
    "plain": _NamedTemplate(_PLAIN),
}

TEMPLATE_NAMES = tuple(_TEMPLATES)
"""Values of ``chat_template`` in ``models.toml``."""


def build_named_template(name: str, tokenizer: Any) -> str:
    """Return the template's text for a tokenizer.

    Raises ``ValueError`` if the name is unknown or the tokenizer has no end token.
    """
    if name not in _TEMPLATES:
        raise ValueError(f"'{name}' is not one of {', '.join(TEMPLATE_NAMES)}")
    template = _TEMPLATES[name]
    control = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    if template.end in control:
        end = f"'{template.end}'"
    elif tokenizer.eos_token:
        end = "eos_token"
    else:
        raise ValueError(f"'{name}' needs a token that ends a turn, and the tokenizer has no 'eos_token'")
    adds_bos = tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    start = "{{- bos_token -}}" if adds_bos else ""
    return f"{start}{{%- set end = {end} -%}}{template.body.strip()}"
