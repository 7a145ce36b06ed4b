"""Engine process, used through the client of the API and the workers."""

from __future__ import annotations

import asyncio
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from inference.client import EngineClient, connect
from inference.engine import Engine
from inference.protocol.errors import EngineError, EngineUnavailable
from inference.protocol.generation import ChatCompletionRequest
from inference.protocol.model_ref import ModelRef
from inference.server import listen
from storage.settings import Settings
from tests.inference.conftest import COLORS, OPENING, QUESTION, TALES, Installation, connect_client, run_engine_process

pytestmark = [
    pytest.mark.integration,
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
]

BODY: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": QUESTION}],
    "temperature": 0,
    "max_tokens": 24,
}
ROUTES = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/predictions",
    "/internal/load",
    "/internal/export",
)
ENDLESS_BODY: dict[str, Any] = {**BODY, "max_tokens": 200, "logit_bias": {"50": 100}}
"""Generates the same byte until the context is full."""


@pytest.fixture
async def client(engine_process: Installation) -> AsyncIterator[EngineClient]:
    async with connect_client(engine_process.settings) as client:
        yield client


async def wait_until_idle(client: EngineClient) -> None:
    for _ in range(200):
        if (await client.ping())["running"] == 0:
            return
        await asyncio.sleep(0.005)
    raise AssertionError(await client.ping())


async def test_an_answer_has_openais_shape(client: EngineClient, engine_process: Installation) -> None:
    response = await client.chat(engine_process.refs["red"], {**BODY, "logprobs": True, "top_logprobs": 3})
    completion = ChatCompletion.model_validate(response, strict=True)
    assert completion.id.startswith("chatcmpl-")
    assert completion.model == engine_process.refs["red"].id
    assert completion.choices[0].message.content == COLORS["red"]
    assert {"logprobs", "message", "finish_reason", "index"} == set(response["choices"][0])
    assert response["choices"][0]["message"]["refusal"] is None
    assert completion.usage
    assert completion.usage.completion_tokens == len(COLORS["red"]) + 1
    plain = await client.chat(engine_process.refs["red"], BODY)
    assert plain["choices"][0]["logprobs"] is None


async def test_a_stream_has_openais_shape(client: EngineClient, engine_process: Installation) -> None:
    body = {**BODY, "stream_options": {"include_usage": True}}
    chunks = [
        ChatCompletionChunk.model_validate(chunk, strict=True)
        async for chunk in client.chat_stream(engine_process.refs["blue"], body)
    ]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == COLORS["blue"]
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage


async def test_tokens_are_streamed_as_they_come(client: EngineClient, engine_process: Installation) -> None:
    async with aclosing(client.chat_stream(engine_process.refs["base"], ENDLESS_BODY)) as chunks:
        await anext(chunks)
        assert (await client.ping())["running"] == 1, "the first chunk must arrive before generation ends"
    await wait_until_idle(client)


async def test_concurrent_requests_have_the_outputs_of_single_requests(
    client: EngineClient, engine_process: Installation
) -> None:
    names = ["base", "red", "blue", "green"] * 6
    alone = {name: await client.chat(engine_process.refs[name], BODY) for name in set(names)}
    together = await asyncio.gather(*(client.chat(engine_process.refs[name], BODY) for name in names))
    for name, response in zip(names, together, strict=True):
        assert response["choices"] == alone[name]["choices"]


async def test_fifty_clients_that_disconnect_free_their_sequences(
    client: EngineClient, engine_process: Installation
) -> None:
    async def close_stream(index: int) -> None:
        chunks = client.chat_stream(engine_process.refs["base"], ENDLESS_BODY)
        async with aclosing(chunks):
            if index % 2:
                await anext(chunks)

    async def time_out() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.chat(engine_process.refs["base"], ENDLESS_BODY)

    await client.load(engine_process.refs["base"])
    await asyncio.gather(*(close_stream(index) for index in range(25)), *(time_out() for _ in range(25)))
    await asyncio.wait_for(wait_until_idle(client), 1)
    assert (await client.ping())["waiting"] == 0


async def test_predictions(client: EngineClient, engine_process: Installation) -> None:
    body = {"model": "m", "inputs": ["apple pear plum", {"text": "tin lead"}], "top_k": 1}
    response = await client.predict(engine_process.refs["sorter"], body)
    assert response["object"] == "list"
    assert response["model"] == engine_process.refs["sorter"].id
    assert [list(entry) for entry in response["data"]] == [["index", "label", "scores"]] * 2
    assert [entry["label"] for entry in response["data"]] == ["fruit", "metal"]
    assert [len(entry["scores"]) for entry in response["data"]] == [1, 1]
    assert response["usage"]["prompt_tokens"] == response["usage"]["total_tokens"] > 0


async def test_completions_complete_and_streamed(client: EngineClient, engine_process: Installation) -> None:
    for name, tale in TALES.items():
        ref, body = engine_process.refs[name], {"model": "m", "prompt": OPENING, "temperature": 0}
        response = await client.complete(ref, body)
        assert Completion.model_validate(response, strict=True).choices[0].text == tale
        chunks = [chunk async for chunk in client.complete_stream(ref, body)]
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == tale
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_embeddings(client: EngineClient, embedding_model: ModelRef) -> None:
    response = await client.embed(embedding_model, {"model": "m", "input": ["a", "b"], "dimensions": 4})
    data = CreateEmbeddingResponse.model_validate(response, strict=True).data
    assert [len(entry.embedding) for entry in data] == [4, 4]
    assert response["model"] == embedding_model.id


async def test_load_and_export(client: EngineClient, engine_process: Installation) -> None:
    report = await client.load(engine_process.refs["sorter-lora"])
    assert set(report) == {"model", "seconds", "answer"}
    export = await client.export(engine_process.refs["sorter-lora"], "merged")
    assert set(export) == {"blob_key", "sha256", "bytes"}
    with pytest.raises(EngineError) as caught:
        await client.export(engine_process.refs["sorter"], "adapter")
    assert (caught.value.status, caught.value.param) == (400, "variant")


@pytest.mark.parametrize(
    ("patch", "param", "code"),
    [
        ({"temperature": 9}, "temperature", "invalid_request"),
        ({"store": True}, "store", "unsupported_parameter"),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            "tools",
            "unsupported_parameter",
        ),
        ({"mood": 1}, "mood", "unknown_parameter"),
        ({"messages": [{"role": "user", "content": "x" * 300}]}, "messages", "context_length_exceeded"),
    ],
)
async def test_an_invalid_body_is_refused_alike_complete_and_streamed(
    client: EngineClient, engine_process: Installation, patch: dict[str, Any], param: str, code: str
) -> None:
    ref = engine_process.refs["base"]
    with pytest.raises(EngineError) as non_streaming:
        await client.chat(ref, BODY | patch)
    with pytest.raises(EngineError) as streaming:
        await anext(client.chat_stream(ref, BODY | patch))
    for error in (non_streaming.value, streaming.value):
        assert (error.status, error.code, error.param) == (400, code, param)


async def test_an_unknown_base_is_not_found(client: EngineClient, engine_process: Installation) -> None:
    ref = engine_process.refs["base"].model_copy(update={"base": "unknown"})
    with pytest.raises(EngineError) as caught:
        await client.load(ref)
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")


@pytest.mark.parametrize("token", ["", "wrong", "a-token-of-the-tests-and-more"])
async def test_requests_without_the_token_are_rejected(engine_process: Installation, token: str) -> None:
    async with connect(engine_process.settings.inference_url, token) as client:
        assert (await client.ping())["status"] == "ok"
        with pytest.raises(EngineError) as caught:
            await client.chat(engine_process.refs["base"], BODY)
    assert caught.value.status == 401


async def test_a_body_that_is_no_call_is_refused(engine_process: Installation) -> None:
    path = engine_process.settings.inference_url.removeprefix("unix://")
    headers = {"authorization": f"Bearer {engine_process.settings.inference_token.get_secret_value()}"}
    transport = httpx.AsyncHTTPTransport(uds=path)
    async with httpx.AsyncClient(transport=transport, base_url="http://engine", headers=headers) as http:
        for content in (b"", b"{", b"[]", b'{"ref": {"id": "x", "path": "/etc"}}'):
            for route in ROUTES:
                response = await http.post(route, content=content)
                assert response.status_code == 400
                assert set(response.json()["error"]) == {"message", "type", "param", "code"}


async def test_the_socket_is_for_this_user_alone(engine_process: Installation) -> None:
    path = Path(engine_process.settings.inference_url.removeprefix("unix://"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_second_engine_leaves_the_first_its_socket(client: EngineClient, engine_process: Installation) -> None:
    with pytest.raises(SystemExit, match="already listens"):
        listen(engine_process.settings.inference_bind)
    assert (await client.ping())["status"] == "ok"


def test_the_socket_of_a_dead_engine_is_taken_over(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/engine.sock"
    listen(url).close()
    assert (tmp_path / "engine.sock").exists()
    listen(url).close()


@pytest.mark.parametrize("url", ["unix:///nowhere/engine.sock", "http://127.0.0.1:9"])
async def test_no_engine_is_unavailable(installation: Installation, url: str) -> None:
    async with connect(url) as client:
        for call in (
            client.ping(),
            client.chat(installation.refs["base"], BODY),
            anext(client.chat_stream(installation.refs["base"], BODY)),
        ):
            with pytest.raises(EngineUnavailable) as caught:
                await call
            assert (caught.value.status, caught.value.code) == (503, "engine_unavailable")
            assert caught.value.retry_after > 0


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_over_tcp_until_killed_in_the_middle_of_an_answer(installation: Installation) -> None:
    url = f"http://127.0.0.1:{find_free_port()}"
    settings: Settings = installation.settings.model_copy(update={"inference_url": url, "inference_bind": url})
    async with connect_client(settings) as client:
        engine = run_engine_process(settings)
        process = await asyncio.to_thread(engine.__enter__)
        try:
            response = await client.chat(installation.refs["red"], BODY)
            assert response["choices"][0]["message"]["content"] == COLORS["red"]
            chunks = client.chat_stream(installation.refs["base"], ENDLESS_BODY)
            await anext(chunks)
            process.kill()
            with pytest.raises(EngineUnavailable):
                _ = [chunk async for chunk in chunks]
            with pytest.raises(EngineUnavailable):
                await client.chat(installation.refs["base"], BODY)
        finally:
            await asyncio.to_thread(engine.__exit__, None, None, None)


async def test_closing_the_engine_leaves_no_request_hanging(installation: Installation) -> None:
    """Unfinished requests raise ``EngineUnavailable``."""
    engine = Engine(installation.settings)
    request = ChatCompletionRequest.model_validate(ENDLESS_BODY)
    tasks = [asyncio.create_task(engine.chat(installation.refs["base"], request)) for _ in range(20)]
    for _ in range(2000):
        if engine.get_stats()["running"]:
            break
        await asyncio.sleep(0.005)
    await engine.close()
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
    assert all(isinstance(result, dict | EngineUnavailable) for result in results)
    assert any(isinstance(result, EngineUnavailable) for result in results)
