"""Fixtures of tiny base models, created once per session."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import transformers

from tests.tiny import create_tiny_chat_base, create_tiny_encoder_base
from tests.tiny_seq2seq import create_tiny_t5_base
from tests.tiny_vision import create_tiny_vit_base
from training.trainer import device

TESTS_DIRECTORY = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if TESTS_DIRECTORY in item.path.parents:
            # PEFT uses a name that transformers 5 has deprecated.
            item.add_marker(pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"))
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))


@pytest.fixture(scope="session", autouse=True)
def _use_one_thread() -> None:
    device.configure_torch(threads=1)


@pytest.fixture(scope="session")
def chat_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return create_tiny_chat_base(tmp_path_factory.mktemp("bases") / "chat")


@pytest.fixture(scope="session")
def encoder_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return create_tiny_encoder_base(tmp_path_factory.mktemp("bases") / "encoder")


@pytest.fixture(scope="session")
def seq2seq_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return create_tiny_t5_base(tmp_path_factory.mktemp("bases") / "seq2seq")


@pytest.fixture(scope="session")
def vision_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # A GPU machine may have an older transformers than the pinned one.
    if transformers.__version__ < "5.23" and find_spec("torchvision") is None:
        pytest.skip(f"image processors of transformers {transformers.__version__} need torchvision")
    return create_tiny_vit_base(tmp_path_factory.mktemp("bases") / "vision")
