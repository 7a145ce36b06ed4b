"""Constrained decoding: output matches its grammar, for single sequences and in a batch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from inference.generation.detokenizer import IncrementalDetokenizer
from inference.generation.model_runner import ModelRunner
from inference.generation.sampling import SamplerState, SamplingParams, sample
from inference.generation.scheduler import Scheduler, SequenceState
from inference.generation.tool_parser import ParsedToolCall, ToolCallParser, ToolPolicy
from inference.protocol.errors import EngineError
from inference.structured_output.grammar import FieldSchema, StructuredOutput
from inference.structured_output.guidance import CompiledGrammar, GrammarCompiler, GrammarMatcher
from tests.inference.generation.test_detokenizer import TOKENIZERS
from tests.inference.generation.test_scheduler import (
    END_TOKEN,
    TOKENIZER,
    ControllableModel,
    TrackedSequence,
    generate_greedily,
)
from tests.inference.generation.test_tool_parser import ALL_TEMPLATES, build_template, render_calls
from tests.training.tasks.test_chat_tools import build_tokenizer
from training.tasks.chat_format.tool_calls import infer_format

pytestmark = pytest.mark.integration

GRAMMAR_COMPILER = GrammarCompiler(TOKENIZER, [END_TOKEN])
CITY_SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "n": {"type": "integer"}},
    "required": ["city"],
}
MAX_NEW_TOKENS = 4000


def compile_grammar(schema: dict[str, Any]) -> CompiledGrammar:
    return GRAMMAR_COMPILER.compile(StructuredOutput(FieldSchema(schema, "response_format")))


def build_sequence(
    prompt: str, max_new_tokens: int = MAX_NEW_TOKENS, stop: tuple[str, ...] = (), **sampling: Any
) -> TrackedSequence:
    """Build a tracked sequence with its own sampling parameters."""
    tracked = TrackedSequence(prompt, max_new_tokens)
    detokenizer = IncrementalDetokenizer(TOKENIZER, stop)
    tracked.sequence = SequenceState(
        TOKENIZER.encode(prompt), "", SamplingParams(**sampling), detokenizer, max_new_tokens, tracked.outputs.put
    )
    return tracked


@pytest.fixture(scope="module")
def model() -> ControllableModel:
    return ControllableModel()


@pytest.fixture(scope="module")
def scheduler(model: ControllableModel) -> Iterator[Scheduler]:
    scheduler = Scheduler(ModelRunner(model, torch.device("cpu")), [END_TOKEN], 8, "test")
    yield scheduler
    scheduler.close()


def run_sequences(scheduler: Scheduler, *sequences: TrackedSequence) -> list[tuple[str, str, int]]:
    scheduler.submit([tracked.sequence for tracked in sequences])
    return [tracked.result() for tracked in sequences]


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=4)
LEAVES = st.one_of(
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": "string", "maxLength": 5}]),
    st.sampled_from([{"type": "string", "pattern": "^[a-c]{1,3}x$"}, {"type": "string", "format": "date"}]),
    st.integers(-50, 50).map(lambda minimum: {"type": "integer", "minimum": minimum, "maximum": minimum + 20}),
    st.lists(st.one_of(WORDS, st.integers(-99, 99), st.none()), min_size=1, max_size=3).map(
        lambda values: {"enum": values}
    ),
    WORDS.map(lambda value: {"const": value}),
)


def object_schemas(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    properties = st.dictionaries(WORDS, inner, max_size=3)
    return st.builds(
        lambda properties, count: {
            "type": "object",
            "properties": properties,
            "required": list(properties)[:count],
            "additionalProperties": False,
        },
        properties,
        st.integers(0, 3),
    )


def array_schemas(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda items, min_items, extra: {
            "type": "array",
            "items": items,
            "minItems": min_items,
            "maxItems": min_items + extra,
        },
        inner,
        st.integers(0, 2),
        st.integers(0, 1),
    )


SCHEMAS = st.recursive(LEAVES, lambda inner: st.one_of(object_schemas(inner), array_schemas(inner)), max_leaves=5)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schema=object_schemas(SCHEMAS), seed=st.integers(0, 2**32))
def test_output_of_a_random_model_matches_the_schema(scheduler: Scheduler, schema: dict[str, Any], seed: int) -> None:
    grammar = compile_grammar(schema)
    sequences = [build_sequence("the", seed=seed + index, temperature=index / 2, grammar=grammar) for index in range(3)]
    for text, finish_reason, _ in run_sequences(scheduler, *sequences):
        assert finish_reason == "stop"
        Draft202012Validator(schema).validate(json.loads(text))


TREE_SCHEMA = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"v": {"type": "boolean"}, "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]}},
            "required": ["v", "next"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}


def test_a_sequence_among_others_equals_the_sequence_alone(model: ControllableModel, scheduler: Scheduler) -> None:
    """Mix several grammars and none, greedy and random sampling, and several lengths in a batch."""
    options: list[dict[str, Any]] = [
        {"grammar": compile_grammar(TREE_SCHEMA), "temperature": 0},
        {"temperature": 0},
        {"grammar": compile_grammar({"type": "object", "properties": {"a": {"type": "string"}}}), "seed": 5},
        {"seed": 6, "top_p": 0.7},
        {"grammar": compile_grammar(TREE_SCHEMA), "seed": 7, "presence_penalty": 1.5, "logit_bias": {40: 3.0}},
        {"grammar": compile_grammar({"type": "integer"}), "seed": 8, "top_p": 0.9},
    ]
    prompts = ["the", "quick brown fox", "dog", "a", "🎻", "lazy"]

    def build_sequences() -> list[TrackedSequence]:
        return [build_sequence(prompt, 60, **sampling) for prompt, sampling in zip(prompts, options, strict=True)]

    alone = [run_sequences(scheduler, sequence)[0] for sequence in build_sequences()]
    together = build_sequences()
    assert run_sequences(scheduler, *together) == alone
    assert together[1].sequence.output_tokens == generate_greedily(model, "quick brown fox", 60), (
        "a sequence without a grammar must not change"
    )


LETTER_TOKEN, DIGIT_TOKEN = (TOKENIZER.encode(character)[0] for character in "z1")


@pytest.mark.parametrize("stop_token_ids", [[END_TOKEN], [END_TOKEN, LETTER_TOKEN], []])
def test_a_complete_object_ends_its_sequence_with_any_set_of_stop_tokens(
    model: ControllableModel, stop_token_ids: list[int]
) -> None:
    grammar_compiler = GrammarCompiler(TOKENIZER, stop_token_ids)
    scheduler = Scheduler(ModelRunner(model, torch.device("cpu")), stop_token_ids, 4, "test")
    sequence = build_sequence(
        "the", grammar=grammar_compiler.compile(StructuredOutput(FieldSchema({"const": {"a": [1]}}, "response_format")))
    )
    [(text, finish_reason, tokens)] = run_sequences(scheduler, sequence)
    scheduler.close()
    assert (json.loads(text), finish_reason) == ({"a": [1]}, "stop")
    assert tokens == len(sequence.sequence.output_tokens) == len(TOKENIZER.encode(text)), (
        "the model needs no stop token"
    )


def test_a_control_tokens_name_in_a_schema_is_text(scheduler: Scheduler) -> None:
    schema = {"type": "object", "properties": {"<end>": {"const": "a<end>"}}, "required": ["<end>"]}
    [(text, finish_reason, _)] = run_sequences(
        scheduler, build_sequence("the", seed=1, grammar=compile_grammar(schema))
    )
    assert (json.loads(text)["<end>"], finish_reason) == ("a<end>", "stop")


def test_a_vocabulary_that_cannot_spell_the_output_fails(model: ControllableModel) -> None:
    stop_token_ids = [END_TOKEN, DIGIT_TOKEN]
    scheduler = Scheduler(ModelRunner(model, torch.device("cpu")), stop_token_ids, 4, "test")
    sequence = build_sequence(
        "the",
        grammar=GrammarCompiler(TOKENIZER, stop_token_ids).compile(
            StructuredOutput(FieldSchema({"const": [1]}, "response_format"))
        ),
    )
    with pytest.raises(EngineError, match="no token of the model spells"):
        run_sequences(scheduler, sequence)
    scheduler.close()


def test_the_model_ends_output_that_could_continue(scheduler: Scheduler) -> None:
    """Any of the stop_token_ids may end it, and only where it fits."""
    grammar = compile_grammar({"type": "integer", "minimum": 10})
    sequence = build_sequence("the", temperature=0, grammar=grammar, logit_bias={END_TOKEN: 100})
    [(text, finish_reason, tokens)] = run_sequences(scheduler, sequence)
    assert (len(text), finish_reason, tokens) == (2, "stop", 3)


def test_a_token_limit_truncates_output(scheduler: Scheduler) -> None:
    [(text, finish_reason, tokens)] = run_sequences(
        scheduler, build_sequence("the", 3, grammar=compile_grammar({"const": "abcdef"}))
    )
    assert (finish_reason, tokens) == ("length", 3)
    assert '"abcdef"'.startswith(text)


def test_a_stop_string_ends_constrained_output(scheduler: Scheduler) -> None:
    sequence = build_sequence("the", stop=("bc",), grammar=compile_grammar({"const": "abcd"}))
    assert run_sequences(scheduler, sequence)[0][:2] == ('"a', "stop")


def test_logprobs_are_those_before_the_grammar() -> None:
    grammar = compile_grammar({"const": 7})
    logits = torch.randn(1, 300, generator=torch.Generator().manual_seed(3))
    [free] = sample(logits, [SamplerState(SamplingParams(temperature=0, logprobs=5))])
    [constrained] = sample(logits, [SamplerState(SamplingParams(temperature=0, logprobs=5, grammar=grammar))])
    assert TOKENIZER.decode([constrained.token]) == "7"
    assert constrained.top_logprobs == free.top_logprobs
    assert constrained.token_logprob
    assert constrained.token_logprob.logprob == float(torch.log_softmax(logits[0], -1)[constrained.token])


def test_a_bias_applies_to_allowed_tokens() -> None:
    grammar = compile_grammar({"enum": [7, 8]})
    seven, eight = (TOKENIZER.encode(digit)[0] for digit in "78")
    for token in (seven, eight):
        [sampled] = sample(
            torch.zeros(1, 300), [SamplerState(SamplingParams(logit_bias={token: 50, 3: 100}, grammar=grammar))]
        )
        assert sampled.token == token


@pytest.mark.parametrize("vocabulary", [len(TOKENIZER) - 5, len(TOKENIZER), len(TOKENIZER) + 77])
def test_vocabulary_sizes_of_model_and_tokenizer_may_differ(vocabulary: int) -> None:
    logits = torch.zeros(2, vocabulary)
    logits[:, -1] = 9
    samplers = [
        SamplerState(SamplingParams(temperature=0, grammar=compile_grammar({"const": 7}))),
        SamplerState(SamplingParams(temperature=0)),
    ]
    constrained, free = sample(logits, samplers)
    assert TOKENIZER.decode([constrained.token]) == "7"
    assert free.token == vocabulary - 1


def accepts_text(matcher: GrammarMatcher, tokenizer: Any, text: str) -> bool:
    """True if the grammar allows exactly this text and then terminates."""
    for token in tokenizer.encode(text, add_special_tokens=False):
        if not matcher.compute_bitmask()[token >> 3] >> (token & 7) & 1:
            return False
        matcher.accept_token(token)
    return matcher.is_terminated


@pytest.mark.parametrize("name", ALL_TEMPLATES)
def test_a_forced_call_has_the_templates_format_and_is_parsed(name: str) -> None:
    template, tokenizer = build_template(name), build_tokenizer(ALL_TEMPLATES[name])
    call_format = infer_format(template)
    arguments = FieldSchema({**CITY_SCHEMA, "additionalProperties": False}, "tools")
    # One name is a prefix of the other.
    grammar = GrammarCompiler(tokenizer, [1]).compile(
        StructuredOutput(tool_schemas={"get": arguments, "get_weather": arguments}), call_format
    )
    calls = [ParsedToolCall("get", '{"city": "Rome"}'), ParsedToolCall("get_weather", '{"city": "Rome", "n": 3}')]
    for call in calls:
        text = render_calls(template, call).strip()
        assert accepts_text(grammar.create_matcher(), tokenizer, text), text
        parser = ToolCallParser(call_format, ToolPolicy({"get": {}, "get_weather": {}}, constrained=True))
        assert parser.feed(text).calls + parser.finish().calls == [call]
        for invalid_text in (
            text.replace(call.name, "get_"),
            text.replace('"Rome"', "1"),
            text.replace("city", "town"),
            "a",
        ):
            assert not accepts_text(grammar.create_matcher(), tokenizer, invalid_text), invalid_text


@pytest.mark.parametrize("name", TOKENIZERS)
def test_each_kind_of_tokenizer(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    grammar = GrammarCompiler(tokenizer, [5]).compile(
        StructuredOutput(FieldSchema({"type": "object"}, "response_format"))
    )
    matcher = grammar.create_matcher()
    ids = tokenizer.encode('{"the": "🎻"}', add_special_tokens=False)
    # Tokenizers like Llama 1's add a space before a text, which is not part of the output.
    for token in ids[tokenizer.decode(ids[:1]).isspace() or tokenizer.convert_ids_to_tokens(ids[0]) == "▁" :]:
        matcher.accept_token(token)
    assert (matcher.is_terminated, matcher.error) == (True, None)


def build_optional_properties_schema(count: int) -> dict[str, Any]:
    return {"type": "object", "properties": {f"p{at}": {"type": "string"} for at in range(count)}}


def build_exponential_schema(count: int) -> dict[str, Any]:
    """Build a schema in which each of ``count`` choices doubles the number of possible outputs."""
    pairs = [{"anyOf": [{"properties": {f"{prefix}{index}": {"type": kind}}} for prefix, kind in
                        (("k", "integer"), ("j", "string"))]} for index in range(count)]  # fmt: skip
    return {"allOf": pairs}


UNSUPPORTED_SCHEMAS: list[tuple[dict[str, Any], str]] = [
    ({"not": {}}, 'Unimplemented keys: ["not"]'),
    ({"$ref": "http://localhost/schema.json"}, "does not fetch"),
    ({"$ref": "#/$defs/none"}, "does not exist"),
    ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "no output can match it"),
    ({"type": "strnig"}, "Invalid type"),
    ({"properties": 3}, "must be an object"),
    ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
    ({"type": "string", "pattern": "("}, "regex parse error"),
    ({"type": "string", "format": "telepathy"}, "Unknown format"),
    ({"enum": []}, "Unsatisfiable"),
    ({"oneOf": [{"type": "string"}, {"type": "string", "minLength": 3}]}, "use anyOf"),
    ({"type": "array", "uniqueItems": True}, 'Unimplemented keys: ["uniqueItems"]'),
    (build_exponential_schema(30), "too large"),
    (build_optional_properties_schema(5000), "too big"),
    ({"type": "integer", "multipleOf": 999_999_937}, "fuel exhausted"),
]


@pytest.mark.parametrize(("schema", "reason"), UNSUPPORTED_SCHEMAS, ids=lambda value: str(value)[:30])
def test_an_unsupported_schema_is_named_with_the_reason(schema: dict[str, Any], reason: str) -> None:
    with pytest.raises(EngineError) as caught:
        compile_grammar(schema)
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, "invalid_request", "response_format")
    assert reason in caught.value.message
    assert "x-guidance" not in caught.value.message, "clients must not see the grammar"
    with pytest.raises(EngineError) as caught:
        GRAMMAR_COMPILER.compile(
            StructuredOutput(tool_schemas={"b": FieldSchema(schema, "tools.1.function.parameters")}),
            infer_format(build_template("hermes")),
        )
    assert caught.value.param == "tools.1.function.parameters"


def test_options_for_the_library_in_a_schema_are_ignored() -> None:
    grammar = compile_grammar({"type": "object", "x-guidance": {"whitespace_pattern": r"\s+", "lenient": True}})
    assert not accepts_text(grammar.create_matcher(), TOKENIZER, "{" + "\t" * 9 + "}")


@pytest.mark.parametrize("pattern", ["(a{1,1000}){1,1000}", "^(a|aa|aaa|b?){50}(.*a.*){20}$", ".*a.{200}"])
def test_patterns_that_are_slow_in_other_engines(scheduler: Scheduler, pattern: str) -> None:
    grammar = compile_grammar({"type": "string", "pattern": pattern})
    [(text, _, tokens)] = run_sequences(scheduler, build_sequence("the", 60, seed=1, grammar=grammar))
    assert tokens <= 60
    assert text.startswith('"')


def test_a_schema_that_becomes_too_expensive_fails_only_its_sequence(
    model: ControllableModel, scheduler: Scheduler
) -> None:
    expensive = build_sequence("the", temperature=0, grammar=compile_grammar(build_optional_properties_schema(900)))
    other = build_sequence("dog", 12, temperature=0)
    scheduler.submit([expensive.sequence, other.sequence])
    with pytest.raises(EngineError) as caught:
        expensive.result()
    assert (caught.value.status, caught.value.param) == (400, "response_format")
    assert "Make the schema simpler" in caught.value.message
    other.result()
    assert other.sequence.output_tokens == generate_greedily(model, "dog", 12)
