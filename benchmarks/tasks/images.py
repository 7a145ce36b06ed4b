"""Image classification with ten classes: a subset of CIFAR-10."""

from __future__ import annotations

import base64
import zipfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

import torch
from PIL import Image

from benchmarks.bases import RegistryEntry, create_image_base
from benchmarks.tasks.benchmark import DATASETS, SEED, DataSplits, Metrics, Row, TaskBenchmark, TrainedModel
from benchmarks.tasks.model_requests import predict


def _load_data() -> DataSplits:
    training, held_out = (
        [
            {"image": str(path), "label": path.parent.name}
            for path in sorted((DATASETS / "cifar10_subset" / split).glob("*/*.jpg"))
        ]
        for split in ("train", "test")
    )
    Random(SEED).shuffle(training)
    Random(SEED).shuffle(held_out)
    return DataSplits(training, held_out, "200 training and 50 test images of each class")


def _write_zip(rows: Sequence[Row], path: Path) -> Path:
    """Write a zip with one folder per label and return its path."""
    path = path.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as file:
        for row in rows:
            file.write(row["image"], f"{row['label']}/{Path(row['image']).name}")
    return path


def _evaluate(trained: TrainedModel, data: DataSplits) -> Metrics:
    inputs = [{"image": base64.b64encode(Path(row["image"]).read_bytes()).decode()} for row in data.held_out]
    predictions = predict(trained.client, trained.model, inputs)
    return _compute_accuracy(data, [prediction["label"] for prediction in predictions])


def _evaluate_baselines(trained: TrainedModel, data: DataSplits) -> dict[str, Metrics]:
    training, held_out = (torch.stack([_load_pixels(row) for row in rows]) for rows in (data.training, data.held_out))
    nearest = torch.cdist(held_out, training).argmin(1).tolist()
    return {
        "the nearest training picture, by pixels": _compute_accuracy(
            data, [data.training[index]["label"] for index in nearest]
        ),
        "always one kind": _compute_accuracy(data, [data.training[0]["label"]] * len(data.held_out)),
    }


def _load_pixels(row: Row) -> torch.Tensor:
    with Image.open(row["image"]) as image:
        return torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8).float()


def _compute_accuracy(data: DataSplits, predicted: Sequence[str]) -> Metrics:
    hits = sum(row["label"] == label for row, label in zip(data.held_out, predicted, strict=True))
    return {"accuracy": hits / len(data.held_out)}


def _create_base(directory: Path, data: DataSplits) -> RegistryEntry:
    return create_image_base(directory)


BENCHMARK = TaskBenchmark(
    title="ten kinds of things in pictures (CIFAR-10)",
    base="small-resnet",
    task="image-classification",
    load_data=_load_data,
    evaluate=_evaluate,
    evaluate_baselines=_evaluate_baselines,
    primary_metric="accuracy",
    create_base=_create_base,
    write_rows=_write_zip,
)
