"""Chats with models that reason, and with a base whose chat template the registry names."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from inference.engine import Engine
from inference.protocol.errors import EngineError
from inference.protocol.generation import ChatCompletionRequest
from inference.protocol.model_ref import ModelRef
from storage.settings import Settings
from tests.families.catalog import DECODERS
from tests.inference.conftest import Installation, train_result
from training.artifacts import serving

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

REASONED = {"role": "assistant", "content": "Red.", "reasoning_content": "Roses."}
FORMAT = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"enum": ["yes", "no"]}}}
PARAMETERS = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["Rome", "Oslo"]},
        "unit": {"type": "string", "enum": ["C", "F"]},
        "days": {"const": 3},
    },
    "required": ["unit", "days"],
}
TOOL = {"type": "function", "function": {"name": "get_weather", "description": "a", "parameters": PARAMETERS}}
STEPS = 30
CONTEXT_LENGTH = 2048
BASES = {"qwen3": None, "qwen3.5": None, "gpt-oss": None, "gpt-neox": "chatml"}
QWEN3 = DECODERS["qwen3"]
FAMILIES = {
    **DECODERS,
    # Their templates and tokenizers with a simpler model.
    "qwen3.5": replace(QWEN3, template=DECODERS["qwen3.5"].template),
    "gpt-oss": replace(
        QWEN3,
        template=DECODERS["gpt-oss"].template,
        tokenizer=DECODERS["gpt-oss"].tokenizer,
        stop_tokens=DECODERS["gpt-oss"].stop_tokens,
    ),
    "gpt-neox": replace(QWEN3, template=None, tokenizer=DECODERS["gpt-neox"].tokenizer, stop_tokens=()),
}


def create_base(name: str, directory: Path) -> None:
    """Create a base with a context that fits the instructions of Qwen3.5 in bytes."""
    FAMILIES[name].create_base(directory, max_position_embeddings=CONTEXT_LENGTH)
    file = directory / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_max_length": CONTEXT_LENGTH}))


@pytest.fixture(scope="module")
def reasoners(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    home = tmp_path_factory.mktemp("reasoners")
    entries = []
    for name, template in BASES.items():
        field = f'chat_template = "{template}"\n' if template else ""
        create_base(name, home / name)
        entries.append(
            f'["{name}"]\npath = "{home / name}"\ntasks = ["chat"]\nparameters = 1\ncontext = 2048\nlicense = "none"\n'
            + field
        )
    (home / "bases.toml").write_text("".join(entries))
    settings = Settings(home=home, models_file=home / "bases.toml", engine_models=8, engine_batch=8)
    refs = {name: ModelRef.from_base(name, "chat") for name in BASES}
    lora, full = {"type": "lora", "rank": 8}, {"type": "full"}
    reasoned = [{"messages": [{"role": "user", "content": "?"}, REASONED]}] * 4
    plain = [{"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "Blue."}]}] * 4
    refs["thinker"] = train_result(settings, "thinker", "chat", lora, home / "qwen3", reasoned, steps=STEPS)
    refs["talker"] = train_result(settings, "talker", "chat", full, home / "qwen3", plain, steps=STEPS)
    refs["channels"] = train_result(settings, "channels", "chat", full, home / "gpt-oss", reasoned, steps=STEPS)
    refs["named"] = train_result(
        settings, "named", "chat", lora, home / "gpt-neox", plain, steps=STEPS, chat_template="chatml"
    )
    return Installation(settings, refs)


@pytest.fixture
async def engine(reasoners: Installation) -> AsyncIterator[Engine]:
    engine = Engine(reasoners.settings)
    yield engine
    await engine.close()


def build_request(**fields: Any) -> ChatCompletionRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "?"}], "temperature": 0, "max_tokens": 60}
    return ChatCompletionRequest.model_validate({**body, **fields})


@pytest.mark.parametrize("name", ["thinker", "channels"])
async def test_a_model_trained_on_reasoning_reasons(engine: Engine, reasoners: Installation, name: str) -> None:
    response = await engine.chat(reasoners.refs[name], build_request())
    [choice] = response["choices"]
    assert choice["message"] == {**REASONED, "refusal": None}
    assert choice["finish_reason"] == "stop"
    details = response["usage"]["completion_tokens_details"]
    content_tokens = response["usage"]["completion_tokens"] - details["reasoning_tokens"]
    assert len("Roses.") < details["reasoning_tokens"]
    assert len("Red.") <= content_tokens
    # A client sends the message back.
    messages = [{"role": "user", "content": "?"}, choice["message"], {"role": "user", "content": "?"}]
    await engine.chat(reasoners.refs[name], build_request(messages=messages, max_tokens=2))


@pytest.mark.parametrize("name", ["thinker", "channels"])
async def test_reasoning_is_streamed_separately(engine: Engine, reasoners: Installation, name: str) -> None:
    request = build_request(stream=True, stream_options={"include_usage": True})
    whole = await engine.chat(reasoners.refs[name], build_request())
    deltas: list[dict[str, Any]] = []
    usage = None
    async with aclosing(engine.chat_stream(reasoners.refs[name], request)) as chunks:
        async for chunk in chunks:
            deltas += [choice["delta"] for choice in chunk["choices"]]
            usage = chunk["usage"] or usage
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "Roses."
    assert "".join(delta.get("content") or "" for delta in deltas) == "Red."
    assert len([delta for delta in deltas if "reasoning_content" in delta]) > 1
    assert usage == whole["usage"]


async def test_a_model_trained_on_plain_answers_does_not_reason(engine: Engine, reasoners: Installation) -> None:
    response = await engine.chat(reasoners.refs["talker"], build_request())
    assert response["choices"][0]["message"] == {"role": "assistant", "content": "Blue.", "refusal": None}
    assert response["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0


async def count_prompt_tokens(engine: Engine, ref: ModelRef, **fields: Any) -> int:
    response = await engine.chat(ref, build_request(max_tokens=1, **fields))
    tokens: int = response["usage"]["prompt_tokens"]
    return tokens


async def test_a_request_chooses_whether_the_model_reasons(engine: Engine, reasoners: Installation) -> None:
    """Qwen3's prompt is longer by an empty reasoning if it disables it."""
    thinker, base = reasoners.refs["thinker"], reasoners.refs["qwen3"]
    thinking, talking = await count_prompt_tokens(engine, thinker), await count_prompt_tokens(engine, base)
    assert thinking < talking
    for fields, expected in (
        ({"reasoning_effort": "none"}, talking),
        ({"reasoning_effort": "high"}, thinking),
        ({"chat_template_kwargs": {"enable_thinking": False}}, talking),
        ({"chat_template_kwargs": {"enable_thinking": True}}, thinking),
        ({"chat_template_kwargs": {"enable_thinking": True}, "reasoning_effort": "none"}, thinking),
    ):
        for ref in (thinker, base):
            assert await count_prompt_tokens(engine, ref, **fields) == expected
    lengths = [
        await count_prompt_tokens(engine, reasoners.refs["gpt-oss"], reasoning_effort=effort)
        for effort in ("low", "high", "medium")
    ]
    assert [length - lengths[0] for length in lengths] == [0, 1, 3]


async def test_a_variable_that_the_template_does_not_read_is_refused(engine: Engine, reasoners: Installation) -> None:
    request = build_request(chat_template_kwargs={"enable_thinking": True})
    with pytest.raises(EngineError) as caught:
        await engine.chat(reasoners.refs["gpt-oss"], request)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "chat_template_kwargs")
    assert "it reads reasoning_effort" in caught.value.message


@pytest.mark.parametrize("effort", ["none", "high"])
@pytest.mark.parametrize("name", ["qwen3", "qwen3.5", "gpt-oss"])
async def test_constrained_output_follows_the_reasoning(
    engine: Engine, reasoners: Installation, name: str, effort: str
) -> None:
    """Random weights write nonsense as reasoning; a bias ends it."""
    tokenizer = AutoTokenizer.from_pretrained(reasoners.settings.home / name)
    end = tokenizer.convert_tokens_to_ids("<|end|>" if name == "gpt-oss" else "</think>")
    fields: dict[str, Any] = {"reasoning_effort": effort, "logit_bias": {str(end): 20}, "max_tokens": 400}
    response = await engine.chat(reasoners.refs[name], build_request(response_format=FORMAT, **fields))
    [choice] = response["choices"]
    assert json.loads(choice["message"]["content"]) in ("yes", "no")
    reasoning_tokens = response["usage"]["completion_tokens_details"]["reasoning_tokens"]
    assert (reasoning_tokens > 0) == (effort == "high")
    choice_of_tool = {"type": "function", "function": {"name": "get_weather"}}
    response = await engine.chat(
        reasoners.refs[name], build_request(tools=[TOOL], tool_choice=choice_of_tool, **fields)
    )
    [choice] = response["choices"]
    [call] = choice["message"]["tool_calls"]
    arguments = json.loads(call["function"]["arguments"])
    assert arguments["unit"] in ("C", "F")
    assert arguments["days"] == 3
    assert choice["message"]["content"] is None


async def test_a_named_template_is_trained_served_and_exported(
    engine: Engine, reasoners: Installation, tmp_path: Path
) -> None:
    response = await engine.chat(reasoners.refs["named"], build_request())
    assert response["choices"][0]["message"]["content"] == "Blue."
    assert response["choices"][0]["finish_reason"] == "stop"
    result = reasoners.settings.home / "runs/named/result"
    merged = tmp_path / "merged"
    serving.merge(reasoners.settings.home / "gpt-neox", result, merged)
    tokenizer, model = AutoTokenizer.from_pretrained(merged), AutoModelForCausalLM.from_pretrained(merged)
    assert tokenizer.chat_template == (result / "chat_template.jinja").read_text()
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "?"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    output = model.generate(**prompt, do_sample=False, max_new_tokens=20)
    assert tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True) == "Blue."


async def test_a_base_without_a_template_names_the_field_and_the_choices(
    reasoners: Installation, tmp_path: Path
) -> None:
    entry = f'path = "{reasoners.settings.home / "gpt-neox"}"\ntasks = ["chat"]\nparameters = 1\ncontext = 1024\n'
    file = tmp_path / "bases.toml"
    file.write_text(f'[none]\n{entry}license = "none"\n[wrong]\n{entry}license = "none"\nchat_template = "chatlm"\n')
    engine = Engine(Settings(home=tmp_path, models_file=file))
    for name in ("none", "wrong"):
        with pytest.raises(EngineError) as caught:
            await engine.chat(ModelRef.from_base(name, "chat"), build_request())
        assert caught.value.code == "base_model_unavailable"
        assert "'chat_template'" in caught.value.message
        assert "chatml, llama3, gemma, mistral, plain" in caught.value.message
    await engine.close()
