"""Embeddings of a base model and of a fine-tuned model, for texts and for token ids."""

from __future__ import annotations

import asyncio
import base64
import struct
from typing import Any

import pytest
import torch
from openai.types import CreateEmbeddingResponse
from transformers import AutoModel, AutoTokenizer

from inference.engine import Engine
from inference.protocol.errors import EngineError
from inference.protocol.model_ref import ModelRef
from inference.protocol.pooling import EmbeddingRequest
from tests.inference.conftest import FRUITS, METALS, Installation
from tests.tiny import CONTEXT_LENGTH

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

BASE = ModelRef.from_base("tiny-encoder", "embedding")
TEXTS = ["apple", "iron zinc tin " * 8, "x", "plum fig"]


def build_request(texts: Any = TEXTS, **fields: Any) -> EmbeddingRequest:
    return EmbeddingRequest.model_validate({"model": "m", "input": texts, **fields})


def get_vectors(response: dict[str, Any]) -> torch.Tensor:
    return torch.tensor([entry["embedding"] for entry in response["data"]])


@pytest.fixture(scope="module")
def tokenizer(installation: Installation) -> Any:
    return AutoTokenizer.from_pretrained(installation.settings.home / "tiny-encoder", local_files_only=True)


async def test_a_base_returns_its_mean_hidden_state(engine: Engine, installation: Installation, tokenizer: Any) -> None:
    model = AutoModel.from_pretrained(installation.settings.home / "tiny-encoder", local_files_only=True).eval()
    response = await engine.embed(BASE, build_request())
    CreateEmbeddingResponse.model_validate(response, strict=True)
    assert [entry["index"] for entry in response["data"]] == list(range(len(TEXTS)))
    for text, vector_D in zip(TEXTS, get_vectors(response), strict=True):
        with torch.inference_mode():
            mean_D = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0)
        torch.testing.assert_close(vector_D, mean_D / mean_D.norm(), rtol=1e-4, atol=1e-5)
    num_tokens = sum(len(tokenizer(text)["input_ids"]) for text in TEXTS)
    assert response["usage"] == {"prompt_tokens": num_tokens, "total_tokens": num_tokens}


async def test_a_tuned_model_embeds_its_training_pairs_close_together(
    engine: Engine, embedding_model: ModelRef
) -> None:
    vectors = get_vectors(await engine.embed(embedding_model, build_request([*FRUITS, *METALS])))
    similarity = vectors @ vectors.T
    within = torch.cat([similarity[:3, :3].flatten(), similarity[3:, 3:].flatten()])
    assert within.min() > similarity[:3, 3:].max()


async def test_concurrent_requests_equal_single_requests(engine: Engine) -> None:
    alone = [get_vectors(await engine.embed(BASE, build_request(text))) for text in TEXTS]
    together = await asyncio.gather(
        *(engine.embed(BASE, build_request([text] * (1 + index))) for index, text in enumerate(TEXTS))
    )
    for expected, response in zip(alone, together, strict=True):
        vectors = get_vectors(response)
        torch.testing.assert_close(vectors, expected.expand(len(vectors), -1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [1, 3])
async def test_token_ids_equal_their_text(engine: Engine, tokenizer: Any, count: int) -> None:
    ids = [tokenizer(text)["input_ids"] for text in TEXTS[:count]]
    texts, tokens = await engine.embed(BASE, build_request(TEXTS[:count])), await engine.embed(BASE, build_request(ids))
    torch.testing.assert_close(get_vectors(tokens), get_vectors(texts))
    assert tokens["usage"] == texts["usage"]
    [single] = (await engine.embed(BASE, build_request(ids[0])))["data"]
    assert single["embedding"] == pytest.approx(tokens["data"][0]["embedding"], abs=1e-5)


async def test_fewer_dimensions_have_length_one(engine: Engine) -> None:
    full = get_vectors(await engine.embed(BASE, build_request()))
    truncated = get_vectors(await engine.embed(BASE, build_request(dimensions=5)))
    assert truncated.shape == (len(TEXTS), 5)
    torch.testing.assert_close(truncated, torch.nn.functional.normalize(full[:, :5]))
    with pytest.raises(EngineError, match=f"have {full.shape[1]} dimensions") as caught:
        await engine.embed(BASE, build_request(dimensions=full.shape[1] + 1))
    assert (caught.value.status, caught.value.param) == (400, "dimensions")


async def test_base64_encodes_the_same_numbers(engine: Engine) -> None:
    plain, encoded = [
        await engine.embed(BASE, build_request(encoding_format=encoding)) for encoding in ("float", "base64")
    ]
    for expected, entry in zip(plain["data"], encoded["data"], strict=True):
        data = base64.b64decode(entry["embedding"])
        assert list(struct.unpack(f"<{len(data) // 4}f", data)) == expected["embedding"]


@pytest.mark.parametrize(
    ("texts", "code", "param"),
    [
        (["a", "b " * CONTEXT_LENGTH], "context_length_exceeded", "input"),
        ([[1] * (CONTEXT_LENGTH + 1)], "context_length_exceeded", "input"),
        ([[1], [1, 99_999]], "invalid_request", "input.1"),
    ],
    ids=["text", "tokens", "unknown"],
)
async def test_invalid_inputs_are_rejected(engine: Engine, texts: Any, code: str, param: str) -> None:
    valid = engine.embed(BASE, build_request())
    results = await asyncio.gather(valid, engine.embed(BASE, build_request(texts)), return_exceptions=True)
    assert isinstance(results[0], dict), "a concurrent valid request must succeed"
    assert isinstance(results[1], EngineError)
    assert (results[1].status, results[1].code, results[1].param) == (400, code, param)


async def test_a_text_longer_than_the_training_rows_is_not_truncated(engine: Engine, embedding_model: ModelRef) -> None:
    """An embedding of a prefix would be mistaken for one of the whole text."""
    texts = ["apple " * 20, "apple " * 20 + "zinc"]
    first, second = get_vectors(await engine.embed(embedding_model, build_request(texts)))
    assert not torch.allclose(first, second, atol=1e-4)


async def test_loading_runs_a_probe(engine: Engine, embedding_model: ModelRef) -> None:
    for ref in (BASE, embedding_model):
        report = await engine.load(ref)
        assert len(report["answer"]["data"]) == 1
