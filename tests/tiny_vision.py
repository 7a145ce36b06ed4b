"""Classifiers of pictures small enough to be made in a test, and pictures for them."""

from __future__ import annotations

import base64
import io
import random
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import PreTrainedModel, ResNetConfig, ResNetModel, ViTConfig, ViTModel
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from tests.tiny import INITIAL

SIDE = 32
COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200)}


def tiny_vit_base(directory: Path, *, hidden: int = 32) -> Path:
    """A ViT without a head, of 16 patches; dropout in its blocks."""
    config = ViTConfig(
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        hidden_dropout_prob=0.1,
        image_size=SIDE,
        patch_size=8,
        initializer_range=INITIAL,
    )
    return _saved(ViTModel, config, ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}), directory)


def tiny_resnet_base(directory: Path) -> Path:
    """A ResNet without a head: convolutions, and statistics that training moves without a gradient."""
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    return _saved(ResNetModel, config, ConvNextImageProcessorPil(size={"shortest_edge": SIDE}), directory)


def _saved(kind: type[PreTrainedModel], config: ViTConfig | ResNetConfig, processor: Any, directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind(config)
    model.save_pretrained(directory)
    processor.save_pretrained(directory)
    return directory


def picture(colour: tuple[int, int, int], seed: int, size: tuple[int, int] = (20, 24)) -> Image.Image:
    """Of about one colour, speckled."""
    chance = random.Random(seed)
    image = Image.new("RGB", size)
    image.putdata(
        [tuple(max(0, value + chance.randrange(-30, 30)) for value in colour) for _ in range(size[0] * size[1])]
    )
    return image


def packed(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """A file of it."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


PICTURE_ROWS = [
    {"image": base64_of(packed(picture(colour, number))), "label": label}
    for number in range(6)
    for label, colour in COLOURS.items()
]
