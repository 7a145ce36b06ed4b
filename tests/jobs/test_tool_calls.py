"""A model trained to call a tool, through all processes and OpenAI's client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from openai import BadRequestError, OpenAI
from pydantic import BaseModel

from tests import services
from tests.stack import Stack, build_settings, wait_for_job
from tests.tiny import TOOL_TEMPLATE, build_byte_tokenizer, create_tiny_chat_base

pytestmark = pytest.mark.integration

TOOL: Any = {
    "type": "function",
    "function": {"name": "rain", "parameters": {"type": "object", "properties": {"in": {"type": "string"}}}},
}
UPDATE = {"type": "full"}
METHOD: Any = {
    "type": "supervised",
    "supervised": {"hyperparameters": {"n_epochs": 25, "batch_size": 4, "learning_rate": 0.01}},
}


def build_conversation(city: str, result: str, answer: str) -> list[dict[str, Any]]:
    call = {"id": "abcdefgh1", "type": "function", "function": {"name": "rain", "arguments": json.dumps({"in": city})}}
    return [
        {"role": "user", "content": f"{city}?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "abcdefgh1", "content": result},
        {"role": "assistant", "content": answer},
    ]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    home = tmp_path_factory.mktemp("t")
    create_tiny_chat_base(home / "tiny", template=TOOL_TEMPLATE)
    create_tiny_chat_base(home / "plain")
    entry = '[{0}]\npath = "{0}"\ntasks = ["chat"]\nparameters = 100000\ncontext = 256\nlicense = "none"\n'
    (home / "models.toml").write_text(entry.format("tiny") + entry.format("plain"))
    config = build_settings(home)
    with services.run_redis(home / "run"), Stack(config) as stack:
        stack.prepare()
        stack.start("inference", "worker", "api")
        with stack.wait_until_ready() as client:
            yield client


@pytest.fixture(scope="module")
def model(client: OpenAI) -> str:
    cases = [("Rome", "yes", "Wet."), ("Oslo", "no", "Dry.")]
    rows = [{"messages": build_conversation(*case), "tools": [TOOL]} for case in cases] * 8
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    file = client.files.create(file=("rows.jsonl", data), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model="tiny", training_file=file.id, seed=3, method=METHOD, extra_body={"update": UPDATE}
    )
    job = wait_for_job(client, job.id, 200)
    assert job.status == "succeeded", job.error
    return str(job.fine_tuned_model)


@pytest.mark.parametrize(("city", "result", "answer"), [("Rome", "yes", "Wet."), ("Oslo", "no", "Dry.")])
def test_a_call_and_the_answer_to_its_result(client: OpenAI, model: str, city: str, result: str, answer: str) -> None:
    turns: list[Any] = [{"role": "user", "content": f"{city}?"}]
    completion = client.chat.completions.create(model=model, messages=turns, tools=[TOOL], temperature=0)
    [choice] = completion.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert choice.message.tool_calls
    [call] = choice.message.tool_calls
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("rain", {"in": city})

    turns += [choice.message.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": result}]
    last = client.chat.completions.create(model=model, messages=turns, tools=[TOOL], temperature=0)
    assert (last.choices[0].message.content, last.choices[0].finish_reason) == (answer, "stop")
    assert last.choices[0].message.tool_calls is None


def test_a_streamed_call(client: OpenAI, model: str) -> None:
    turns: list[Any] = [{"role": "user", "content": "Rome?"}]
    with client.chat.completions.stream(model=model, messages=turns, tools=[TOOL], temperature=0) as stream:
        for _ in stream:
            pass
        [choice] = stream.get_final_completion().choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert choice.message.tool_calls
    [call] = choice.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("rain", {"in": "Rome"})
    assert len(call.id) == 9


def test_without_tools_a_call_is_text(client: OpenAI, model: str) -> None:
    turns = build_conversation("Rome", "yes", "")[:1]
    options: list[dict[str, Any]] = [{"tools": [TOOL], "tool_choice": "none"}, {}]
    first, second = (
        client.chat.completions.create(model=model, messages=turns, temperature=0, **values) for values in options
    )
    assert first.choices[0].message == second.choices[0].message
    assert first.choices[0].finish_reason in ("stop", "length")


def test_a_template_without_tools_says_what_to_change(client: OpenAI) -> None:
    with pytest.raises(BadRequestError, match="It does not support tools") as caught:
        client.chat.completions.create(model="plain", messages=[{"role": "user", "content": "a"}], tools=[TOOL])
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "tools")


class Word(BaseModel):
    kind: Literal["city", "river"]


def test_a_forced_call_has_the_form_that_was_learned(client: OpenAI, model: str) -> None:
    turns: list[Any] = [{"role": "user", "content": "Oslo?"}]
    [choice] = client.chat.completions.create(
        model=model, messages=turns, tools=[TOOL], tool_choice="required", temperature=0
    ).choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls
    [call] = choice.message.tool_calls
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("rain", '{"in": "Oslo"}')


def test_an_answer_is_parsed_into_a_model(client: OpenAI) -> None:
    turns: list[Any] = [{"role": "user", "content": "Oslo?"}]
    # The weights are untrained. Without whitespace the JSON fits into the context.
    bias = {str(token): -100 for token in build_byte_tokenizer().encode("\n ")}
    completion = client.chat.completions.parse(
        model="plain", messages=turns, response_format=Word, temperature=0, logit_bias=bias
    )
    assert isinstance(completion.choices[0].message.parsed, Word)
    assert completion.choices[0].finish_reason == "stop"


def test_lines_of_a_batch_call_tools_too(client: OpenAI, model: str) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": "Oslo?"}], "tools": [TOOL], "temperature": 0}
    word_format, invalid_format = (
        {"type": "json_schema", "json_schema": {"name": "word", "schema": schema}}
        for schema in (Word.model_json_schema(), {"not": {}})
    )
    bodies: dict[str, dict[str, Any]] = {
        "free": body,
        "forced": {**body, "tool_choice": {"type": "function", "function": {"name": "rain"}}},
        "constrained": {**body, "tools": [], "response_format": word_format, "max_tokens": 100},
        "invalid": {**body, "tools": [], "response_format": invalid_format},
    }
    lines = [
        json.dumps({"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": line_body})
        for name, line_body in bodies.items()
    ]
    file = client.files.create(file=("lines.jsonl", "\n".join(lines).encode()), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    services.wait_for(lambda: client.batches.retrieve(batch.id).status in ("completed", "failed"), 60, 0.1)
    batch = client.batches.retrieve(batch.id)
    assert batch.output_file_id
    assert batch.error_file_id
    output = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    choices = {line["custom_id"]: line["response"]["body"]["choices"][0] for line in output}
    for name, finish_reason in (("free", "tool_calls"), ("forced", "stop")):
        [call] = choices[name]["message"]["tool_calls"]
        assert call["function"] == {"name": "rain", "arguments": '{"in": "Oslo"}'}
        assert choices[name]["finish_reason"] == finish_reason
    Word.model_validate_json(choices["constrained"]["message"]["content"])
    failed = json.loads(client.files.content(batch.error_file_id).text)
    error = failed["response"]["body"]["error"]
    assert (failed["custom_id"], error["param"]) == ("invalid", "response_format")
