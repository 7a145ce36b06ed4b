"""Answers held to a grammar: whatever a model would rather say, alone as in a batch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from inference.generation.detokenizer import TextStream
from inference.generation.model_runner import Decoder
from inference.generation.sampling import Sampler, Sampling, choose
from inference.generation.scheduler import Row, Scheduler
from inference.generation.tool_parser import Call, CallReader
from inference.protocol.errors import EngineError
from inference.structured_output.grammar import FieldSchema, Wish
from inference.structured_output.guidance import Grammar, Grammars, Matcher
from tests.inference.generation.test_detokenizer import TOKENIZERS
from tests.inference.generation.test_scheduler import END, TOKENIZER, Model, alone
from tests.inference.generation.test_scheduler import Asked as Answer
from tests.inference.generation.test_tool_parser import FORMS, template_of, written
from tests.training.tasks.test_chat_tools import tokenizer_of
from training.tasks.chat_format.tool_calls import learn

GRAMMARS = Grammars(TOKENIZER, [END])
CITY = {"type": "object", "properties": {"city": {"type": "string"}, "n": {"type": "integer"}}, "required": ["city"]}
LIMIT = 4000


def grammar_of(schema: dict[str, Any]) -> Grammar:
    return GRAMMARS.compile(Wish(FieldSchema(schema, "response_format")))


def row_of(prompt: str, limit: int = LIMIT, stop: tuple[str, ...] = (), **sampling: Any) -> Answer:
    """A row of the scheduler's tests with rules of its own."""
    answer = Answer(prompt, limit)
    stream = TextStream(TOKENIZER, stop)
    answer.row = Row(TOKENIZER.encode(prompt), "", Sampling(**sampling), stream, limit, answer.updates.put)
    return answer


@pytest.fixture(scope="module")
def model() -> Model:
    return Model()


@pytest.fixture(scope="module")
def scheduler(model: Model) -> Iterator[Scheduler]:
    scheduler = Scheduler(Decoder(model, torch.device("cpu")), [END], 8, "test")
    yield scheduler
    scheduler.close()


def answers(scheduler: Scheduler, *rows: Answer) -> list[tuple[str, str, int]]:
    scheduler.submit([each.row for each in rows])
    return [each.result() for each in rows]


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=4)
LEAVES = st.one_of(
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": "string", "maxLength": 5}]),
    st.sampled_from([{"type": "string", "pattern": "^[a-c]{1,3}x$"}, {"type": "string", "format": "date"}]),
    st.integers(-50, 50).map(lambda least: {"type": "integer", "minimum": least, "maximum": least + 20}),
    st.lists(st.one_of(WORDS, st.integers(-99, 99), st.none()), min_size=1, max_size=3).map(lambda all: {"enum": all}),
    WORDS.map(lambda value: {"const": value}),
)


def objects(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
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


def lists(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda items, least, more: {"type": "array", "items": items, "minItems": least, "maxItems": least + more},
        inner,
        st.integers(0, 2),
        st.integers(0, 1),
    )


SCHEMAS = st.recursive(LEAVES, lambda inner: st.one_of(objects(inner), lists(inner)), max_leaves=5)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schema=objects(SCHEMAS), seed=st.integers(0, 2**32))
def test_what_a_random_model_writes_fits_the_schema(scheduler: Scheduler, schema: dict[str, Any], seed: int) -> None:
    grammar = grammar_of(schema)
    rows = [row_of("the", seed=seed + at, temperature=at / 2, grammar=grammar) for at in range(3)]
    for text, finish, _ in answers(scheduler, *rows):
        assert finish == "stop"
        Draft202012Validator(schema).validate(json.loads(text))


TREE = {
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


def test_a_row_among_others_is_the_row_alone(model: Model, scheduler: Scheduler) -> None:
    """Held to several grammars and to none, greedy and drawn, of all lengths."""
    rules: list[dict[str, Any]] = [
        {"grammar": grammar_of(TREE), "temperature": 0},
        {"temperature": 0},
        {"grammar": grammar_of({"type": "object", "properties": {"a": {"type": "string"}}}), "seed": 5},
        {"seed": 6, "top_p": 0.7},
        {"grammar": grammar_of(TREE), "seed": 7, "presence_penalty": 1.5, "bias": {40: 3.0}},
        {"grammar": grammar_of({"type": "integer"}), "seed": 8, "top_p": 0.9},
    ]
    prompts = ["the", "quick brown fox", "dog", "a", "🎻", "lazy"]

    def rows() -> list[Answer]:
        return [row_of(prompt, 60, **each) for prompt, each in zip(prompts, rules, strict=True)]

    singly = [answers(scheduler, row)[0] for row in rows()]
    together = rows()
    assert answers(scheduler, *together) == singly
    assert together[1].row.tokens == alone(model, "quick brown fox", 60), "a row without a grammar is as ever"


OTHER, ONE = (TOKENIZER.encode(character)[0] for character in "z1")


@pytest.mark.parametrize("ends", [[END], [END, OTHER], []])
def test_a_whole_object_ends_its_row_whatever_ends_there_are(model: Model, ends: list[int]) -> None:
    grammars = Grammars(TOKENIZER, ends)
    scheduler = Scheduler(Decoder(model, torch.device("cpu")), ends, 4, "test")
    row = row_of("the", grammar=grammars.compile(Wish(FieldSchema({"const": {"a": [1]}}, "response_format"))))
    [(text, finish, tokens)] = answers(scheduler, row)
    scheduler.close()
    assert (json.loads(text), finish) == ({"a": [1]}, "stop")
    assert tokens == len(row.row.tokens) == len(TOKENIZER.encode(text)), "no end was asked of the model"


def test_a_control_tokens_name_in_a_schema_is_text(scheduler: Scheduler) -> None:
    schema = {"type": "object", "properties": {"<end>": {"const": "a<end>"}}, "required": ["<end>"]}
    [(text, finish, _)] = answers(scheduler, row_of("the", seed=1, grammar=grammar_of(schema)))
    assert (json.loads(text)["<end>"], finish) == ("a<end>", "stop")


def test_a_vocabulary_that_cannot_spell_an_answer_says_so(model: Model) -> None:
    ends = [END, ONE]
    scheduler = Scheduler(Decoder(model, torch.device("cpu")), ends, 4, "test")
    row = row_of("the", grammar=Grammars(TOKENIZER, ends).compile(Wish(FieldSchema({"const": [1]}, "response_format"))))
    with pytest.raises(EngineError, match="no token of the model spells"):
        answers(scheduler, row)
    scheduler.close()


def test_an_answer_that_could_go_on_ends_where_the_model_ends_it(scheduler: Scheduler) -> None:
    """Any of the ends may end it, and only where it fits."""
    grammar = grammar_of({"type": "integer", "minimum": 10})
    row = row_of("the", temperature=0, grammar=grammar, bias={END: 100})
    [(text, finish, tokens)] = answers(scheduler, row)
    assert (len(text), finish, tokens) == (2, "stop", 3)


def test_a_limit_cuts_an_answer_off(scheduler: Scheduler) -> None:
    [(text, finish, tokens)] = answers(scheduler, row_of("the", 3, grammar=grammar_of({"const": "abcdef"})))
    assert (finish, tokens) == ("length", 3)
    assert '"abcdef"'.startswith(text)


def test_a_stop_string_ends_an_answer(scheduler: Scheduler) -> None:
    row = row_of("the", stop=("bc",), grammar=grammar_of({"const": "abcd"}))
    assert answers(scheduler, row)[0][:2] == ('"a', "stop")


def test_scores_are_those_before_the_grammar() -> None:
    grammar = grammar_of({"const": 7})
    logits = torch.randn(1, 300, generator=torch.Generator().manual_seed(3))
    [free] = choose(logits, [Sampler(Sampling(temperature=0, logprobs=5))])
    [held] = choose(logits, [Sampler(Sampling(temperature=0, logprobs=5, grammar=grammar))])
    assert TOKENIZER.decode([held.token]) == "7"
    assert held.alternatives == free.alternatives
    assert held.scored
    assert held.scored.logprob == float(torch.log_softmax(logits[0], -1)[held.token])


def test_a_bias_counts_among_what_may_follow() -> None:
    grammar = grammar_of({"enum": [7, 8]})
    seven, eight = (TOKENIZER.encode(digit)[0] for digit in "78")
    for wanted in (seven, eight):
        [choice] = choose(torch.zeros(1, 300), [Sampler(Sampling(bias={wanted: 50, 3: 100}, grammar=grammar))])
        assert choice.token == wanted


@pytest.mark.parametrize("vocabulary", [len(TOKENIZER) - 5, len(TOKENIZER), len(TOKENIZER) + 77])
def test_a_models_vocabulary_may_be_another_size_than_the_tokenizers(vocabulary: int) -> None:
    logits = torch.zeros(2, vocabulary)
    logits[:, -1] = 9
    samplers = [Sampler(Sampling(temperature=0, grammar=grammar_of({"const": 7}))), Sampler(Sampling(temperature=0))]
    held, free = choose(logits, samplers)
    assert TOKENIZER.decode([held.token]) == "7"
    assert free.token == vocabulary - 1


def spelled(matcher: Matcher, tokenizer: Any, text: str) -> bool:
    """Whether the grammar lets the model write the text, and then no more."""
    for token in tokenizer.encode(text, add_special_tokens=False):
        if not matcher.allowed()[token >> 3] >> (token & 7) & 1:
            return False
        matcher.take(token)
    return matcher.whole


@pytest.mark.parametrize("name", FORMS)
def test_a_forced_call_is_what_the_template_writes_and_the_reader_reads(name: str) -> None:
    template, tokenizer = template_of(name), tokenizer_of(FORMS[name])
    form = learn(template)
    arguments = FieldSchema({**CITY, "additionalProperties": False}, "tools")
    # One's name is the beginning of the other's.
    grammar = Grammars(tokenizer, [1]).compile(Wish(calls={"get": arguments, "get_weather": arguments}), form)
    calls = [Call("get", '{"city": "Rome"}'), Call("get_weather", '{"city": "Rome", "n": 3}')]
    for call in calls:
        text = written(template, call).strip()
        assert spelled(grammar.begin(), tokenizer, text), text
        reader = CallReader(form, {"get", "get_weather"}, held=True)
        assert reader.feed(text).calls + reader.finish().calls == [call]
        for spoilt in (text.replace(call.name, "get_"), text.replace('"Rome"', "1"), text.replace("city", "town"), "a"):
            assert not spelled(grammar.begin(), tokenizer, spoilt), spoilt


@pytest.mark.parametrize("name", TOKENIZERS)
def test_each_kind_of_tokenizer(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    grammar = Grammars(tokenizer, [5]).compile(Wish(FieldSchema({"type": "object"}, "response_format")))
    matcher = grammar.begin()
    ids = tokenizer.encode('{"the": "🎻"}', add_special_tokens=False)
    # Llama's first kind sets a space before a text, which belongs to no answer.
    for token in ids[tokenizer.decode(ids[:1]).isspace() or tokenizer.convert_ids_to_tokens(ids[0]) == "▁" :]:
        matcher.take(token)
    assert (matcher.whole, matcher.fault) == (True, None)


def optional(count: int) -> dict[str, Any]:
    return {"type": "object", "properties": {f"p{at}": {"type": "string"} for at in range(count)}}


def doubling(count: int) -> dict[str, Any]:
    """Each of ``count`` choices doubles what an answer may be."""
    pairs = [{"anyOf": [{"properties": {f"{one}{at}": {"type": kind}}} for one, kind in
                        (("k", "integer"), ("j", "string"))]} for at in range(count)]  # fmt: skip
    return {"allOf": pairs}


UNFIT: list[tuple[dict[str, Any], str]] = [
    ({"not": {}}, 'Unimplemented keys: ["not"]'),
    ({"$ref": "http://localhost/schema.json"}, "does not fetch"),
    ({"$ref": "#/$defs/none"}, "does not exist"),
    ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "no answer could fit it"),
    ({"type": "strnig"}, "Invalid type"),
    ({"properties": 3}, "must be an object"),
    ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
    ({"type": "string", "pattern": "("}, "regex parse error"),
    ({"type": "string", "format": "telepathy"}, "Unknown format"),
    ({"enum": []}, "Unsatisfiable"),
    ({"oneOf": [{"type": "string"}, {"type": "string", "minLength": 3}]}, "use anyOf"),
    ({"type": "array", "uniqueItems": True}, 'Unimplemented keys: ["uniqueItems"]'),
    (doubling(30), "too large"),
    (optional(5000), "too big"),
    ({"type": "integer", "multipleOf": 999_999_937}, "fuel exhausted"),
]


@pytest.mark.parametrize(("schema", "reason"), UNFIT, ids=lambda value: str(value)[:30])
def test_a_schema_that_cannot_be_held_is_named_with_the_reason(schema: dict[str, Any], reason: str) -> None:
    with pytest.raises(EngineError) as caught:
        grammar_of(schema)
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, "invalid_request", "response_format")
    assert reason in caught.value.message
    assert "x-guidance" not in caught.value.message, "the grammar is no client's business"
    with pytest.raises(EngineError) as caught:
        GRAMMARS.compile(
            Wish(calls={"b": FieldSchema(schema, "tools.1.function.parameters")}), learn(template_of("hermes"))
        )
    assert caught.value.param == "tools.1.function.parameters"


def test_a_schemas_own_options_for_the_library_are_not_taken() -> None:
    grammar = grammar_of({"type": "object", "x-guidance": {"whitespace_pattern": r"\s+", "lenient": True}})
    assert not spelled(grammar.begin(), TOKENIZER, "{" + "\t" * 9 + "}")


@pytest.mark.parametrize("pattern", ["(a{1,1000}){1,1000}", "^(a|aa|aaa|b?){50}(.*a.*){20}$", ".*a.{200}"])
def test_patterns_that_take_others_long(scheduler: Scheduler, pattern: str) -> None:
    grammar = grammar_of({"type": "string", "pattern": pattern})
    [(text, _, tokens)] = answers(scheduler, row_of("the", 60, seed=1, grammar=grammar))
    assert tokens <= 60
    assert text.startswith('"')


def test_a_schema_that_turns_out_too_hard_fails_its_own_row_only(model: Model, scheduler: Scheduler) -> None:
    hard = row_of("the", temperature=0, grammar=grammar_of(optional(900)))
    good = row_of("dog", 12, temperature=0)
    scheduler.submit([hard.row, good.row])
    with pytest.raises(EngineError) as caught:
        hard.result()
    assert (caught.value.status, caught.value.param) == (400, "response_format")
    assert "Make the schema simpler" in caught.value.message
    good.result()
    assert good.row.tokens == alone(model, "dog", 12)
