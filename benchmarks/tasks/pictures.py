"""Ten kinds of things in small pictures: a part of CIFAR-10."""

from __future__ import annotations

import base64
import zipfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

import torch
from PIL import Image

from benchmarks.bases import Entry, picture_reader
from benchmarks.tasks.ask import predictions
from benchmarks.tasks.run import SEED, SETS, Data, Figures, Row, Run, Trained


def _rows() -> Data:
    training, held_out = (
        [
            {"image": str(path), "label": path.parent.name}
            for path in sorted((SETS / "cifar10_subset" / part).glob("*/*.jpg"))
        ]
        for part in ("train", "test")
    )
    Random(SEED).shuffle(training)
    Random(SEED).shuffle(held_out)
    return Data(training, held_out, "200 training and 50 test pictures of each kind")


def _zipped(rows: Sequence[Row], path: Path) -> Path:
    """Folders named by their label."""
    path = path.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as file:
        for row in rows:
            file.write(row["image"], f"{row['label']}/{Path(row['image']).name}")
    return path


def _ask(trained: Trained, data: Data) -> Figures:
    asked = [{"image": base64.b64encode(Path(row["image"]).read_bytes()).decode()} for row in data.held_out]
    answers = predictions(trained.client, trained.model, asked)
    return _accuracy(data, [answer["label"] for answer in answers])


def _baselines(trained: Trained, data: Data) -> dict[str, Figures]:
    known, asked = (torch.stack([_pixels(row) for row in rows]) for rows in (data.training, data.held_out))
    nearest = torch.cdist(asked, known).argmin(1).tolist()
    return {
        "the nearest training picture, by pixels": _accuracy(data, [data.training[at]["label"] for at in nearest]),
        "always one kind": _accuracy(data, [data.training[0]["label"]] * len(data.held_out)),
    }


def _pixels(row: Row) -> torch.Tensor:
    with Image.open(row["image"]) as image:
        return torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8).float()


def _accuracy(data: Data, found: Sequence[str]) -> Figures:
    hits = sum(row["label"] == label for row, label in zip(data.held_out, found, strict=True))
    return {"accuracy": hits / len(data.held_out)}


def _base(directory: Path, data: Data) -> Entry:
    return picture_reader(directory)


RUN = Run(
    title="ten kinds of things in pictures (CIFAR-10)",
    base="small-resnet",
    task="image-classification",
    rows=_rows,
    ask=_ask,
    baselines=_baselines,
    decisive="accuracy",
    make_base=_base,
    pack=_zipped,
)
