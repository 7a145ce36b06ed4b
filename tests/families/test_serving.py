"""Tests for serving every family in batches: a sequence has the logits that it has alone, without
cache and padding."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.cache_utils import Cache

from inference.engine import Engine
from inference.generation.llm_engine import BASE_ADAPTER, PROMPT_CHUNK, LLMEngine
from inference.generation.model_runner import ModelRunner
from inference.protocol.errors import EngineError
from inference.protocol.generation import CompletionRequest
from inference.protocol.model_ref import ModelRef
from storage import blobs
from storage.folders import put_folder
from storage.settings import Settings
from tests.families.catalog import DECODERS
from tests.training.run_folders import Row, create_run_folder, run_training
from training.artifacts import serving

pytestmark = pytest.mark.integration

VOCABULARY_SIZE = 256


@torch.inference_mode()
def assert_next_logits(logits_BV: Tensor, model: Any, sequences: Sequence[list[int]]) -> None:
    for row_V, sequence in zip(logits_BV, sequences, strict=True):
        expected_V = model(input_ids=torch.tensor([sequence]), use_cache=False).logits[0, -1]
        torch.testing.assert_close(row_V, expected_V, atol=2e-4, rtol=2e-4)


_QWEN3_NEXT = replace(
    DECODERS["qwen3.5"],
    config_class="Qwen3NextConfig",
    model_class="Qwen3NextForCausalLM",
    sizes={**DECODERS["qwen3.5"].sizes, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
)
_QWEN3_5_MOE = replace(_QWEN3_NEXT, config_class="Qwen3_5MoeTextConfig", model_class="Qwen3_5MoeForCausalLM")
SERVED = {**DECODERS, "qwen3-next": _QWEN3_NEXT, "qwen3.5-moe": _QWEN3_5_MOE}


@pytest.mark.parametrize("name", SERVED)
def test_sequences_that_join_and_leave_do_not_change_others(tmp_path: Path, name: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(SERVED[name].create_base(tmp_path / "base")).eval()

    def forward(ids: Tensor, mask: Tensor, positions: Tensor, cache: Cache, adapters: Sequence[str]) -> Tensor:
        out = model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True)
        logits: Tensor = out.logits[:, -1]
        return logits

    runner = ModelRunner(forward, torch.device("cpu"), getattr(model.config, "layer_types", None) or ())
    rng = random.Random(0)

    def draw(length: int) -> list[int]:
        return [rng.randrange(10, VOCABULARY_SIZE) for _ in range(length)]

    # Longer than a sliding window of 32 and a chunk of 64 in a recurrent layer.
    sequences = [draw(70), draw(3), draw(40)]
    assert_next_logits(runner.prefill(sequences, [""] * 3), model, sequences)
    for step in range(6):
        if step == 2:
            runner.retain([1, 2])
            del sequences[0]
        if step == 3:
            joining = [draw(50), draw(2)]
            assert_next_logits(runner.prefill(joining, [""] * 2), model, joining)
            sequences += joining
        tokens = draw(len(sequences))
        sequences = [[*sequence, token] for sequence, token in zip(sequences, tokens, strict=True)]
        assert_next_logits(runner.decode(tokens), model, sequences)


@torch.inference_mode()
def test_the_logprobs_of_a_long_prompt_do_not_depend_on_its_chunks(tmp_path: Path) -> None:
    """A recurrent layer continues from the state after the chunk before."""
    base = DECODERS["qwen3.5"].create_base(tmp_path / "base")
    engine = LLMEngine(serving.load(base, None, "completion"), 1024, 4, "test", lambda outputs: None)
    prompt = [random.Random(1).randrange(10, VOCABULARY_SIZE) for _ in range(2 * PROMPT_CHUNK + 70)]
    sampled = engine.compute_prompt_logprobs(prompt, BASE_ADAPTER, 0)
    logprobs_TV = engine.served_model.model(torch.tensor([prompt]), use_cache=False).logits[0, :-1].log_softmax(-1)
    expected_T = logprobs_TV.gather(-1, torch.tensor(prompt[1:])[:, None]).squeeze(-1)
    actual_T = torch.tensor([token.token_logprob.logprob for token in sampled if token.token_logprob])
    torch.testing.assert_close(actual_T, expected_T, atol=1e-3, rtol=1e-3)
    engine.scheduler.close()


class Home:
    """Installation with one base and the results of runs on it."""

    def __init__(self, root: Path, base: Path) -> None:
        self.base = base
        registry = root / "bases.toml"
        registry.write_text(
            f'[base]\npath = "{base}"\ntasks = ["completion"]\nparameters = 1\ncontext = 256\nlicense = "none"\n'
        )
        self.settings = Settings(home=root / "home", models_file=registry, engine_models=6, engine_batch=8)
        self.base_ref = ModelRef.from_base("base", "completion")

    def train(self, folder: Path, update: Row) -> ModelRef:
        """Train a completion model and store its result."""
        hyper = {"max_steps": 15, "batch_size": 2, "learning_rate": 0.02}
        rows = [{"prompt": "Once", "completion": f" upon {folder.name}"}] * 2
        run_training(create_run_folder(folder, self.base, "completion", update, training=rows, hyperparameters=hyper))
        manifest = put_folder(blobs.connect(self.settings.blob_url), f"results/{folder.name}", folder / "result")
        return ModelRef(
            id=folder.name,
            base="base",
            task="completion",
            update=update["type"],
            prefix=f"results/{folder.name}",
            manifest_sha256=manifest.sha256,
        )


def complete(**changes: Any) -> CompletionRequest:
    return CompletionRequest.model_validate(
        {"model": "m", "prompt": "Once", "max_tokens": 24, "temperature": 0, **changes}
    )


@pytest.mark.anyio
@pytest.mark.parametrize(
    "name", ["qwen3-moe", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gpt-oss", "deepseek-v3"))]
)
async def test_adapted_experts_are_served_beside_adapters_of_attention(tmp_path: Path, name: str) -> None:
    """PEFT cannot run adapted experts in a batch with other adapters."""
    home = Home(tmp_path, DECODERS[name].create_base(tmp_path / "base"))
    lora: Row = {"type": "lora", "rank": 8}
    refs = {
        "waves": home.train(tmp_path / "waves", lora),
        "woods": home.train(tmp_path / "woods", {**lora, "target_router": True}),
        "attention": home.train(tmp_path / "attention", {**lora, "target_modules": ["self_attn.o_proj"]}),
    }
    engine = Engine(home.settings)
    answers = await asyncio.gather(*(engine.complete(ref, complete()) for ref in [home.base_ref, *refs.values()]))
    texts = [answer["choices"][0]["text"] for answer in answers]
    assert texts[1:3] == [" upon waves", " upon woods"]
    async with AsyncExitStack() as leases:
        models = [
            await leases.enter_async_context(engine._models.acquire_generative_model(ref, "completions"))
            for ref in [home.base_ref, refs["attention"], refs["waves"]]
        ]
        base, attention, experts = (model.llm_engine for model in models)
    assert base is attention
    assert base is not experts
    await engine.close()


@pytest.mark.anyio
async def test_rows_of_the_embedding_beyond_the_vocabulary_are_never_generated(tmp_path: Path) -> None:
    home = Home(tmp_path, DECODERS["qwen3"].create_base(tmp_path / "base", vocab_size=512))
    engine = Engine(home.settings)
    for temperature in (0, 2.0):
        request = complete(max_tokens=60, seed=1, temperature=temperature, logprobs=5, n=2, logit_bias={"300": 50.0})
        with pytest.raises(EngineError, match="Token ids"):
            await engine.complete(home.base_ref, request)
        answer = await engine.complete(home.base_ref, request.model_copy(update={"logit_bias": {}}))
        for choice in answer["choices"]:
            assert all(choice["logprobs"]["tokens"]), "every token has a text"
            assert all(len(alternatives) for alternatives in choice["logprobs"]["top_logprobs"])
    await engine.close()
