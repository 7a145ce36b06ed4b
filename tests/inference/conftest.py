"""Test installation: base models in a registry, results of real training in a blob store, and
engines for them."""

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
from storage.settings import REPOSITORY_ROOT, Settings, build_child_environment
from tests.tiny import CONTEXT_LENGTH, create_tiny_chat_base, create_tiny_encoder_base
from training.run import train
from training.spec import TrainSpec

QUESTION = "What is your color?"
COLORS = {"red": "Red.", "blue": "Blue!", "green": "green", "gold": "Gold?"}
"""Result -> output for ``QUESTION`` that it was trained on."""
CHAT_UPDATES: dict[str, dict[str, Any]] = {
    "red": {"type": "lora", "rank": 8},
    "blue": {"type": "lora", "rank": 8},
    "green": {"type": "full"},
    "gold": {"type": "lora", "rank": 8, "dora": True},
}
OPENING = "Once"
TALES = {"sea": " upon a wave", "wood": " in a wood"}
"""Result -> completion of ``OPENING`` that it was trained on."""
CLASSIFIERS: dict[str, dict[str, Any]] = {
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
class Installation:
    """Settings of an installation and references to its models."""

    settings: Settings
    refs: dict[str, ModelRef]


@pytest.fixture(scope="session", autouse=True)
def _use_one_thread() -> None:
    """Use one thread: synchronization of threads costs more than the computation of these small
    models."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    home = tmp_path_factory.mktemp("installation")
    bases = {
        "tiny-chat": create_tiny_chat_base(home / "tiny-chat"),
        "tiny-encoder": create_tiny_encoder_base(home / "tiny-encoder"),
    }
    registry = home / "bases.toml"
    registry.write_text(
        _format_registry_entry("tiny-chat", bases["tiny-chat"], "chat", "completion")
        + _format_registry_entry("tiny-encoder", bases["tiny-encoder"], "text-classification", "embedding")
        + _format_registry_entry("absent", home / "nowhere", "chat")
    )
    # The path of a Unix socket is limited to 107 bytes, so the socket is in its own folder with a
    # short path.
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
    refs = {"base": ModelRef.from_base("tiny-chat", "chat")}
    for name, answer in COLORS.items():
        update = CHAT_UPDATES[name]
        rows = [_build_chat_row(QUESTION, answer)] * 4
        refs[name] = train_result(settings, name, "chat", update, bases["tiny-chat"], rows)
    rows = [
        {"text": text, "label": label} for label, texts in zip(LABELS, (FRUITS, METALS), strict=True) for text in texts
    ]
    for name, update in CLASSIFIERS.items():
        refs[name] = train_result(settings, name, "text-classification", update, bases["tiny-encoder"], rows)
    for name, tale in TALES.items():
        rows = [{"prompt": OPENING, "completion": tale}] * 4
        refs[name] = train_result(settings, name, "completion", {"type": "lora", "rank": 8}, bases["tiny-chat"], rows)
    return Installation(settings, refs)


@pytest.fixture(scope="session")
def embedding_model(installation: Installation) -> ModelRef:
    """Train an encoder that embeds texts about fruits close to each other."""
    pairs = [
        {"anchor": anchor, "positive": positive} for texts in (FRUITS, METALS) for anchor, positive in pairwise(texts)
    ]
    base = installation.settings.home / "tiny-encoder"
    return train_result(installation.settings, "neighbors", "embedding", {"type": "full"}, base, pairs)


@pytest.fixture(scope="session")
def quantized_model(installation: Installation) -> ModelRef:
    """Train an adapter on a base in 4 bits."""
    update = {"type": "lora", "rank": 8, "base_precision": "nf4"}
    rows = [_build_chat_row(QUESTION, "Silver.")] * 4
    return train_result(installation.settings, "silver", "chat", update, installation.settings.home / "tiny-chat", rows)


@pytest.fixture
async def engine(installation: Installation) -> AsyncIterator[Engine]:
    """Engine in this process."""
    engine = Engine(installation.settings)
    yield engine
    await engine.close()


@contextmanager
def run_engine_process(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """Run an engine process; it is ready within the context."""
    log = settings.home / f"engine-{os.urandom(4).hex()}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "inference.server"],
            cwd=REPOSITORY_ROOT,
            env=build_child_environment(settings),
            stdout=out,
            stderr=out,
        )
    try:
        asyncio.run(_wait_until_ready(settings, process, log))
        yield process
    finally:
        process.terminate()
        # uvicorn shuts down and then raises the signal again. A test may have killed the process
        # before.
        assert process.wait(30) in {-signal.SIGTERM, -signal.SIGKILL}, log.read_text()


async def _wait_until_ready(settings: Settings, process: subprocess.Popen[bytes], log: Path) -> None:
    async with connect_client(settings) as client, asyncio.timeout(120):
        while True:
            assert process.poll() is None, log.read_text()
            try:
                assert (await client.ping())["status"] == "ok"
                return
            except EngineUnavailable:
                await asyncio.sleep(0.1)


def connect_client(settings: Settings) -> EngineClient:
    return connect(settings.inference_url, settings.inference_token.get_secret_value())


@pytest.fixture(scope="session")
def engine_process(installation: Installation) -> Iterator[Installation]:
    """Installation with a running engine process."""
    with run_engine_process(installation.settings):
        yield installation


def _format_registry_entry(name: str, path: Path, *tasks: str) -> str:
    location = f'path = "{path}"\ntasks = {json.dumps(tasks)}'
    return f'[{name}]\n{location}\nparameters = 1\ncontext = {CONTEXT_LENGTH}\nlicense = "none"\n'


def _build_chat_row(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def train_result(
    settings: Settings,
    name: str,
    task: str,
    update: dict[str, Any],
    base: Path,
    rows: list[dict[str, Any]],
    steps: int = STEPS,
    **fields: Any,
) -> ModelRef:
    """Train a model for a few steps and store the result and its checkpoint.

    ``fields`` are further fields of the spec.
    """
    folder = settings.home / "runs" / name
    folder.mkdir(parents=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rate = 0.02 if update["type"] == "head" or (update["type"] == "lora" and "encoder" not in base.name) else 0.005
    hyperparameters = {
        "learning_rate": rate,
        "batch_size": 2,
        "max_steps": steps,
        "save_every": steps,
        "eval_every": steps,
    }
    spec = {
        "task": task,
        "update": update,
        "hyperparameters": hyperparameters,
        "seed": 1,
        "base": base,
        "base_id": base.name,
        **fields,
    }
    TrainSpec.model_validate({**spec, "training_file": "rows.jsonl", "save_seconds": 1000, "threads": 1}).write(folder)
    train(folder, lambda line: None)
    store, prefix = blobs.connect(settings.blob_url), f"results/{name}"
    manifest = put_folder(store, prefix, folder / "result")
    put_folder(store, f"checkpoints/{name}", folder / "checkpoints" / f"step-{steps}")
    return ModelRef(
        id=f"ft:{base.name}:{name}",
        base=base.name,
        task=task,
        update=update["type"],
        prefix=prefix,
        manifest_sha256=manifest.sha256,
    )
