"""TensorBoard's own reader reads our event files and verifies their checksums."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.metrics.scalars import tag_values
from jobs.metrics.tfevents import Scalars, encode_event_file

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util import tensor_util

STEPS = [
    Scalars(1_700_000_000.25, 1, {"train/loss": 2.5, "train/learning_rate": 1e-4}),
    Scalars(1_700_000_001.5, 128, {"train/loss": 0.125, "valid/loss": float("nan")}),
    Scalars(1_700_000_009.0, 3_000_000_000, {"train/größe": -1.5}),
]


def _load_events(path: Path) -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield from EventFileLoader(str(path)).Load()


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "events.out.tfevents.1.luthier"
    path.write_bytes(encode_event_file(1_700_000_000.0, STEPS))
    first, *events = _load_events(path)
    assert first.file_version == "brain.Event:2"
    assert [(event.wall_time, event.step) for event in events] == [
        (scalars.wall_time, scalars.step) for scalars in STEPS
    ]
    for event, scalars in zip(events, STEPS, strict=True):
        # The reader converts simple values into tensors.
        values = {value.tag: float(tensor_util.make_ndarray(value.tensor)) for value in event.summary.value}
        assert values == pytest.approx(dict(scalars.values), nan_ok=True)


def test_a_damaged_record_is_noticed(tmp_path: Path) -> None:
    data = bytearray(encode_event_file(1_700_000_000.0, STEPS))
    data[-6] ^= 1
    path = tmp_path / "events.out.tfevents.1.luthier"
    path.write_bytes(bytes(data))
    assert len(list(_load_events(path))) == len(STEPS)


def test_tags() -> None:
    data = {
        "step": 3,
        "train_loss": 1.0,
        "train_mean_token_accuracy": 0.5,
        "train_accuracy": 0.5,
        "valid_loss": 2.0,
        "valid_accuracy": 0.25,
        "valid_mean_token_accuracy": 0.25,
        "full_valid_loss": 2.0,
        "valid_f1_macro": 0.75,
        "grad_norm": None,
        "total_steps": 9,
    }
    assert tag_values(data) == {
        "train/loss": 1.0,
        "train/accuracy": 0.5,
        "valid/loss": 2.0,
        "valid/accuracy": 0.25,
        "valid/f1_macro": 0.75,
    }
