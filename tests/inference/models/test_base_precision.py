"""Results trained on a base in 4 bits: the engine serves them on such a base."""

from __future__ import annotations

import asyncio
import sys
import zipfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from inference.engine import Engine
from inference.protocol.errors import EngineError
from inference.protocol.generation import ChatCompletionRequest
from inference.protocol.model_ref import ModelRef
from inference.serving.chat_prompt import build_prompt
from storage import blobs
from storage.folders import put_folder
from tests.inference.conftest import COLORS, QUESTION, STEPS, Installation
from training.artifacts import serving

pytestmark = [
    pytest.mark.integration,
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Adapter .* was active which is now deleted:UserWarning"),
]

REQUEST = ChatCompletionRequest.model_validate(
    {
        "model": "m",
        "messages": [{"role": "user", "content": QUESTION}],
        "temperature": 0,
        "max_tokens": 12,
        "logprobs": True,
    }
)


@pytest.fixture
def checkpoint(installation: Installation, quantized_model: ModelRef) -> ModelRef:
    """The last checkpoint of the same run: another adapter with the same weights."""
    store = blobs.connect(installation.settings.blob_url)
    folder = installation.settings.home / "runs" / "silver" / "checkpoints" / f"step-{STEPS}"
    manifest = put_folder(store, "checkpoints/silver-again", folder)
    stored = {"id": "ckpt", "prefix": "checkpoints/silver-again", "part": "model/"}
    return quantized_model.model_copy(update={**stored, "manifest_sha256": manifest.sha256})


def get_logprobs(completion: dict[str, Any]) -> list[float]:
    return [token["logprob"] for token in completion["choices"][0]["logprobs"]["content"]]


async def test_the_served_numbers_are_those_of_the_trained_weights(
    engine: Engine, installation: Installation, quantized_model: ModelRef
) -> None:
    completion = await engine.chat(quantized_model, REQUEST)
    assert completion["choices"][0]["message"]["content"] == "Silver."
    home = installation.settings.home
    trained = serving.load(home / "tiny-chat", home / "runs" / "silver" / "result", "chat")
    async with engine._models.acquire_generative_model(quantized_model, "chat/completions") as model:
        prompt = build_prompt(model, REQUEST).ids
    with torch.inference_mode():
        first = trained.model(torch.tensor([prompt])).logits[0, -1].float().log_softmax(-1).max()
    assert get_logprobs(completion)[0] == pytest.approx(first.item(), abs=1e-4)


async def test_adapters_share_a_base_in_4_bits_and_the_native_base_is_not_loaded(
    engine: Engine, installation: Installation, quantized_model: ModelRef, checkpoint: ModelRef
) -> None:
    async with AsyncExitStack() as leases:
        one, other = [
            await leases.enter_async_context(engine._models.acquire_generative_model(ref, "chat/completions"))
            for ref in (quantized_model, checkpoint)
        ]
        assert one.llm_engine is other.llm_engine
        assert one.adapter != other.adapter
        assert engine.get_stats()["loaded"] == 3
        native = await leases.enter_async_context(
            engine._models.acquire_generative_model(installation.refs["red"], "chat/completions")
        )
        assert native.llm_engine is not one.llm_engine


async def test_mixed_batches_equal_single_requests(
    engine: Engine, installation: Installation, quantized_model: ModelRef, checkpoint: ModelRef
) -> None:
    refs = [quantized_model, installation.refs["red"], checkpoint, installation.refs["base"]]
    alone = [await engine.chat(ref, REQUEST) for ref in refs]
    together = await asyncio.gather(*(engine.chat(ref, REQUEST) for ref in refs))
    for left, right in zip(alone, together, strict=True):
        assert left["choices"][0]["message"] == right["choices"][0]["message"]
        assert get_logprobs(left) == pytest.approx(get_logprobs(right), abs=1e-4)
    assert together[1]["choices"][0]["message"]["content"] == COLORS["red"]


async def test_a_merged_export_generates_the_served_output(
    engine: Engine, installation: Installation, quantized_model: ModelRef, tmp_path: Path
) -> None:
    export = await engine.export(quantized_model, "merged")
    store = blobs.connect(installation.settings.blob_url)
    blobs.get_file(store, export["blob_key"], export["sha256"], tmp_path / "weights.zip")
    with zipfile.ZipFile(tmp_path / "weights.zip") as archive:
        archive.extractall(tmp_path / "merged")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", local_files_only=True).eval()
    async with engine._models.acquire_generative_model(quantized_model, "chat/completions") as served:
        prompt = build_prompt(served, REQUEST).ids
        tokenizer = served.llm_engine.tokenizer
    with torch.inference_mode():
        generated = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=12)[0, len(prompt) :]
    assert tokenizer.decode(generated, skip_special_tokens=True) == "Silver."


async def test_an_engine_without_the_extra_says_so(
    engine: Engine, installation: Installation, quantized_model: ModelRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    for call in (engine.load(quantized_model), engine.export(quantized_model, "merged")):
        with pytest.raises(EngineError, match="bitsandbytes is not installed") as caught:
            await call
        assert caught.value.code == "model_unusable"
    assert (await engine.load(installation.refs["red"]))["answer"]
