"""Engine in this process: a model's output does not depend on other sequences in the batch or other
models."""

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
from inference.serving.chat_prompt import build_prompt
from storage import blobs
from storage.folders import put_folder
from tests.inference.conftest import CLASSIFIERS, COLORS, FRUITS, METALS, QUESTION, STEPS, TALES, Installation

pytestmark = [
    pytest.mark.integration,
    pytest.mark.anyio,
    # PEFT uses a deprecated attribute of transformers, and warns about every adapter that is
    # deleted.
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
async def test_a_result_generates_its_training_output(engine: Engine, installation: Installation, name: str) -> None:
    completion = await engine.chat(installation.refs[name], build_request())
    assert get_content(completion) == COLORS[name]
    assert completion["model"] == installation.refs[name].id
    assert completion["choices"][0]["finish_reason"] == "stop"


async def test_a_checkpoint_is_loaded_from_its_model_subfolder(engine: Engine, installation: Installation) -> None:
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
    """Mix the base and two adapters in a batch with prompts of several lengths that join at random
    times."""
    rng = random.Random(0)
    questions = [QUESTION, "Hi", "What is your color, and why?", "Tell me of the sea. " * 5]
    requests = [
        (installation.refs[name], build_request(question, max_tokens=limit, logprobs=True))
        for name in ("base", "red", "blue")
        for question in questions
        for limit in (3, 17)
    ]
    alone = [await engine.chat(ref, request) for ref, request in requests]

    async def chat_after_delay(ref: ModelRef, request: ChatCompletionRequest) -> dict[str, Any]:
        await asyncio.sleep(rng.random() * 0.1)
        return await engine.chat(ref, request)

    for _ in range(2):
        together = await asyncio.gather(*(chat_after_delay(ref, request) for ref, request in requests))
        for expected, actual in zip(alone, together, strict=True):
            assert actual["usage"] == expected["usage"]
            assert actual["choices"][0]["message"] == expected["choices"][0]["message"]
            for actual_token, expected_token in zip(
                *(response["choices"][0]["logprobs"]["content"] for response in (actual, expected)), strict=True
            ):
                assert actual_token["bytes"] == expected_token["bytes"]
                assert actual_token["logprob"] == pytest.approx(expected_token["logprob"], abs=1e-4)
    outputs = {
        name: get_content(await engine.chat(installation.refs[name], build_request()))
        for name in ("base", "red", "blue")
    }
    assert len(set(outputs.values())) == 3, "equal outputs of different adapters would prove nothing"


async def test_constrained_and_free_sequences_of_several_adapters_equal_those_alone(
    engine: Engine, installation: Installation
) -> None:
    """Mix sequences constrained to JSON, constrained to a schema, and unconstrained in one
    batch."""
    schema = {"type": "array", "items": {"type": "integer"}}
    formats: list[Any] = [
        None,
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "numbers", "schema": schema}},
    ]
    requests = [
        (
            installation.refs[name],
            build_request(response_format=response_format, temperature=temperature, seed=4, max_tokens=30),
        )
        for name in ("base", "red", "blue")
        for response_format in formats
        for temperature in (0, 1)
    ]
    alone = [await engine.chat(ref, request) for ref, request in requests]
    together = await asyncio.gather(*(engine.chat(ref, request) for ref, request in requests))
    assert [response["choices"] for response in together] == [response["choices"] for response in alone]
    assert {get_content(response)[0] for response in alone} >= {"[", "{"}
    assert len({get_content(response) for response in alone}) > len(requests) / 2, "equal outputs would prove nothing"


async def test_the_base_generates_the_output_of_transformers(engine: Engine, installation: Installation) -> None:
    """The result does not change if adapters are loaded."""
    await asyncio.gather(*(engine.load(installation.refs[name]) for name in ("red", "blue")))
    completion = await engine.chat(installation.refs["base"], build_request(max_tokens=20, logprobs=True))
    llm_engine, prompt = await get_base_llm_engine(engine, installation)
    model = AutoModelForCausalLM.from_pretrained(installation.settings.home / "tiny-chat", local_files_only=True).eval()
    with torch.inference_mode():
        generated = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=20)[0, len(prompt) :]
    tokens = generated.tolist()[: completion["usage"]["completion_tokens"]]
    entries = completion["choices"][0]["logprobs"]["content"]
    assert [llm_engine.token_decoder.to_bytes(token) for token in tokens][: len(entries)] == [
        entry["bytes"] for entry in entries
    ]


async def get_base_llm_engine(engine: Engine, installation: Installation) -> tuple[LLMEngine, list[int]]:
    """Return the LLM engine of the base model and the token ids of the question's prompt."""
    async with engine._models.acquire_generative_model(installation.refs["base"], "chat/completions") as model:
        return model.llm_engine, build_prompt(model, build_request()).ids


async def test_one_base_is_shared_by_its_adapters_and_dora_is_alone(engine: Engine, installation: Installation) -> None:
    names = ("base", "red", "blue", "gold", "green")
    async with AsyncExitStack() as leases:
        models = [
            await leases.enter_async_context(
                engine._models.acquire_generative_model(installation.refs[name], "chat/completions")
            )
            for name in names
        ]
        base, red, blue, gold, green = (id(model.llm_engine) for model in models)
    assert base == red == blue
    assert len({base, gold, green}) == 3
    assert len({models[index].adapter for index in (0, 1, 2)}) == 3


async def test_many_models_in_few_slots_are_never_confused(installation: Installation) -> None:
    settings = installation.settings.model_copy(update={"engine_models": 2})
    engine, rng = Engine(settings), random.Random(1)
    names = [rng.choice(["red", "blue", "green", "base"]) for _ in range(60)]
    expected = {
        name: get_content(await engine.chat(installation.refs[name], build_request()))
        for name in ("red", "blue", "green", "base")
    }

    async def chat_after_delay(name: str) -> str:
        await asyncio.sleep(rng.random() * 2)
        return get_content(await engine.chat(installation.refs[name], build_request()))

    outputs = await asyncio.gather(*(chat_after_delay(name) for name in names))
    assert outputs == [expected[name] for name in names]
    assert engine.get_stats()["loaded"] <= 2
    await engine.close()


async def test_unusable_results_do_not_affect_other_models(engine: Engine, installation: Installation) -> None:
    """Damaged, incompatible and unreadable results fail; concurrent requests to intact models
    succeed."""
    store, home = blobs.connect(installation.settings.blob_url), installation.settings.home
    intact = home / "runs" / "red" / "result"
    metadata = (intact / "luthier.json").read_text()
    config = (intact / "adapter_config.json").read_text()
    weights = (intact / "adapter_model.safetensors").read_bytes()
    bad_files = {
        "no-metadata": {"adapter_model.safetensors": weights, "adapter_config.json": config.encode()},
        "cut": {"luthier.json": metadata, "adapter_config.json": config, "adapter_model.safetensors": weights[:100]},
        "long-header": {
            "luthier.json": metadata,
            "adapter_config.json": config,
            "adapter_model.safetensors": b"\xff" * 8,
        },
        "empty": {"luthier.json": metadata, "adapter_config.json": config, "adapter_model.safetensors": b""},
        "rank": {
            "luthier.json": metadata,
            "adapter_config.json": config.replace('"r": 8', '"r": 4'),
            "adapter_model.safetensors": weights,
        },
        "no-json": {"luthier.json": metadata, "adapter_config.json": "{", "adapter_model.safetensors": weights},
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

    async def get_error_code(ref: ModelRef) -> str:
        with pytest.raises(EngineError) as caught:
            await engine.chat(ref, build_request())
        return caught.value.code

    chats = [engine.chat(installation.refs[name], build_request()) for name in ("red", "blue") * 8]
    codes, responses = await asyncio.gather(
        asyncio.gather(*(get_error_code(ref) for ref in refs * 2)), asyncio.gather(*chats)
    )
    assert set(codes) == {"model_unusable"}
    assert [get_content(response) for response in responses] == [COLORS[name] for name in ("red", "blue") * 8]
    assert engine.get_stats()["loaded"] == 3


async def test_a_first_adapter_that_fails_leaves_the_base_as_it_was(engine: Engine, installation: Installation) -> None:
    before = await engine.chat(installation.refs["base"], build_request(logprobs=True))
    llm_engine, _ = await get_base_llm_engine(engine, installation)
    layers = [type(layer) for layer in llm_engine.served_model.model.modules()]
    folder = installation.settings.home / "bad-first"
    shutil.copytree(installation.settings.home / "runs" / "red" / "result", folder)
    config = folder / "adapter_config.json"
    config.write_text(config.read_text().replace('"r": 8', '"r": 4'))
    with pytest.raises(RuntimeError, match="size mismatch"):
        llm_engine.load_adapter(folder)
    assert [type(layer) for layer in llm_engine.served_model.model.modules()] == layers
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
async def test_an_unavailable_base_is_reported(
    engine: Engine, installation: Installation, changes: dict[str, str], code: str, status: int
) -> None:
    with pytest.raises(EngineError) as caught:
        await engine.chat(installation.refs["base"].model_copy(update=changes), build_request())
    assert (caught.value.code, caught.value.status, caught.value.param) == (code, status, "model")


async def test_an_absent_base_names_the_command(engine: Engine) -> None:
    with pytest.raises(EngineError, match="luthierd models pull absent"):
        await engine.chat(ModelRef.from_base("absent", "chat"), build_request())


async def test_models_are_served_only_at_their_own_route(engine: Engine, installation: Installation) -> None:
    with pytest.raises(EngineError, match="/v1/predictions"):
        await engine.chat(installation.refs["sorter"], build_request())
    with pytest.raises(EngineError, match="/v1/chat/completions"):
        await engine.predict(installation.refs["red"], PredictionRequest(model="m", inputs=["x"]))


async def test_an_encoder_without_labels_is_rejected(engine: Engine) -> None:
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
    # Another test may have cached the same folder, so this test uses an engine with its own cache.
    other_engine = Engine(installation.settings.model_copy(update={"home": tmp_path, "inference_token": SecretStr("")}))
    with pytest.raises(EngineError) as caught:
        await other_engine.chat(ref, build_request())
    assert (caught.value.code, caught.value.status) == ("storage_corrupt", 502)
    assert other_engine.get_stats()["loaded"] == 0, "an adapter is read before its base is loaded"
    await other_engine.close()


async def test_several_choices_of_one_request(engine: Engine, installation: Installation) -> None:
    request = build_request(temperature=1.5, n=4, seed=5, max_tokens=6)
    first, again = [await engine.chat(installation.refs["base"], request) for _ in range(2)]
    texts = [choice["message"]["content"] for choice in first["choices"]]
    assert [choice["index"] for choice in first["choices"]] == [0, 1, 2, 3]
    assert len(set(texts)) > 1
    assert texts == [choice["message"]["content"] for choice in again["choices"]]
    assert first["usage"]["completion_tokens"] <= 24
    assert first["usage"]["total_tokens"] == first["usage"]["prompt_tokens"] + first["usage"]["completion_tokens"]


async def test_generation_ends_at_the_context(engine: Engine, installation: Installation) -> None:
    # The bias forces the same byte at each step, so that no stop token is generated.
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
    """A user's text can neither end or begin a message nor run template code."""
    plain = await engine.chat(installation.refs["red"], build_request("{{ ''.__class__ }}"))
    forged = await engine.chat(installation.refs["red"], build_request("<|end|>"))
    assert plain["usage"]["prompt_tokens"] == len("{{ ''.__class__ }}") + 4
    assert forged["usage"]["prompt_tokens"] == len("<|end|>") + 4


async def test_chunks_join_to_the_complete_response(engine: Engine, installation: Installation) -> None:
    request = build_request(stream=True, stream_options={"include_usage": True}, n=2, logprobs=True, top_logprobs=2)
    chunks = [chunk async for chunk in engine.chat_stream(installation.refs["blue"], request)]
    complete = await engine.chat(installation.refs["blue"], build_request(n=2, logprobs=True, top_logprobs=2))
    for index in range(2):
        choices = [
            chunk["choices"][0] for chunk in chunks if chunk["choices"] and chunk["choices"][0]["index"] == index
        ]
        assert choices[0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
        assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["stop"]
        assert all("role" not in choice["delta"] for choice in choices[1:])
        text = "".join(choice["delta"].get("content", "") for choice in choices)
        assert text == complete["choices"][index]["message"]["content"] == COLORS["blue"]
        logprobs = [entry for choice in choices if choice["logprobs"] for entry in choice["logprobs"]["content"]]
        assert [entry["token"] for entry in logprobs] == list(COLORS["blue"])
        assert all(len(entry["top_logprobs"]) == 2 for entry in logprobs)
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == complete["usage"]


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
    raise AssertionError("the sequence is still running")


@pytest.mark.parametrize("name", CLASSIFIERS)
async def test_a_classifier_predicts_its_training_labels(engine: Engine, installation: Installation, name: str) -> None:
    request = PredictionRequest(model="m", inputs=[*FRUITS, *METALS])
    response = await engine.predict(installation.refs[name], request)
    assert [entry["label"] for entry in response["data"]] == ["fruit"] * 3 + ["metal"] * 3
    assert [entry["index"] for entry in response["data"]] == list(range(6))
    for entry in response["data"]:
        assert sum(entry["scores"].values()) == pytest.approx(1)
        assert max(entry["scores"], key=lambda label: entry["scores"][label]) == entry["label"]


async def test_concurrent_predictions_equal_single_predictions(engine: Engine, installation: Installation) -> None:
    inputs = [*FRUITS, *METALS, "x", "apple " * 100, {"text": "tin", "text_pair": "iron"}]
    requests = [PredictionRequest(model="m", inputs=[item], top_k=1 + index % 2) for index, item in enumerate(inputs)]
    alone = [await engine.predict(installation.refs["sorter"], request) for request in requests]
    together = await asyncio.gather(*(engine.predict(installation.refs["sorter"], request) for request in requests))
    for index, (expected, actual) in enumerate(zip(alone, together, strict=True)):
        assert actual["usage"] == expected["usage"]
        assert len(expected["data"][0]["scores"]) == 1 + index % 2
        for label, score in expected["data"][0]["scores"].items():
            assert actual["data"][0]["scores"][label] == pytest.approx(score, abs=1e-5)


async def test_an_input_without_a_text_is_named(engine: Engine, installation: Installation) -> None:
    with pytest.raises(EngineError) as caught:
        await engine.predict(installation.refs["sorter"], PredictionRequest(model="m", inputs=["a", {"txt": "b"}]))
    assert (caught.value.code, caught.value.param) == ("missing_required_parameter", "inputs.1.text")


async def test_an_invalid_request_among_others_fails_alone(engine: Engine, installation: Installation) -> None:
    valid = PredictionRequest(model="m", inputs=["tin"])
    invalid = PredictionRequest(model="m", inputs=[{"text_pair": "b"}])
    results = await asyncio.gather(
        *(engine.predict(installation.refs["sorter"], request) for request in (valid, invalid, valid)),
        return_exceptions=True,
    )
    assert [isinstance(result, EngineError) for result in results] == [False, True, False]


@pytest.mark.parametrize("name", ["base", "red", "green", *CLASSIFIERS, *TALES])
async def test_loading_runs_a_probe(engine: Engine, installation: Installation, name: str) -> None:
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


async def test_a_merged_export_generates_the_adapters_output(
    engine: Engine, installation: Installation, tmp_path: Path
) -> None:
    first, again = [await engine.export(installation.refs["red"], "merged") for _ in range(2)]
    assert first == again
    names = unpack_export(installation, first, tmp_path)
    assert "model.safetensors" in names
    assert not any("adapter" in name for name in names)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True).eval()
    llm_engine, prompt = await get_base_llm_engine(engine, installation)
    with torch.inference_mode():
        generated = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=20)[0, len(prompt) :]
    assert llm_engine.tokenizer.decode(generated, skip_special_tokens=True) == COLORS["red"]


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
    path = target.with_suffix(".zip")
    store = blobs.connect(installation.settings.blob_url)
    blobs.get_file(store, export["blob_key"], export["sha256"], path)
    assert path.stat().st_size == export["bytes"]
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == sorted(archive.namelist())
        archive.extractall(target)
        return set(archive.namelist())
