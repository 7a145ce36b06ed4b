"""Fixtures of the lives of models: one thread, so that the same sums have the same order."""

from __future__ import annotations

import pytest

from training.trainer import device


@pytest.fixture(scope="session", autouse=True)
def _use_one_thread() -> None:
    device.configure_torch(threads=1)
