"""Decoding and preprocessing of images, shared by vision tasks.

Supports PNG, JPEG, WebP, BMP, and the first frame of a GIF. The EXIF orientation is applied, and
images are converted to RGB.
"""

from __future__ import annotations

import base64
import binascii
import io
import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic_core import PydanticCustomError

from training.errors import TrainingError
from training.readers.archive import BytesContent, Content
from training.readers.strict_json import InvalidInput

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MAX_PIXELS = 50_000_000
"""Maximum pixels of an image; 150 MB when decoded."""
MAX_ASPECT_RATIO = 50
"""Maximum ratio of the longer to the shorter side.

Processors scale the shorter side to the model's input size and the longer side with it.
"""
PATCH_SIZE = 16
"""Side of a patch in pixels. Sizes of examples count patches."""

_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    struct.error,
    zlib.error,
)
"""Exceptions of PIL's decoders for files whose content does not match their header."""


def _parse_content(value: object) -> object:
    """Decode base64, or return the content that the reader took from a zip."""
    if isinstance(value, Content):
        return value
    if not isinstance(value, str):
        raise PydanticCustomError(
            "wrong_type", "Must be the name of a file in the zip, or the base64-encoded bytes of a file."
        )
    encoded = value.partition(",")[2] if value.startswith("data:") else value
    try:
        return BytesContent(base64.b64decode("".join(encoded.split()), validate=True))
    except binascii.Error as error:
        raise PydanticCustomError(
            "image", "Not base64 or a base64 data: URL; correct it, or upload a zip with the files to use file names."
        ) from error


class ImageInput(BaseModel):
    """An image."""

    model_config = ConfigDict(extra="ignore")

    image: Annotated[Any, BeforeValidator(_parse_content)]
    """A ``training.readers.archive.Content``."""


def decode(content: Content) -> Image:
    """Decode an image completely, upright, as RGB. Raises ``InvalidInput``."""
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            # Uploaded files can cause many warnings. Only the one for oversized images matters.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content.read()), formats=FORMATS)
            _check_dimensions(*image.size)
            return _to_rgb(ImageOps.exif_transpose(image))
    except InvalidInput:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise _too_large_error() from error
    except _DECODE_ERRORS as error:
        raise InvalidInput(
            "image",
            "Not a complete PNG, JPEG, WebP, GIF or BMP; save the image again in one of these formats.",
            "image",
        ) from error


def _check_dimensions(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise _too_large_error()
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise InvalidInput(
            "image", f"One side is more than {MAX_ASPECT_RATIO} times as long as the other; crop the image.", "image"
        )


def _too_large_error() -> InvalidInput:
    return InvalidInput("image", f"The image has more than {MAX_PIXELS:,} pixels; scale it down.", "image")


def _to_rgb(image: Image) -> Image:
    if image.mode.startswith("I;16"):
        # PIL would clip values at 255 instead of scaling them.
        return image.point(lambda value: value * (1 / 256)).convert("L").convert("RGB")
    return image.convert("RGB")


def load_processor(directory: Path) -> Any:
    """Load an image processor.

    Raises ``TrainingError`` if its outputs vary in shape, because they could not share a batch.
    """
    from PIL import Image
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(directory, local_files_only=True, backend="pil")
    wide, tall = (preprocess([Image.new("RGB", size)], processor).shape for size in ((64, 32), (32, 64)))
    if wide != tall:
        raise TrainingError(
            "base_model_unavailable",
            "This base model's image processor has no fixed output shape; choose another base model.",
            "model",
        )
    return processor


def count_patches(processor: Any) -> int:
    """Return the number of 16 × 16 pixel patches in the model's input of any image."""
    from PIL import Image

    *_, height, width = preprocess([Image.new("RGB", (PATCH_SIZE, PATCH_SIZE))], processor).shape
    return max(1, int(height * width) // PATCH_SIZE**2)


def preprocess(images: Sequence[Image], processor: Any) -> torch.Tensor:
    """Return the model's input (B, 3, H, W) float32."""
    pixels: torch.Tensor = processor(list(images), return_tensors="pt")["pixel_values"]
    return pixels
