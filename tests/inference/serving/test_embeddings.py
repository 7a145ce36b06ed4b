"""Embeddings: of a base and of a tuned model, of texts and of token ids."""

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

pytestmark = pytest.mark.anyio

BASE = ModelRef.from_base("tiny-encoder", "embedding")
TEXTS = ["apple", "iron zinc tin " * 8, "x", "plum fig"]


def build_request(texts: Any = TEXTS, **fields: Any) -> EmbeddingRequest:
    return EmbeddingRequest.model_validate({"model": "m", "input": texts, **fields})


def get_vectors(response: dict[str, Any]) -> torch.Tensor:
    return torch.tensor([each["embedding"] for each in response["data"]])


@pytest.fixture(scope="module")
def tokenizer(installation: Installation) -> Any:
    return AutoTokenizer.from_pretrained(installation.settings.home / "tiny-encoder", local_files_only=True)


async def test_a_base_gives_its_mean_hidden_state(engine: Engine, installation: Installation, tokenizer: Any) -> None:
    model = AutoModel.from_pretrained(installation.settings.home / "tiny-encoder", local_files_only=True).eval()
    answer = await engine.embed(BASE, build_request())
    CreateEmbeddingResponse.model_validate(answer, strict=True)
    assert [each["index"] for each in answer["data"]] == list(range(len(TEXTS)))
    for text, found in zip(TEXTS, get_vectors(answer), strict=True):
        with torch.inference_mode():
            mean_D = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0)
        torch.testing.assert_close(found, mean_D / mean_D.norm(), rtol=1e-4, atol=1e-5)
    tokens = sum(len(tokenizer(text)["input_ids"]) for text in TEXTS)
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


async def test_a_tuned_model_brings_together_what_it_was_shown(engine: Engine, embedding_model: ModelRef) -> None:
    found = get_vectors(await engine.embed(embedding_model, build_request([*FRUITS, *METALS])))
    likeness = found @ found.T
    within = torch.cat([likeness[:3, :3].flatten(), likeness[3:, 3:].flatten()])
    assert within.min() > likeness[:3, 3:].max()


async def test_texts_together_are_those_alone(engine: Engine) -> None:
    alone = [get_vectors(await engine.embed(BASE, build_request(text))) for text in TEXTS]
    together = await asyncio.gather(
        *(engine.embed(BASE, build_request([text] * (1 + at))) for at, text in enumerate(TEXTS))
    )
    for one, answer in zip(alone, together, strict=True):
        torch.testing.assert_close(get_vectors(answer), one.expand(len(answer["data"]), -1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [1, 3])
async def test_token_ids_are_read_as_the_text_they_are_of(engine: Engine, tokenizer: Any, count: int) -> None:
    ids = [tokenizer(text)["input_ids"] for text in TEXTS[:count]]
    texts, tokens = await engine.embed(BASE, build_request(TEXTS[:count])), await engine.embed(BASE, build_request(ids))
    torch.testing.assert_close(get_vectors(tokens), get_vectors(texts))
    assert tokens["usage"] == texts["usage"]
    [single] = (await engine.embed(BASE, build_request(ids[0])))["data"]
    assert single["embedding"] == pytest.approx(tokens["data"][0]["embedding"], abs=1e-5)


async def test_fewer_dimensions_have_length_one(engine: Engine) -> None:
    whole = get_vectors(await engine.embed(BASE, build_request()))
    short = get_vectors(await engine.embed(BASE, build_request(dimensions=5)))
    assert short.shape == (len(TEXTS), 5)
    torch.testing.assert_close(short, torch.nn.functional.normalize(whole[:, :5]))
    with pytest.raises(EngineError, match=f"have {whole.shape[1]} dimensions") as caught:
        await engine.embed(BASE, build_request(dimensions=whole.shape[1] + 1))
    assert (caught.value.status, caught.value.param) == (400, "dimensions")


async def test_base64_holds_the_same_numbers(engine: Engine) -> None:
    plain, packed = [await engine.embed(BASE, build_request(encoding_format=form)) for form in ("float", "base64")]
    for one, other in zip(plain["data"], packed["data"], strict=True):
        data = base64.b64decode(other["embedding"])
        assert list(struct.unpack(f"<{len(data) // 4}f", data)) == one["embedding"]


@pytest.mark.parametrize(
    ("texts", "code", "param"),
    [
        (["a", "b " * CONTEXT_LENGTH], "context_length_exceeded", "input"),
        ([[1] * (CONTEXT_LENGTH + 1)], "context_length_exceeded", "input"),
        ([[1], [1, 99_999]], "invalid_request", "input.1"),
    ],
    ids=["text", "tokens", "unknown"],
)
async def test_what_cannot_be_embedded_is_named(engine: Engine, texts: Any, code: str, param: str) -> None:
    good = engine.embed(BASE, build_request())
    results = await asyncio.gather(good, engine.embed(BASE, build_request(texts)), return_exceptions=True)
    assert isinstance(results[0], dict), "its neighbour is answered"
    assert isinstance(results[1], EngineError)
    assert (results[1].status, results[1].code, results[1].param) == (400, code, param)


async def test_a_text_longer_than_those_trained_on_is_whole(engine: Engine, embedding_model: ModelRef) -> None:
    """An embedding of its beginning would pass for one of the whole."""
    texts = ["apple " * 20, "apple " * 20 + "zinc"]
    one, other = get_vectors(await engine.embed(embedding_model, build_request(texts)))
    assert not torch.allclose(one, other, atol=1e-4)


async def test_loading_answers_a_probe(engine: Engine, embedding_model: ModelRef) -> None:
    for ref in (BASE, embedding_model):
        report = await engine.load(ref)
        assert len(report["answer"]["data"]) == 1
