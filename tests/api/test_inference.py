"""Inference through the official client: complete, streamed, rejected, interrupted, abandoned."""

from __future__ import annotations

import asyncio
import re
import struct
import tempfile
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest

from api.app import create_app
from api.http.streaming import ChunkReader
from api.schemas.inference import ChatCompletion, Embeddings, Predictions, TextCompletion
from inference.protocol.errors import EngineError
from tests.api.stack import Stack, get_port, run_server
from tests.api.test_errors import assert_error
from training.tasks import TASKS

pytestmark = pytest.mark.integration

CHAT_PATH, COMPLETIONS_PATH, EMBEDDINGS_PATH, PREDICTIONS_PATH = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/predictions",
)
BODIES: dict[str, dict[str, Any]] = {
    CHAT_PATH: {"messages": [{"role": "user", "content": "Hi"}]},
    COMPLETIONS_PATH: {"prompt": "Hi"},
    EMBEDDINGS_PATH: {"input": "Hi"},
    PREDICTIONS_PATH: {"inputs": ["Hi"]},
}


def create_chat_completion(stack: Stack, content: str, model: str = "starter", **options: Any) -> Any:
    return stack.get_client().chat.completions.create(
        model=model, messages=[{"role": "user", "content": content}], **options
    )


def test_a_base_answers(stack: Stack) -> None:
    completion = create_chat_completion(stack, "Hi", temperature=0, max_tokens=5)
    assert completion.choices[0].message.content == "You said Hi."
    envelope = stack.engine.requests[-1]
    assert envelope["ref"] == {
        "id": "starter",
        "base": "starter",
        "task": "chat",
        "update": "none",
        "prefix": None,
        "part": "",
        "manifest_sha256": None,
    }
    assert (envelope["body"]["temperature"], envelope["body"]["max_tokens"]) == (0, 5)
    assert "top_p" not in envelope["body"], "fields that were not sent are not forwarded"
    ChatCompletion.model_validate(completion.model_dump())


def test_an_alias_answers_as_its_base(stack: Stack) -> None:
    assert create_chat_completion(stack, "Hi", "gpt-4o-mini-2024-07-18").model == "starter"


def test_a_tuned_model_answers(stack: Stack) -> None:
    model = stack.insert_model()
    assert create_chat_completion(stack, "Hi", model.id).model == model.id
    ref = stack.engine.requests[-1]["ref"]
    assert (ref["base"], ref["update"], ref["prefix"], ref["part"]) == ("starter", "lora", model.prefix, "")
    assert ref["manifest_sha256"] == model.manifest_sha256


def test_a_checkpoint_answers(stack: Stack) -> None:
    job = stack.insert_job(state="running")
    checkpoint = stack.insert_checkpoint(job, 8)
    name = f"ft:starter:luthier::{job.id[-8:]}:ckpt-step-8"
    assert create_chat_completion(stack, "Hi", name).model == name
    ref = stack.engine.requests[-1]["ref"]
    assert (ref["prefix"], ref["part"]) == (checkpoint.prefix, "model/")


def test_predictions(stack: Stack) -> None:
    model = stack.insert_model(base_model="encoder", task="text-classification")
    body = {"model": model.id, "inputs": ["a", {"text": "b", "text_pair": "c"}], "top_k": 3}
    with stack.open_http() as http:
        response = http.post(PREDICTIONS_PATH, json=body).json()
    assert [prediction["index"] for prediction in Predictions.model_validate(response).model_dump()["data"]] == [0, 1]
    assert stack.engine.requests[-1]["body"] == body


def test_completions(stack: Stack) -> None:
    completion = stack.get_client().completions.create(
        model="starter", prompt=["Once", "Then"], max_tokens=5, logprobs=2
    )
    assert completion.choices[0].text == "and so on"
    envelope = stack.engine.requests[-1]
    assert (envelope["ref"]["id"], envelope["ref"]["task"]) == ("starter", "completion")
    assert envelope["body"]["prompt"] == ["Once", "Then"]
    assert "temperature" not in envelope["body"], "fields that were not sent are not forwarded"
    TextCompletion.model_validate(completion.model_dump())


def create_lenient_client(stack: Stack) -> openai.OpenAI:
    """Return a client with default validation, as users have it.

    OpenAI's strict types accept neither base64 vectors nor a null finish reason.
    """
    return openai.OpenAI(base_url=f"{stack.url}/v1", api_key=stack.tenant.key, max_retries=0)


def test_a_tuned_completion_model_streams(stack: Stack) -> None:
    model = stack.insert_model(task="completion")
    with create_lenient_client(stack) as client:
        chunks = list(client.completions.create(model=model.id, prompt=[1, 2], stream=True))
    assert [(chunk.choices[0].text, chunk.choices[0].finish_reason) for chunk in chunks] == [
        ("and", None),
        (" so on", "stop"),
    ]
    assert {chunk.model for chunk in chunks} == {model.id}
    with stack.open_http() as http:
        events = http.post(COMPLETIONS_PATH, json={"model": model.id, "prompt": "x", "stream": True}).text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]


def test_embeddings(stack: Stack) -> None:
    """The client requests base64 and decodes it unless ``encoding_format`` is set."""
    [single] = struct.unpack("<f", struct.pack("<f", 1 / 3))
    options: list[dict[str, Any]] = [{}, {"encoding_format": "float"}]
    with create_lenient_client(stack) as client:
        for option, encoding in zip(options, ("base64", "float"), strict=True):
            response = client.embeddings.create(model="encoder", input=["a", "b"], **option)
            assert [row.embedding for row in response.data] == [[single, -1.5]] * 2
            assert stack.engine.requests[-1]["body"]["encoding_format"] == encoding
            Embeddings.model_validate(response.model_dump())
    assert stack.engine.requests[-1]["ref"]["task"] == "embedding"
    tuned = stack.insert_model(base_model="encoder", task="embedding")
    response = stack.get_client().embeddings.create(
        model=tuned.id, input=[[1, 2]], dimensions=2, encoding_format="float"
    )
    assert response.model == tuned.id
    assert stack.engine.requests[-1]["body"]["dimensions"] == 2


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("name", ["gpt-17", "ft:starter:luthier::abcdefgh", "../x", "theirs"])
def test_unknown_models(stack: Stack, path: str, name: str) -> None:
    if name == "theirs":
        name = stack.as_other_tenant().insert_model().id
    body = {"model": name, **BODIES[path]}
    with stack.open_http() as http:
        response = http.post(path, json=body)
        assert assert_error(response, 404)["code"] == "model_not_found"
        assert response.content == http.post(path, json={**body, "model": "none"}).content


def test_a_base_that_is_absent(stack: Stack) -> None:
    with pytest.raises(openai.BadRequestError, match="luthierd models pull absent") as caught:
        create_chat_completion(stack, "Hi", "absent")
    assert (caught.value.code, caught.value.param) == ("base_model_unavailable", "model")


ROUTE_BY_TASK = {
    "chat": CHAT_PATH,
    "completion": COMPLETIONS_PATH,
    "embedding": EMBEDDINGS_PATH,
    "text-classification": PREDICTIONS_PATH,
}


@pytest.mark.parametrize("task", ROUTE_BY_TASK)
def test_a_model_for_another_task_names_the_right_route(stack: Stack, task: str) -> None:
    model, requests_before = stack.insert_model(task=task), len(stack.engine.requests)
    with stack.open_http() as http:
        for path in BODIES.keys() - {ROUTE_BY_TASK[task]}:
            error = assert_error(http.post(path, json={"model": model.id, **BODIES[path]}), 400)
            assert (error["code"], error["param"]) == ("unsuitable_model", "model")
            assert f"send requests to POST {ROUTE_BY_TASK[task]}." in error["message"]
        assert len(stack.engine.requests) == requests_before
        assert (
            http.post(ROUTE_BY_TASK[task], json={"model": model.id, **BODIES[ROUTE_BY_TASK[task]]}).status_code == 200
        )


def test_a_base_names_all_its_routes(stack: Stack) -> None:
    with stack.open_http() as http:
        starter = assert_error(http.post(PREDICTIONS_PATH, json={"model": "starter", "inputs": ["Hi"]}), 400)
        encoder = assert_error(http.post(COMPLETIONS_PATH, json={"model": "encoder", "prompt": "Hi"}), 400)
    assert "send requests to POST /v1/chat/completions or POST /v1/completions." in starter["message"]
    assert "send requests to POST /v1/embeddings or POST /v1/predictions." in encoder["message"]


def test_stream(stack: Stack) -> None:
    chunks = list(create_chat_completion(stack, "Hi", stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "You said Hi"
    assert [chunk.choices[0].delta.role for chunk in chunks] == ["assistant", *[None] * (len(chunks) - 1)]
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [*[None] * (len(chunks) - 1), "stop"]


def test_stream_on_the_wire(stack: Stack) -> None:
    body = {"model": "starter", "stream": True, "messages": [{"role": "user", "content": "ü😀"}]}
    with stack.open_http() as http:
        response = http.post(CHAT_PATH, json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-request-id"]
    events = response.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(event.startswith("data: {") for event in events[:-2])
    assert "ü😀" in response.text


def test_tokens_arrive_when_they_are_generated(stack: Stack) -> None:
    times = [time.perf_counter() for _ in create_chat_completion(stack, "Hi", stream=True)]
    assert times[-1] - times[0] > 2 * stack.engine.chunk_delay


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        ("too long", 400, "context_length_exceeded"),
        ("busy", 503, "engine_overloaded"),
        ("broken", 500, "internal_error"),
        ("stranger", 500, "internal_error"),
    ],
)
def test_errors_of_the_engine_keep_their_status(
    stack: Stack, content: str, status: int, code: str, stream: bool
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        create_chat_completion(stack, content, stream=stream)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert ("retry-after" in caught.value.response.headers) == (status == 503)
    assert "token" not in caught.value.message


@pytest.mark.parametrize("content", ["fail", "vanish"])
def test_an_error_in_the_middle_is_an_event(stack: Stack, content: str) -> None:
    stream = create_chat_completion(stack, content, stream=True)
    assert [next(stream).choices[0].delta.content for _ in range(2)] == ["", "You "]
    with pytest.raises(openai.APIError) as caught:
        list(stream)
    assert caught.value.code in ("internal_error", "engine_unavailable")
    body = {"model": "starter", "stream": True, "messages": [{"role": "user", "content": content}]}
    with stack.open_http() as http:
        events = http.post(CHAT_PATH, json=body).text.split("\n\n")
    assert events[-2].startswith('data: {"error":')
    assert "data: [DONE]" not in events


def _wait_for_cancel(stack: Stack, before: int) -> None:
    start = time.perf_counter()
    while stack.engine.cancelled_count == before:
        assert time.perf_counter() - start < 2, "the engine still generates for a disconnected client"
        time.sleep(0.01)


def test_closing_a_stream_stops_the_engine(stack: Stack) -> None:
    before = stack.engine.cancelled_count
    stream = create_chat_completion(stack, "endless", stream=True)
    next(iter(stream))
    stream.close()
    _wait_for_cancel(stack, before)


def test_disconnecting_before_the_response_stops_the_engine(stack: Stack) -> None:
    before = stack.engine.cancelled_count
    with pytest.raises(openai.APITimeoutError):
        create_chat_completion(stack, "hang", timeout=0.3)
    _wait_for_cancel(stack, before)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role"),
        ({"temperature": -1}, "temperature"),
        ({"max_tokens": 10**9}, "max_tokens"),
        ({"seed": 2**63 - 1, "n": 129}, "n"),
        ({"stop": ["x"] * 10_000}, "stop"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"response_format": {"type": "json"}}, "response_format"),
        ({"temprature": 1}, "temprature"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_invalid_chat_requests(stack: Stack, change: dict[str, Any], param: str) -> None:
    body = {"model": "starter", "messages": [{"role": "user", "content": "Hi"}], **change}
    requests_before = len(stack.engine.requests)
    with stack.open_http() as http:
        assert assert_error(http.post(CHAT_PATH, json=body), 400)["param"] == param
    assert len(stack.engine.requests) == requests_before


@pytest.mark.parametrize(
    ("path", "change", "param", "code"),
    [
        (COMPLETIONS_PATH, {"prompt": []}, "prompt", "invalid_value"),
        (COMPLETIONS_PATH, {"prompt": [1, "a"]}, "prompt.1", "invalid_value"),
        (COMPLETIONS_PATH, {"suffix": "end"}, "suffix", "unsupported_parameter"),
        (COMPLETIONS_PATH, {"n": 1, "best_of": 3}, "best_of", "unsupported_parameter"),
        (COMPLETIONS_PATH, {"logprobs": 6}, "logprobs", "invalid_value"),
        (COMPLETIONS_PATH, {"messages": []}, "messages", "unknown_parameter"),
        (EMBEDDINGS_PATH, {"input": [""]}, "input.0", "invalid_value"),
        (EMBEDDINGS_PATH, {"encoding_format": "hex"}, "encoding_format", "invalid_value"),
        (EMBEDDINGS_PATH, {"dimension": 3}, "dimension", "unknown_parameter"),
        (PREDICTIONS_PATH, {"inputs": ["a", {}]}, "inputs.1", "invalid_value"),
        (PREDICTIONS_PATH, {"input": ["a"]}, "input", "unknown_parameter"),
    ],
)
def test_invalid_requests_of_other_routes(
    stack: Stack, path: str, change: dict[str, Any], param: str, code: str
) -> None:
    requests_before = len(stack.engine.requests)
    with stack.open_http() as http:
        error = assert_error(http.post(path, json={"model": "starter", **BODIES[path], **change}), 400)
    assert (error["param"], error["code"]) == (param, code)
    assert len(stack.engine.requests) == requests_before


def test_responses_are_documented_by_task(stack: Stack) -> None:
    schemas = httpx.get(f"{stack.url}/openapi.json").json()["components"]["schemas"]
    references = schemas["Predictions"]["properties"]["data"]["items"]["anyOf"]
    descriptions = " ".join(schemas[reference["$ref"].rpartition("/")[2]]["description"] for reference in references)
    tasks = re.findall(r"`([a-z0-9-]+)`", descriptions)
    assert "text-classification" in tasks
    assert all(TASKS[name].route == "predictions" for name in tasks if name in TASKS)


async def _yield_slowly(delays: list[float], fail: bool = False) -> AsyncIterator[dict[str, Any]]:
    for delay in delays:
        await asyncio.sleep(delay)
        yield {"n": delay}
    if fail:
        raise EngineError("internal_error", "no more")


@pytest.mark.anyio
async def test_silence_is_filled_with_comments() -> None:
    chunks = ChunkReader(_yield_slowly([0.25, 0.0, 0.25]), ping_seconds=0.1)
    events = [event async for event in chunks.iter_events(await chunks.read_first())]
    await chunks.close()
    ping = ": ping\n\n"
    assert events[0] == ping
    assert [event for event in events if event != ping] == [
        'data: {"n":0.25}\n\n',
        'data: {"n":0.0}\n\n',
        'data: {"n":0.25}\n\n',
        "data: [DONE]\n\n",
    ]
    assert 3 <= events.count(ping) <= 6


@pytest.mark.anyio
async def test_an_error_after_a_silent_start_is_an_event() -> None:
    chunks = ChunkReader(_yield_slowly([], fail=True), ping_seconds=5)
    with pytest.raises(EngineError):
        await chunks.read_first()
    chunks = ChunkReader(_yield_slowly([0.15], fail=True), ping_seconds=0.1)
    events = [event async for event in chunks.iter_events(await chunks.read_first())]
    assert '"error"' in events[-1]


@pytest.mark.anyio
async def test_a_reader_that_stops_reading_holds_the_engine_back() -> None:
    produced = 0

    async def yield_eagerly() -> AsyncIterator[dict[str, Any]]:
        nonlocal produced
        while True:
            produced += 1
            yield {}

    chunks = ChunkReader(yield_eagerly())
    await chunks.read_first()
    await asyncio.sleep(0.05)
    assert produced < 50
    await chunks.close()


def test_no_engine_is_a_503(stack: Stack) -> None:
    with tempfile.TemporaryDirectory(prefix="luthier-") as nowhere:
        settings = stack.settings.model_copy(update={"inference_url": f"unix://{nowhere}/none.sock"})
        with run_server(create_app(settings), host="127.0.0.1", port=0) as server:
            response = httpx.post(
                f"http://127.0.0.1:{get_port(server)}{CHAT_PATH}",
                json={"model": "starter", "messages": [{"role": "user", "content": "Hi"}]},
                headers={"x-api-key": stack.tenant.key},
            )
    error = assert_error(response, 503)
    assert (error["type"], error["code"]) == ("server_error", "engine_unavailable")
    assert int(response.headers["retry-after"]) > 0
