"""Chat and predictions through the official client: whole, streamed, refused, broken off, abandoned."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest

from api.app import create_app
from api.streaming import Chunks
from api.wire.inference import ChatCompletion, Predictions
from inference.errors import EngineError
from tests.api.stack import Stack, port_of, serving
from tests.api.test_errors import error_of

CHAT, PREDICT = "/v1/chat/completions", "/v1/predictions"


def ask(stack: Stack, words: str, model: str = "starter", **rest: Any) -> Any:
    return stack.client().chat.completions.create(model=model, messages=[{"role": "user", "content": words}], **rest)


def test_a_base_answers(stack: Stack) -> None:
    answer = ask(stack, "Hi", temperature=0, max_tokens=5)
    assert answer.choices[0].message.content == "You said Hi."
    asked = stack.engine.asked[-1]
    assert asked["ref"] == {
        "id": "starter",
        "base": "starter",
        "task": "chat",
        "update": "none",
        "prefix": None,
        "part": "",
        "manifest_sha256": None,
    }
    assert (asked["body"]["temperature"], asked["body"]["max_tokens"]) == (0, 5)
    assert "top_p" not in asked["body"], "what was not sent is not passed on"
    ChatCompletion.model_validate(answer.model_dump())


def test_an_alias_answers_as_its_base(stack: Stack) -> None:
    assert ask(stack, "Hi", "gpt-4o-mini-2024-07-18").model == "starter"


def test_a_tuned_model_answers(stack: Stack) -> None:
    model = stack.model()
    assert ask(stack, "Hi", model.id).model == model.id
    ref = stack.engine.asked[-1]["ref"]
    assert (ref["base"], ref["update"], ref["prefix"], ref["part"]) == ("starter", "lora", model.prefix, "")
    assert ref["manifest_sha256"] == model.manifest_sha256


def test_a_checkpoint_answers(stack: Stack) -> None:
    job = stack.job(state="running")
    checkpoint = stack.checkpoint(job, 8)
    name = f"ft:starter:luthier::{job.id[-8:]}:ckpt-step-8"
    assert ask(stack, "Hi", name).model == name
    ref = stack.engine.asked[-1]["ref"]
    assert (ref["prefix"], ref["part"]) == (checkpoint.prefix, "model/")


def test_predictions(stack: Stack) -> None:
    model = stack.model(base_model="encoder", task="text-classification")
    body = {"model": model.id, "inputs": ["a", {"text": "b", "text_pair": "c"}], "top_k": 3}
    with stack.http() as http:
        answer = http.post(PREDICT, json=body).json()
    assert [each["index"] for each in Predictions.model_validate(answer).model_dump()["data"]] == [0, 1]
    assert stack.engine.asked[-1]["body"] == body


@pytest.mark.parametrize("path", [CHAT, PREDICT])
@pytest.mark.parametrize("name", ["gpt-17", "ft:starter:luthier::abcdefgh", "../x", "theirs"])
def test_unknown_models(stack: Stack, path: str, name: str) -> None:
    if name == "theirs":
        name = stack.as_theirs().model().id
    body = {"model": name, "messages": [{"role": "user", "content": "Hi"}], "inputs": ["Hi"]}
    del body["inputs" if path == CHAT else "messages"]
    with stack.http() as http:
        answer = http.post(path, json=body)
        assert error_of(answer, 404)["code"] == "model_not_found"
        assert answer.content == http.post(path, json={**body, "model": "none"}).content


def test_a_base_that_is_absent(stack: Stack) -> None:
    with pytest.raises(openai.BadRequestError, match="luthierd models pull absent") as caught:
        ask(stack, "Hi", "absent")
    assert (caught.value.code, caught.value.param) == ("base_model_unavailable", "model")


def test_a_model_for_another_task_names_the_right_route(stack: Stack) -> None:
    classifier = stack.model(base_model="encoder", task="text-classification").id
    for name in (classifier, "encoder"):
        with pytest.raises(openai.BadRequestError, match="POST /v1/predictions") as caught:
            ask(stack, "Hi", name)
        assert (caught.value.code, caught.value.param) == ("unsuitable_model", "model")
    with stack.http() as http:
        for name in ("starter", stack.model().id):
            error = error_of(http.post(PREDICT, json={"model": name, "inputs": ["Hi"]}), 400)
            assert "POST /v1/chat/completions" in error["message"]


def test_stream(stack: Stack) -> None:
    chunks = list(ask(stack, "Hi", stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "You said Hi"
    assert [chunk.choices[0].delta.role for chunk in chunks] == ["assistant", *[None] * (len(chunks) - 1)]
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [*[None] * (len(chunks) - 1), "stop"]


def test_stream_on_the_wire(stack: Stack) -> None:
    body = {"model": "starter", "stream": True, "messages": [{"role": "user", "content": "ü😀"}]}
    with stack.http() as http:
        answer = http.post(CHAT, json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-request-id"]
    events = answer.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(event.startswith("data: {") for event in events[:-2])
    assert "ü😀" in answer.text


def test_tokens_arrive_when_they_are_made(stack: Stack) -> None:
    times = [time.perf_counter() for _ in ask(stack, "Hi", stream=True)]
    assert times[-1] - times[0] > 2 * stack.engine.pause


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        ("too long", 400, "context_length_exceeded"),
        ("busy", 503, "engine_overloaded"),
        ("broken", 500, "internal_error"),
        ("stranger", 500, "internal_error"),
    ],
)
def test_errors_of_the_engine_keep_their_status(stack: Stack, words: str, status: int, code: str, stream: bool) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        ask(stack, words, stream=stream)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert ("retry-after" in caught.value.response.headers) == (status == 503)
    assert "token" not in caught.value.message


@pytest.mark.parametrize("words", ["fail", "vanish"])
def test_an_error_in_the_middle_is_an_event(stack: Stack, words: str) -> None:
    stream = ask(stack, words, stream=True)
    assert [next(stream).choices[0].delta.content for _ in range(2)] == ["", "You "]
    with pytest.raises(openai.APIError) as caught:
        list(stream)
    assert caught.value.code in ("internal_error", "engine_unavailable")
    body = {"model": "starter", "stream": True, "messages": [{"role": "user", "content": words}]}
    with stack.http() as http:
        events = http.post(CHAT, json=body).text.split("\n\n")
    assert events[-2].startswith('data: {"error":')
    assert "data: [DONE]" not in events


def _wait_for_cancel(stack: Stack, before: int) -> None:
    began = time.perf_counter()
    while stack.engine.cancelled == before:
        assert time.perf_counter() - began < 2, "the engine still works for a client that left"
        time.sleep(0.01)


def test_leaving_a_stream_stops_the_engine(stack: Stack) -> None:
    before = stack.engine.cancelled
    stream = ask(stack, "endless", stream=True)
    next(iter(stream))
    stream.close()
    _wait_for_cancel(stack, before)


def test_leaving_before_the_answer_stops_the_engine(stack: Stack) -> None:
    before = stack.engine.cancelled
    with pytest.raises(openai.APITimeoutError):
        ask(stack, "hang", timeout=0.3)
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
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"temprature": 1}, "temprature"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_chat_requests(stack: Stack, change: dict[str, Any], param: str) -> None:
    body = {"model": "starter", "messages": [{"role": "user", "content": "Hi"}], **change}
    asked = len(stack.engine.asked)
    with stack.http() as http:
        assert error_of(http.post(CHAT, json=body), 400)["param"] == param
    assert len(stack.engine.asked) == asked


async def _slow(pauses: list[float], fail: bool = False) -> AsyncIterator[dict[str, Any]]:
    for pause in pauses:
        await asyncio.sleep(pause)
        yield {"n": pause}
    if fail:
        raise EngineError("internal_error", "no more")


@pytest.mark.anyio
async def test_silence_is_filled_with_comments() -> None:
    chunks = Chunks(_slow([0.25, 0.0, 0.25]), ping_seconds=0.1)
    events = [event async for event in chunks.events(await chunks.first())]
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
    chunks = Chunks(_slow([], fail=True), ping_seconds=5)
    with pytest.raises(EngineError):
        await chunks.first()
    chunks = Chunks(_slow([0.15], fail=True), ping_seconds=0.1)
    events = [event async for event in chunks.events(await chunks.first())]
    assert '"error"' in events[-1]


@pytest.mark.anyio
async def test_a_reader_that_stops_reading_holds_the_engine_back() -> None:
    made = 0

    async def eager() -> AsyncIterator[dict[str, Any]]:
        nonlocal made
        while True:
            made += 1
            yield {}

    chunks = Chunks(eager())
    await chunks.first()
    await asyncio.sleep(0.05)
    assert made < 50
    await chunks.close()


def test_no_engine_is_a_503(stack: Stack) -> None:
    with tempfile.TemporaryDirectory(prefix="luthier-") as nowhere:
        settings = stack.settings.model_copy(update={"inference_url": f"unix://{nowhere}/none.sock"})
        with serving(create_app(settings), host="127.0.0.1", port=0) as server:
            answer = httpx.post(
                f"http://127.0.0.1:{port_of(server)}{CHAT}",
                json={"model": "starter", "messages": [{"role": "user", "content": "Hi"}]},
                headers={"x-api-key": stack.ours.key},
            )
    error = error_of(answer, 503)
    assert (error["type"], error["code"]) == ("server_error", "engine_unavailable")
    assert int(answer.headers["retry-after"]) > 0
