"""Vision models small enough to create in a test, and images for them."""

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

from tests.tiny import INITIALIZER_RANGE

IMAGE_SIZE = 32
COLORS = {"red": (200, 30, 30), "blue": (30, 30, 200)}


def create_tiny_vit_base(directory: Path, *, hidden_size: int = 32) -> Path:
    """Save a ViT of 16 patches with dropout in its blocks and without a head."""
    config = ViTConfig(
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=2,
        num_attention_heads=4,
        hidden_dropout_prob=0.1,
        image_size=IMAGE_SIZE,
        patch_size=8,
        initializer_range=INITIALIZER_RANGE,
    )
    return _save_model(
        ViTModel, config, ViTImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}), directory
    )


def create_tiny_resnet_base(directory: Path) -> Path:
    """Save a ResNet without a head: convolutions, and batch statistics that training updates
    without a gradient."""
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    return _save_model(ResNetModel, config, ConvNextImageProcessorPil(size={"shortest_edge": IMAGE_SIZE}), directory)


def _save_model(
    model_class: type[PreTrainedModel], config: ViTConfig | ResNetConfig, processor: Any, directory: Path
) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model_class(config)
    model.save_pretrained(directory)
    processor.save_pretrained(directory)
    return directory


def create_image(color: tuple[int, int, int], seed: int, size: tuple[int, int] = (20, 24)) -> Image.Image:
    """Return an image of about one color, with noise."""
    rng = random.Random(seed)
    image = Image.new("RGB", size)
    image.putdata([tuple(max(0, value + rng.randrange(-30, 30)) for value in color) for _ in range(size[0] * size[1])])
    return image


def encode_image(image: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    """Return the image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def encode_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


IMAGE_ROWS = [
    {"image": encode_base64(encode_image(create_image(color, number))), "label": label}
    for number in range(6)
    for label, color in COLORS.items()
]
