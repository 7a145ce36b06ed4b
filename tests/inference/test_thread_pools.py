"""Slow work of one kind delays no other kind: a blob store that does not respond, and loaded models
that do."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import inference
from inference.engine import Engine
from inference.protocol.errors import EngineError
from inference.protocol.generation import ChatCompletionRequest, CompletionRequest
from inference.protocol.model_ref import ModelRef
from inference.protocol.pooling import PredictionRequest
from storage.folders import MANIFEST_FILE
from tests.inference.conftest import COLORS, OPENING, QUESTION, Installation

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

NUM_SLOW_MODELS = 40
"""More than the threads of every pool, asyncio's default one included (32 at most)."""
PROMPT_SECONDS = 10.0
"""Far more than these requests take on a busy machine, and far less than the blob store's hang."""
CHAT = ChatCompletionRequest.model_validate(
    {"model": "m", "messages": [{"role": "user", "content": QUESTION}], "temperature": 0, "max_tokens": 8}
)


@contextmanager
def hang_blobs(blobs_root: Path, prefixes: list[str]) -> Iterator[None]:
    """Replace the manifests by pipes without a writer, which block the threads that read them."""
    pipes = [blobs_root / prefix / MANIFEST_FILE for prefix in prefixes]
    for pipe in pipes:
        pipe.parent.mkdir(parents=True)
        os.mkfifo(pipe)
    try:
        yield
    finally:
        for pipe in pipes:
            descriptor = os.open(pipe, os.O_RDWR)
            pipe.unlink()
            # Readers get the end of the file, and later ones find none.
            os.close(descriptor)


@pytest.fixture
async def roomy_engine(installation: Installation) -> AsyncIterator[Engine]:
    """Engine with a slot for every model of this test."""
    engine = Engine(installation.settings.model_copy(update={"engine_models": NUM_SLOW_MODELS + 16}))
    yield engine
    await asyncio.wait_for(engine.close(), PROMPT_SECONDS)


async def test_models_that_do_not_arrive_delay_no_loaded_model(
    roomy_engine: Engine, installation: Installation
) -> None:
    engine, refs = roomy_engine, installation.refs
    echo = CompletionRequest(model="m", prompt=OPENING, max_tokens=1, echo=True, logprobs=1, temperature=0)
    prediction = PredictionRequest.model_validate({"model": "m", "inputs": ["apple"]})

    async def use_loaded_models() -> None:
        for name in ("base", "red"):
            completion = await engine.chat(refs[name], CHAT)
            assert name == "base" or completion["choices"][0]["message"]["content"] == COLORS[name]
        await engine.complete(refs["sea"], echo)
        await engine.predict(refs["sorter"], prediction)

    await use_loaded_models()
    slow = [
        refs["red"].model_copy(update={"prefix": f"slow/{index}", "manifest_sha256": f"{index:064x}"})
        for index in range(NUM_SLOW_MODELS)
    ]
    with hang_blobs(installation.settings.home / "blobs", [_get_prefix(ref) for ref in slow]):
        loads = [asyncio.create_task(engine.load(ref)) for ref in slow]
        await asyncio.sleep(0.2)
        began = time.monotonic()
        await asyncio.wait_for(use_loaded_models(), PROMPT_SECONDS)
        assert time.monotonic() - began < PROMPT_SECONDS
        assert not any(load.done() for load in loads)
    outcomes = await asyncio.wait_for(asyncio.gather(*loads, return_exceptions=True), PROMPT_SECONDS)
    assert all(isinstance(outcome, EngineError) for outcome in outcomes), outcomes[:3]


def _get_prefix(ref: ModelRef) -> str:
    assert ref.prefix is not None
    return ref.prefix


def test_the_engine_uses_no_shared_pool() -> None:
    """asyncio's default pool also resolves host names, and has few threads."""
    root = Path(inference.__path__[0])
    shared = ("asyncio.to_thread", "run_in_executor(None")
    assert not [path.name for path in root.rglob("*.py") if any(name in path.read_text() for name in shared)]
