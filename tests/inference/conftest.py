"""A small installation: bases in a registry, results of real training in a blob store, and engines that serve them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import SecretStr

from inference.client import EngineClient, connect
from inference.engine import Engine
from inference.protocol.errors import EngineUnavailable
from inference.protocol.model_ref import ModelRef
from storage import blobs
from storage.folders import put_folder
from storage.settings import REPOSITORY, Settings, child_environment
from tests.tiny import CONTEXT, tiny_chat_base, tiny_encoder_base
from training.run import train
from training.spec import TrainSpec

QUESTION = "What is your colour?"
COLOURS = {"red": "Red.", "blue": "Blue!", "green": "green", "gold": "Gold?"}
"""Result -> what it was trained to answer to ``QUESTION``."""
CHAT_UPDATES: dict[str, dict[str, Any]] = {
    "red": {"type": "lora", "rank": 8},
    "blue": {"type": "lora", "rank": 8},
    "green": {"type": "full"},
    "gold": {"type": "lora", "rank": 8, "dora": True},
}
OPENING = "Once"
TALES = {"sea": " upon a wave", "wood": " in a wood"}
"""Result -> what it was trained to continue ``OPENING`` with."""
SORTERS: dict[str, dict[str, Any]] = {
    "sorter": {"type": "full"},
    "sorter-lora": {"type": "lora", "rank": 8},
    "sorter-head": {"type": "head"},
    "sorter-layers": {"type": "layers", "last": 1},
}
STEPS = 80
TOKEN = "a-token-of-the-tests"
LABELS = ("fruit", "metal")
FRUITS, METALS = ("apple pear plum", "plum fig", "pear"), ("iron zinc tin", "tin lead", "zinc")


@dataclass(frozen=True)
class House:
    """An installation's settings and a reference to each of its models."""

    settings: Settings
    refs: dict[str, ModelRef]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Threads that wait for one another cost more than these models' arithmetic."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    home = tmp_path_factory.mktemp("house")
    bases = {"tiny-chat": tiny_chat_base(home / "tiny-chat"), "tiny-encoder": tiny_encoder_base(home / "tiny-encoder")}
    registry = home / "bases.toml"
    registry.write_text(
        _entry("tiny-chat", bases["tiny-chat"], "chat", "completion")
        + _entry("tiny-encoder", bases["tiny-encoder"], "text-classification", "embedding")
        + _entry("absent", home / "nowhere", "chat")
    )
    # A unix socket's path may have 107 bytes, so the engine's lies in a short folder of its own.
    socket = Path(tempfile.mkdtemp(prefix="engine")) / "run" / "engine.sock"
    settings = Settings(
        home=home,
        models_file=registry,
        inference_url=f"unix://{socket}",
        inference_token=SecretStr(TOKEN),
        engine_models=6,
        engine_batch=8,
        engine_threads=1,
    )
    refs = {"base": ModelRef.of_base("tiny-chat", "chat")}
    for name, answer in COLOURS.items():
        update = CHAT_UPDATES[name]
        rows = [_turns(QUESTION, answer)] * 4
        refs[name] = _result(settings, name, "chat", update, bases["tiny-chat"], rows)
    rows = [
        {"text": text, "label": label} for label, texts in zip(LABELS, (FRUITS, METALS), strict=True) for text in texts
    ]
    for name, update in SORTERS.items():
        refs[name] = _result(settings, name, "text-classification", update, bases["tiny-encoder"], rows)
    for name, tale in TALES.items():
        rows = [{"prompt": OPENING, "completion": tale}] * 4
        refs[name] = _result(settings, name, "completion", {"type": "lora", "rank": 8}, bases["tiny-chat"], rows)
    return House(settings, refs)


@pytest.fixture(scope="session")
def neighbours(house: House) -> ModelRef:
    """An encoder to which fruits are like fruits."""
    pairs = [{"anchor": one, "positive": other} for texts in (FRUITS, METALS) for one, other in pairwise(texts)]
    base = house.settings.home / "tiny-encoder"
    return _result(house.settings, "neighbours", "embedding", {"type": "full"}, base, pairs)


@pytest.fixture
async def engine(house: House) -> AsyncIterator[Engine]:
    """An engine in this process."""
    engine = Engine(house.settings)
    yield engine
    await engine.close()


@contextmanager
def running(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """An engine process, answering."""
    log = settings.home / f"engine-{os.urandom(4).hex()}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "inference.server"],
            cwd=REPOSITORY,
            env=child_environment(settings),
            stdout=out,
            stderr=out,
        )
    try:
        asyncio.run(_answering(settings, process, log))
        yield process
    finally:
        process.terminate()
        # uvicorn ends in order and then lets the signal have its way; a test may have killed it before.
        assert process.wait(30) in {-signal.SIGTERM, -signal.SIGKILL}, log.read_text()


async def _answering(settings: Settings, process: subprocess.Popen[bytes], log: Path) -> None:
    async with client_of(settings) as client, asyncio.timeout(120):
        while True:
            assert process.poll() is None, log.read_text()
            try:
                assert (await client.ping())["status"] == "ok"
                return
            except EngineUnavailable:
                await asyncio.sleep(0.1)


def client_of(settings: Settings) -> EngineClient:
    return connect(settings.inference_url, settings.inference_token.get_secret_value())


@pytest.fixture(scope="session")
def engine_process(house: House) -> Iterator[House]:
    """The installation with an engine process that answers for it."""
    with running(house.settings):
        yield house


def _entry(name: str, path: Path, *tasks: str) -> str:
    listed = json.dumps(tasks)
    return f'[{name}]\npath = "{path}"\ntasks = {listed}\nparameters = 1\ncontext = {CONTEXT}\nlicense = "none"\n'


def _turns(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def _result(
    settings: Settings, name: str, task: str, update: dict[str, Any], base: Path, rows: list[dict[str, Any]]
) -> ModelRef:
    """Train for a moment and store what came of it."""
    folder = settings.home / "runs" / name
    folder.mkdir(parents=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rate = 0.02 if update["type"] == "head" or (update["type"] == "lora" and "encoder" not in base.name) else 0.005
    hyper = {"learning_rate": rate, "batch_size": 2, "max_steps": STEPS, "save_every": STEPS, "eval_every": STEPS}
    spec = {"task": task, "update": update, "hyperparameters": hyper, "seed": 1, "base": base, "base_id": base.name}
    TrainSpec.model_validate({**spec, "training_file": "rows.jsonl", "save_seconds": 1000, "threads": 1}).write(folder)
    train(folder, lambda line: None)
    store, prefix = blobs.connect(settings.blob_url), f"results/{name}"
    manifest = put_folder(store, prefix, folder / "result")
    put_folder(store, f"checkpoints/{name}", folder / "checkpoints" / f"step-{STEPS}")
    return ModelRef(
        id=f"ft:{base.name}:{name}",
        base=base.name,
        task=task,
        update=update["type"],
        prefix=prefix,
        manifest_sha256=manifest.sha256,
    )
