"""Completions of a base model and of adapters, in batches shared with chats."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch
from openai.types import Completion
from transformers import AutoModelForCausalLM, AutoTokenizer

from inference.engine import Engine
from inference.generation import llm_engine
from inference.protocol.errors import EngineError
from inference.protocol.generation import ChatCompletionRequest, CompletionRequest
from inference.protocol.model_ref import ModelRef
from tests.inference.conftest import OPENING, QUESTION, TALES, Installation
from tests.tiny import CONTEXT_LENGTH

pytestmark = [
    pytest.mark.integration,
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Adapter .* was active which is now deleted:UserWarning"),
]

BASE = ModelRef.from_base("tiny-chat", "completion")
PROMPT = "A tale of the 🎺 sea"


def build_request(prompt: Any = OPENING, **fields: Any) -> CompletionRequest:
    return CompletionRequest.model_validate({"model": "m", "prompt": prompt, "temperature": 0, **fields})


def get_texts(completion: dict[str, Any]) -> list[str]:
    return [choice["text"] for choice in completion["choices"]]


@pytest.fixture(scope="module")
def tokenizer(installation: Installation) -> Any:
    return AutoTokenizer.from_pretrained(installation.settings.home / "tiny-chat", local_files_only=True)


@pytest.fixture(scope="module")
def model(installation: Installation) -> Any:
    return AutoModelForCausalLM.from_pretrained(installation.settings.home / "tiny-chat", local_files_only=True).eval()


async def test_a_base_generates_the_output_of_transformers(engine: Engine, tokenizer: Any, model: Any) -> None:
    ids = tokenizer.encode(PROMPT)
    with torch.inference_mode():
        generated = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=16)[0, len(ids) :]
    completion = await engine.complete(BASE, build_request(PROMPT))
    Completion.model_validate(completion, strict=True)
    assert get_texts(completion) == [tokenizer.decode(generated, skip_special_tokens=True)]
    assert completion["usage"]["prompt_tokens"] == len(ids)
    assert completion["usage"]["completion_tokens"] <= 16, "OpenAI's default"
    assert completion["choices"][0]["logprobs"] is None


@pytest.mark.parametrize("name", TALES)
async def test_a_result_generates_its_training_output(engine: Engine, installation: Installation, name: str) -> None:
    completion = await engine.complete(installation.refs[name], build_request())
    assert get_texts(completion) == [TALES[name]]
    assert completion["model"] == installation.refs[name].id
    assert completion["choices"][0]["finish_reason"] == "stop"


async def test_concurrent_chats_and_completions_equal_single_ones(engine: Engine, installation: Installation) -> None:
    names = [*TALES, "base", "red", "blue"] * 3
    chat = ChatCompletionRequest.model_validate(
        {"model": "m", "messages": [{"role": "user", "content": QUESTION}], "temperature": 0, "max_tokens": 12}
    )

    async def get_choices(name: str) -> Any:
        ref = installation.refs[name]
        response = await (engine.complete(ref, build_request()) if name in TALES else engine.chat(ref, chat))
        return response["choices"]

    alone = {name: await get_choices(name) for name in dict.fromkeys(names)}
    assert await asyncio.gather(*(get_choices(name) for name in names)) == [alone[name] for name in names]


async def test_token_ids_equal_their_text(engine: Engine, tokenizer: Any) -> None:
    ids = tokenizer.encode(PROMPT)
    text, tokens = [await engine.complete(BASE, build_request(prompt, echo=True)) for prompt in (PROMPT, ids)]
    assert text["choices"] == tokens["choices"]
    assert text["usage"] == tokens["usage"]


async def test_several_prompts_equal_single_prompts(engine: Engine) -> None:
    prompts = ["A", PROMPT, "The sea " * 5]
    options: dict[str, Any] = {"n": 2, "temperature": 1.5, "seed": 3, "max_tokens": 6}
    together = await engine.complete(BASE, build_request(prompts, **options))
    alone = [await engine.complete(BASE, build_request(prompt, **options)) for prompt in prompts]
    assert [choice["index"] for choice in together["choices"]] == list(range(6))
    assert get_texts(together) == [text for completion in alone for text in get_texts(completion)]
    assert len(set(get_texts(together))) == 6
    for field in ("prompt_tokens", "completion_tokens"):
        assert together["usage"][field] == sum(completion["usage"][field] for completion in alone)


@pytest.mark.parametrize("chunk_size", [5, 1000])
async def test_logprobs_of_a_prompt_are_the_models(
    engine: Engine, tokenizer: Any, model: Any, monkeypatch: pytest.MonkeyPatch, chunk_size: int
) -> None:
    """``max_tokens`` 0 with ``echo`` returns the logprobs of the prompt only."""
    monkeypatch.setattr(llm_engine, "PROMPT_CHUNK", chunk_size)
    ids = tokenizer.encode(PROMPT)
    with torch.inference_mode():
        expected = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    completion = await engine.complete(BASE, build_request(PROMPT, echo=True, logprobs=3, max_tokens=0))
    [choice] = completion["choices"]
    assert (choice["text"], choice["finish_reason"]) == (PROMPT, "length")
    assert completion["usage"]["completion_tokens"] == 0
    logprobs = choice["logprobs"]
    assert [len(values) for values in logprobs.values()] == [len(ids)] * 4
    assert (logprobs["token_logprobs"][0], logprobs["top_logprobs"][0]) == (None, None)
    for index in range(1, len(ids)):
        expected_V = expected[index - 1]
        assert logprobs["token_logprobs"][index] == pytest.approx(expected_V[ids[index]].item(), abs=1e-4)
        assert max(logprobs["top_logprobs"][index].values()) == pytest.approx(expected_V.max().item(), abs=1e-4)
        assert 3 <= len(logprobs["top_logprobs"][index]) <= 4


async def test_logprobs_of_a_prompt_use_the_adapter(engine: Engine, installation: Installation) -> None:
    """They equal the logprobs of the same tokens when the adapter generates them."""
    request = build_request(OPENING + TALES["sea"], echo=True, logprobs=0, max_tokens=0)
    logprobs = {}
    for name, ref in {"base": BASE, "sea": installation.refs["sea"], "wood": installation.refs["wood"]}.items():
        [choice] = (await engine.complete(ref, request))["choices"]
        logprobs[name] = choice["logprobs"]["token_logprobs"][len(OPENING) :]
    [generated] = (await engine.complete(installation.refs["sea"], build_request(logprobs=0)))["choices"]
    assert logprobs["sea"] == pytest.approx(generated["logprobs"]["token_logprobs"], abs=1e-4)
    assert sum(logprobs["sea"]) > max(sum(logprobs["base"]), sum(logprobs["wood"])) + 10


async def test_offsets_point_into_the_text(engine: Engine, installation: Installation) -> None:
    [prompt] = (await engine.complete(BASE, build_request(PROMPT, echo=True, logprobs=1, max_tokens=0)))["choices"]
    [echoed] = (await engine.complete(installation.refs["sea"], build_request(echo=True, logprobs=1)))["choices"]
    [output] = (await engine.complete(installation.refs["sea"], build_request(logprobs=1)))["choices"]
    assert echoed["text"] == OPENING + TALES["sea"] == OPENING + output["text"]
    for choice in (prompt, echoed, output):
        logprobs = choice["logprobs"]
        assert len(logprobs["tokens"]) == len(choice["text"].encode())
        for token, start in zip(logprobs["tokens"], logprobs["text_offset"], strict=True):
            assert choice["text"].startswith(token, start) or choice["text"][start] == "🎺"
    assert [token for token in prompt["logprobs"]["tokens"] if token.startswith("bytes:")] == [
        f"bytes:\\x{byte:02x}" for byte in "🎺".encode()
    ]


@pytest.mark.parametrize("echo", [False, True])
async def test_chunks_join_to_the_complete_response(engine: Engine, installation: Installation, echo: bool) -> None:
    options: dict[str, Any] = {"n": 2, "logprobs": 2, "echo": echo, "temperature": 1.2, "seed": 9}
    complete = await engine.complete(installation.refs["sea"], build_request([OPENING, PROMPT], **options))
    request = build_request([OPENING, PROMPT], **options, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in engine.complete_stream(installation.refs["sea"], request)]
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert (chunks[-1]["choices"], chunks[-1]["usage"]) == ([], complete["usage"])
    for index, expected in enumerate(complete["choices"]):
        choices = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
        assert "".join(choice["text"] for choice in choices) == expected["text"]
        finish_reasons = [choice["finish_reason"] for choice in choices]
        assert finish_reasons == [None] * (len(choices) - 1) + [expected["finish_reason"]]
        for field, values in expected["logprobs"].items():
            assert [value for choice in choices for value in choice["logprobs"][field]] == values


async def test_an_echo_without_output_is_streamed(engine: Engine) -> None:
    request = build_request(PROMPT, echo=True, max_tokens=0, stream=True)
    [chunk] = [chunk async for chunk in engine.complete_stream(BASE, request)]
    assert (chunk["choices"][0]["text"], chunk["choices"][0]["finish_reason"]) == (PROMPT, "length")


async def test_a_stop_string_ends_generation(engine: Engine, installation: Installation) -> None:
    completion = await engine.complete(installation.refs["sea"], build_request(stop=["wav"]))
    assert get_texts(completion) == [" upon a "]
    assert completion["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"prompt": ""}, "invalid_request", "prompt"),
        ({"prompt": ["a", ""]}, "invalid_request", "prompt"),
        ({"prompt": [1, 99_999]}, "invalid_request", "prompt"),
        ({"prompt": "x" * CONTEXT_LENGTH}, "context_length_exceeded", "prompt"),
        ({"prompt": "x" * (CONTEXT_LENGTH + 1), "max_tokens": 0, "echo": True}, "context_length_exceeded", "prompt"),
        ({"logit_bias": {"99999": 1}}, "invalid_request", "logit_bias"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_invalid_prompts_are_rejected(engine: Engine, fields: Any, code: str, param: str) -> None:
    with pytest.raises(EngineError) as caught:
        await engine.complete(BASE, build_request(**{"prompt": "x", **fields}))
    assert (caught.value.code, caught.value.param) == (code, param)


async def test_a_prompt_without_output_may_fill_the_context(engine: Engine) -> None:
    completion = await engine.complete(BASE, build_request("x" * CONTEXT_LENGTH, max_tokens=0, echo=True, logprobs=0))
    assert len(completion["choices"][0]["logprobs"]["tokens"]) == CONTEXT_LENGTH


async def test_control_tokens_in_a_prompt_are_text(engine: Engine) -> None:
    completion = await engine.complete(BASE, build_request("<|end|>", max_tokens=1))
    assert completion["usage"]["prompt_tokens"] == len("<|end|>")
