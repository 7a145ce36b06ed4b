"""The engine in this process: what a model answers does not depend on its neighbours in batch and memory."""

from __future__ import annotations

import asyncio
import random
import shutil
import zipfile
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import SecretStr
from transformers import AutoModelForCausalLM

from inference.engine import Engine
from inference.generation.llm_engine import LLMEngine
from inference.protocol.errors import EngineError
from inference.protocol.generation import ChatCompletionRequest
from inference.protocol.model_ref import ModelRef
from inference.protocol.pooling import PredictionRequest
from inference.serving import chat
from storage import blobs
from storage.folders import put_folder
from tests.inference.conftest import CLASSIFIERS, COLORS, FRUITS, METALS, QUESTION, STEPS, TALES, Installation

pytestmark = [
    pytest.mark.anyio,
    # PEFT asks transformers for an attribute by its old name, and tells of every adapter that goes.
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Adapter .* was active which is now deleted:UserWarning"),
]


def build_request(content: str = QUESTION, **fields: Any) -> ChatCompletionRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": 24}
    return ChatCompletionRequest.model_validate({**body, **fields})


def get_content(completion: dict[str, Any]) -> str:
    content: str = completion["choices"][0]["message"]["content"]
    return content


@pytest.mark.parametrize("name", COLORS)
async def test_a_result_answers_what_it_was_taught(engine: Engine, installation: Installation, name: str) -> None:
    completion = await engine.chat(installation.refs[name], build_request())
    assert get_content(completion) == COLORS[name]
    assert completion["model"] == installation.refs[name].id
    assert completion["choices"][0]["finish_reason"] == "stop"


async def test_a_checkpoint_answers_from_its_part_of_the_folder(engine: Engine, installation: Installation) -> None:
    store = blobs.connect(installation.settings.blob_url)
    folder = installation.settings.home / "runs" / "red" / "checkpoints" / f"step-{STEPS}"
    manifest = put_folder(store, "checkpoints/again", folder)
    ref = installation.refs["red"].model_copy(
        update={"id": "ckpt", "prefix": "checkpoints/again", "part": "model/", "manifest_sha256": manifest.sha256}
    )
    assert get_content(await engine.chat(ref, build_request())) == COLORS["red"]


async def test_a_sequence_in_a_mixed_batch_equals_the_sequence_alone(
    engine: Engine, installation: Installation
) -> None:
    """Base and two adapters in one batch, prompts of all lengths, joining at all times: greedy, token for token."""
    rng = random.Random(0)
    questions = [QUESTION, "Hi", "What is your colour, and why?", "Tell me of the sea. " * 5]
    requests = [
        (installation.refs[name], build_request(question, max_tokens=limit, logprobs=True))
        for name in ("base", "red", "blue")
        for question in questions
        for limit in (3, 17)
    ]
    alone = [await engine.chat(ref, request) for ref, request in requests]

    async def later(ref: ModelRef, request: ChatCompletionRequest) -> dict[str, Any]:
        await asyncio.sleep(rng.random() * 0.1)
        return await engine.chat(ref, request)

    for _ in range(2):
        together = await asyncio.gather(*(later(ref, request) for ref, request in requests))
        for one, other in zip(alone, together, strict=True):
            assert one["usage"] == other["usage"]
            assert one["choices"][0]["message"] == other["choices"][0]["message"]
            for left, right in zip(
                *(answer["choices"][0]["logprobs"]["content"] for answer in (one, other)), strict=True
            ):
                assert left["bytes"] == right["bytes"]
                assert left["logprob"] == pytest.approx(right["logprob"], abs=1e-4)
    answers = {
        name: get_content(await engine.chat(installation.refs[name], build_request()))
        for name in ("base", "red", "blue")
    }
    assert len(set(answers.values())) == 3, "adapters that answer alike would prove nothing"


async def test_constrained_and_free_sequences_of_several_adapters_equal_those_alone(
    engine: Engine, installation: Installation
) -> None:
    """Of one batch, some rows are held to JSON or to a schema, others to nothing."""
    schema = {"type": "array", "items": {"type": "integer"}}
    formats: list[Any] = [
        None,
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "numbers", "schema": schema}},
    ]
    requests = [
        (installation.refs[name], build_request(response_format=form, temperature=temperature, seed=4, max_tokens=30))
        for name in ("base", "red", "blue")
        for form in formats
        for temperature in (0, 1)
    ]
    alone = [await engine.chat(ref, request) for ref, request in requests]
    together = await asyncio.gather(*(engine.chat(ref, request) for ref, request in requests))
    assert [answer["choices"] for answer in together] == [answer["choices"] for answer in alone]
    assert {get_content(answer)[0] for answer in alone} >= {"[", "{"}
    assert len({get_content(answer) for answer in alone}) > len(requests) / 2, (
        "answers that are alike would prove nothing"
    )


async def test_the_base_answers_as_transformers_generates(engine: Engine, installation: Installation) -> None:
    """Also with adapters loaded beside it."""
    await asyncio.gather(*(engine.load(installation.refs[name]) for name in ("red", "blue")))
    completion = await engine.chat(installation.refs["base"], build_request(max_tokens=20, logprobs=True))
    lane, prompt = await get_base_llm_engine(engine, installation)
    model = AutoModelForCausalLM.from_pretrained(installation.settings.home / "tiny-chat", local_files_only=True).eval()
    with torch.inference_mode():
        made = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=20)[0, len(prompt) :]
    tokens = [made.tolist()[at] for at in range(completion["usage"]["completion_tokens"])]
    listed = completion["choices"][0]["logprobs"]["content"]
    assert [lane.token_decoder.to_bytes(token) for token in tokens][: len(listed)] == [
        token["bytes"] for token in listed
    ]


async def get_base_llm_engine(engine: Engine, installation: Installation) -> tuple[LLMEngine, list[int]]:
    """Where the base is decoded, and the tokens of the question."""
    async with engine._models.lease_generative_model(installation.refs["base"], "chat/completions") as model:
        return model.llm_engine, chat._build_prompt(model.llm_engine, build_request()).ids


async def test_one_base_is_shared_by_its_adapters_and_dora_is_alone(engine: Engine, installation: Installation) -> None:
    names = ("base", "red", "blue", "gold", "green")
    async with AsyncExitStack() as held:
        models = [
            await held.enter_async_context(
                engine._models.lease_generative_model(installation.refs[name], "chat/completions")
            )
            for name in names
        ]
        base, red, blue, gold, green = (id(model.llm_engine) for model in models)
    assert base == red == blue
    assert len({base, gold, green}) == 3
    assert len({models[at].adapter for at in (0, 1, 2)}) == 3


async def test_many_models_over_few_slots_never_answer_for_another(installation: Installation) -> None:
    settings = installation.settings.model_copy(update={"engine_models": 2})
    engine, rng = Engine(settings), random.Random(1)
    names = [rng.choice(["red", "blue", "green", "base"]) for _ in range(60)]
    expected = {
        name: get_content(await engine.chat(installation.refs[name], build_request()))
        for name in ("red", "blue", "green", "base")
    }

    async def ask(name: str) -> str:
        await asyncio.sleep(rng.random() * 2)
        return get_content(await engine.chat(installation.refs[name], build_request()))

    answers = await asyncio.gather(*(ask(name) for name in names))
    assert answers == [expected[name] for name in names]
    assert engine.get_stats()["loaded"] <= 2
    await engine.close()


async def test_unusable_results_do_not_affect_other_models(engine: Engine, installation: Installation) -> None:
    """Damaged, foreign and unreadable results among good traffic: each fails for itself, all good answers are right."""
    store, home = blobs.connect(installation.settings.blob_url), installation.settings.home
    sound = home / "runs" / "red" / "result"
    card = (sound / "luthier.json").read_text()
    config = (sound / "adapter_config.json").read_text()
    weights = (sound / "adapter_model.safetensors").read_bytes()
    bad_files = {
        "no-card": {"adapter_model.safetensors": weights, "adapter_config.json": config.encode()},
        "cut": {"luthier.json": card, "adapter_config.json": config, "adapter_model.safetensors": weights[:100]},
        "long-header": {"luthier.json": card, "adapter_config.json": config, "adapter_model.safetensors": b"\xff" * 8},
        "empty": {"luthier.json": card, "adapter_config.json": config, "adapter_model.safetensors": b""},
        "rank": {
            "luthier.json": card,
            "adapter_config.json": config.replace('"r": 8', '"r": 4'),
            "adapter_model.safetensors": weights,
        },
        "no-json": {"luthier.json": card, "adapter_config.json": "{", "adapter_model.safetensors": weights},
    }
    refs = []
    for name, contents in bad_files.items():
        folder = home / "bad" / name
        folder.mkdir(parents=True)
        for file, data in contents.items():
            (folder / file).write_bytes(data if isinstance(data, bytes) else data.encode())
        manifest = put_folder(store, f"bad/{name}", folder)
        changes = {"id": name, "prefix": f"bad/{name}", "manifest_sha256": manifest.sha256}
        refs.append(installation.refs["red"].model_copy(update=changes))

    async def fails(ref: ModelRef) -> str:
        with pytest.raises(EngineError) as caught:
            await engine.chat(ref, build_request())
        return caught.value.code

    good = [engine.chat(installation.refs[name], build_request()) for name in ("red", "blue") * 8]
    codes, answers = await asyncio.gather(asyncio.gather(*(fails(ref) for ref in refs * 2)), asyncio.gather(*good))
    assert set(codes) == {"model_unusable"}
    assert [get_content(answer) for answer in answers] == [COLORS[name] for name in ("red", "blue") * 8]
    assert engine.get_stats()["loaded"] == 3


async def test_a_first_adapter_that_fails_leaves_the_base_as_it_was(engine: Engine, installation: Installation) -> None:
    before = await engine.chat(installation.refs["base"], build_request(logprobs=True))
    lane, _ = await get_base_llm_engine(engine, installation)
    layers = [type(layer) for layer in lane.served_model.model.modules()]
    folder = installation.settings.home / "bad-first"
    shutil.copytree(installation.settings.home / "runs" / "red" / "result", folder)
    config = folder / "adapter_config.json"
    config.write_text(config.read_text().replace('"r": 8', '"r": 4'))
    with pytest.raises(RuntimeError, match="size mismatch"):
        lane.load_adapter(folder)
    assert [type(layer) for layer in lane.served_model.model.modules()] == layers
    after = await engine.chat(installation.refs["base"], build_request(logprobs=True))
    assert after["choices"] == before["choices"]
    assert get_content(await engine.chat(installation.refs["red"], build_request())) == COLORS["red"]


@pytest.mark.parametrize(
    ("changes", "code", "status"),
    [
        ({"base": "../../etc", "id": "x"}, "model_not_found", 404),
        ({"base": "/models/x"}, "model_not_found", 404),
        ({"base": "file:///etc"}, "model_not_found", 404),
        ({"base": "absent"}, "base_model_unavailable", 400),
        ({"base": "tiny-encoder"}, "unsuitable_model", 400),
        ({"task": "text-classification"}, "unsuitable_model", 400),
        ({"task": "juggling"}, "unsuitable_model", 400),
    ],
)
async def test_a_base_that_cannot_be_had_is_named(
    engine: Engine, installation: Installation, changes: dict[str, str], code: str, status: int
) -> None:
    with pytest.raises(EngineError) as caught:
        await engine.chat(installation.refs["base"].model_copy(update=changes), build_request())
    assert (caught.value.code, caught.value.status, caught.value.param) == (code, status, "model")


async def test_an_absent_base_names_the_command(engine: Engine) -> None:
    with pytest.raises(EngineError, match="luthierd models pull absent"):
        await engine.chat(ModelRef.from_base("absent", "chat"), build_request())


async def test_models_answer_on_their_own_route_only(engine: Engine, installation: Installation) -> None:
    with pytest.raises(EngineError, match="/v1/predictions"):
        await engine.chat(installation.refs["sorter"], build_request())
    with pytest.raises(EngineError, match="/v1/chat/completions"):
        await engine.predict(installation.refs["red"], PredictionRequest(model="m", inputs=["x"]))


async def test_an_untuned_encoder_says_that_it_has_no_labels(engine: Engine) -> None:
    with pytest.raises(EngineError, match="fine-tune it"):
        await engine.predict(
            ModelRef.from_base("tiny-encoder", "text-classification"), PredictionRequest(model="m", inputs=["x"])
        )


async def test_damaged_weights_are_found_before_they_are_read(
    engine: Engine, installation: Installation, tmp_path: Path
) -> None:
    store = blobs.connect(installation.settings.blob_url)
    manifest = put_folder(store, "results/damaged", installation.settings.home / "runs" / "blue" / "result")
    stored = installation.settings.home / "blobs" / "results" / "damaged" / "adapter_model.safetensors"
    data = bytearray(stored.read_bytes())
    data[len(data) // 2] ^= 1
    stored.write_bytes(data)
    ref = installation.refs["blue"].model_copy(update={"prefix": "results/damaged", "manifest_sha256": manifest.sha256})
    # The same folder is in the cache already where another test asked for it: another engine has another cache.
    alone = Engine(installation.settings.model_copy(update={"home": tmp_path, "inference_token": SecretStr("")}))
    with pytest.raises(EngineError) as caught:
        await alone.chat(ref, build_request())
    assert (caught.value.code, caught.value.status) == ("storage_corrupt", 502)
    assert alone.get_stats()["loaded"] == 1, "the base"
    await alone.close()


async def test_several_answers_to_one_request(engine: Engine, installation: Installation) -> None:
    request = build_request(temperature=1.5, n=4, seed=5, max_tokens=6)
    first, again = [await engine.chat(installation.refs["base"], request) for _ in range(2)]
    texts = [choice["message"]["content"] for choice in first["choices"]]
    assert [choice["index"] for choice in first["choices"]] == [0, 1, 2, 3]
    assert len(set(texts)) > 1
    assert texts == [choice["message"]["content"] for choice in again["choices"]]
    assert first["usage"]["completion_tokens"] <= 24
    assert first["usage"]["total_tokens"] == first["usage"]["prompt_tokens"] + first["usage"]["completion_tokens"]


async def test_an_answer_ends_at_the_context(engine: Engine, installation: Installation) -> None:
    # A biased-in plain byte, over and over, so that no end comes before.
    token = "50"
    completion = await engine.chat(
        installation.refs["base"], build_request(max_tokens=100_000, logit_bias={token: 100})
    )
    assert completion["choices"][0]["finish_reason"] == "length"
    assert completion["usage"]["total_tokens"] == 256


async def test_messages_longer_than_the_context_are_refused(engine: Engine, installation: Installation) -> None:
    with pytest.raises(EngineError) as caught:
        await engine.chat(installation.refs["base"], build_request("x" * 300))
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")
    assert "256" in caught.value.message


async def test_a_biased_token_must_exist(engine: Engine, installation: Installation) -> None:
    with pytest.raises(EngineError) as caught:
        await engine.chat(installation.refs["base"], build_request(logit_bias={"99999": 1}))
    assert caught.value.param == "logit_bias"


async def test_control_tokens_and_templates_in_a_message_are_text(engine: Engine, installation: Installation) -> None:
    """A user cannot end the turn or open another, nor run a template."""
    plain = await engine.chat(installation.refs["red"], build_request("{{ ''.__class__ }}"))
    forged = await engine.chat(installation.refs["red"], build_request("<|end|>"))
    assert plain["usage"]["prompt_tokens"] == len("{{ ''.__class__ }}") + 4
    assert forged["usage"]["prompt_tokens"] == len("<|end|>") + 4


async def test_chunks_join_to_the_complete_answer(engine: Engine, installation: Installation) -> None:
    request = build_request(stream=True, stream_options={"include_usage": True}, n=2, logprobs=True, top_logprobs=2)
    chunks = [chunk async for chunk in engine.chat_stream(installation.refs["blue"], request)]
    whole = await engine.chat(installation.refs["blue"], build_request(n=2, logprobs=True, top_logprobs=2))
    for index in range(2):
        choices = [
            chunk["choices"][0] for chunk in chunks if chunk["choices"] and chunk["choices"][0]["index"] == index
        ]
        assert choices[0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
        assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["stop"]
        assert all("role" not in choice["delta"] for choice in choices[1:])
        text = "".join(choice["delta"].get("content", "") for choice in choices)
        assert text == whole["choices"][index]["message"]["content"] == COLORS["blue"]
        logprobs = [entry for choice in choices if choice["logprobs"] for entry in choice["logprobs"]["content"]]
        assert [entry["token"] for entry in logprobs] == list(COLORS["blue"])
        assert all(len(entry["top_logprobs"]) == 2 for entry in logprobs)
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == whole["usage"]


async def test_a_stop_string_is_never_streamed(engine: Engine, installation: Installation) -> None:
    request = build_request(stream=True, stop=["lue"])
    chunks = [chunk async for chunk in engine.chat_stream(installation.refs["blue"], request)]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "B"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_closing_a_stream_frees_its_sequence_and_its_model(engine: Engine, installation: Installation) -> None:
    request = build_request(stream=True, max_tokens=200, logit_bias={"50": 100})
    async with aclosing(engine.chat_stream(installation.refs["base"], request)) as chunks:
        await anext(chunks)
        assert engine.get_stats()["running"] == 1
    for _ in range(200):
        if engine.get_stats()["running"] == 0:
            return
        await asyncio.sleep(0.005)
    raise AssertionError("the row goes on")


@pytest.mark.parametrize("name", CLASSIFIERS)
async def test_a_classifier_sorts_what_it_was_taught(engine: Engine, installation: Installation, name: str) -> None:
    request = PredictionRequest(model="m", inputs=[*FRUITS, *METALS])
    answer = await engine.predict(installation.refs[name], request)
    assert [entry["label"] for entry in answer["data"]] == ["fruit"] * 3 + ["metal"] * 3
    assert [entry["index"] for entry in answer["data"]] == list(range(6))
    for entry in answer["data"]:
        assert sum(entry["scores"].values()) == pytest.approx(1)
        assert max(entry["scores"], key=lambda label: entry["scores"][label]) == entry["label"]


async def test_predictions_together_are_those_alone(engine: Engine, installation: Installation) -> None:
    inputs = [*FRUITS, *METALS, "x", "apple " * 100, {"text": "tin", "text_pair": "iron"}]
    requests = [PredictionRequest(model="m", inputs=[item], top_k=1 + at % 2) for at, item in enumerate(inputs)]
    alone = [await engine.predict(installation.refs["sorter"], request) for request in requests]
    together = await asyncio.gather(*(engine.predict(installation.refs["sorter"], request) for request in requests))
    for at, (one, other) in enumerate(zip(alone, together, strict=True)):
        assert one["usage"] == other["usage"]
        assert len(one["data"][0]["scores"]) == 1 + at % 2
        for label, score in one["data"][0]["scores"].items():
            assert other["data"][0]["scores"][label] == pytest.approx(score, abs=1e-5)


async def test_an_input_without_a_text_is_named(engine: Engine, installation: Installation) -> None:
    with pytest.raises(EngineError) as caught:
        await engine.predict(installation.refs["sorter"], PredictionRequest(model="m", inputs=["a", {"txt": "b"}]))
    assert (caught.value.code, caught.value.param) == ("missing_required_parameter", "inputs.1.text")


async def test_an_invalid_request_among_others_fails_alone(engine: Engine, installation: Installation) -> None:
    good = PredictionRequest(model="m", inputs=["tin"])
    bad = PredictionRequest(model="m", inputs=[{"text_pair": "b"}])
    results = await asyncio.gather(
        *(engine.predict(installation.refs["sorter"], request) for request in (good, bad, good)), return_exceptions=True
    )
    assert [isinstance(result, EngineError) for result in results] == [False, True, False]


@pytest.mark.parametrize("name", ["base", "red", "green", *CLASSIFIERS, *TALES])
async def test_loading_answers_a_probe(engine: Engine, installation: Installation, name: str) -> None:
    report = await engine.load(installation.refs[name])
    assert report["model"] == installation.refs[name].id
    assert report["answer"]["object"] in {"chat.completion", "text_completion", "list"}


async def test_an_adapter_is_exported_as_it_is_stored(
    engine: Engine, installation: Installation, tmp_path: Path
) -> None:
    first, again = [await engine.export(installation.refs["red"], "adapter") for _ in range(2)]
    assert first == again
    assert first["blob_key"] == f"exports/{installation.refs['red'].manifest_sha256}/result-adapter.zip"
    names = unpack_export(installation, first, tmp_path)
    assert {"adapter_config.json", "adapter_model.safetensors"} <= names
    result = installation.settings.home / "runs" / "red" / "result"
    assert names == {path.relative_to(result).as_posix() for path in result.rglob("*") if path.is_file()}


async def test_a_merged_export_answers_as_base_and_adapter(
    engine: Engine, installation: Installation, tmp_path: Path
) -> None:
    first, again = [await engine.export(installation.refs["red"], "merged") for _ in range(2)]
    assert first == again
    names = unpack_export(installation, first, tmp_path)
    assert "model.safetensors" in names
    assert not any("adapter" in name for name in names)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True).eval()
    lane, prompt = await get_base_llm_engine(engine, installation)
    with torch.inference_mode():
        made = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=20)[0, len(prompt) :]
    assert lane.tokenizer.decode(made, skip_special_tokens=True) == COLORS["red"]


@pytest.mark.parametrize("name", ["green", "sorter-head", "sorter-layers"])
async def test_a_result_of_full_weights_has_no_adapter(
    engine: Engine, installation: Installation, tmp_path: Path, name: str
) -> None:
    with pytest.raises(EngineError, match="variant=merged") as caught:
        await engine.export(installation.refs[name], "adapter")
    assert (caught.value.status, caught.value.param) == (400, "variant")
    assert "model.safetensors" in unpack_export(
        installation, await engine.export(installation.refs[name], "merged"), tmp_path
    )


async def test_a_base_is_not_exported(engine: Engine, installation: Installation) -> None:
    with pytest.raises(EngineError) as caught:
        await engine.export(installation.refs["base"], "merged")
    assert caught.value.code == "unsuitable_model"


def unpack_export(installation: Installation, export: dict[str, Any], target: Path) -> set[str]:
    archive = target.with_suffix(".zip")
    store = blobs.connect(installation.settings.blob_url)
    blobs.get_file(store, export["blob_key"], export["sha256"], archive)
    assert archive.stat().st_size == export["bytes"]
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None
        assert opened.namelist() == sorted(opened.namelist())
        opened.extractall(target)
        return set(opened.namelist())
