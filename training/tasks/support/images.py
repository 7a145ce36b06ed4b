"""Pictures as a model sees them; shared by the tasks that look.

PNG, JPEG, WebP, BMP, and of a GIF the first picture; turned as its EXIF tag says, and read as RGB.
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
"""150 MB once decoded."""
MAX_ASPECT_RATIO = 50
"""Longer side to shorter: processors scale the shorter one to what the model sees, and the longer one with it."""
PATCH_SIZE = 16
"""Side, in pixels, of the squares that a size counts."""

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
"""What PIL's readers raise for files that are not what their first bytes say."""


def _parse_content(value: object) -> object:
    """Base64 of a file, or what a row of a zip was given."""
    if isinstance(value, Content):
        return value
    if not isinstance(value, str):
        raise PydanticCustomError("wrong_type", "Must be the name of a file in the zip, or a file's bytes in base64.")
    encoded = value.partition(",")[2] if value.startswith("data:") else value
    try:
        return BytesContent(base64.b64decode("".join(encoded.split()), validate=True))
    except binascii.Error as error:
        raise PydanticCustomError(
            "image", "Neither base64 nor a data: URL in base64; to name files, upload a zip that holds them."
        ) from error


class ImageInput(BaseModel):
    """What is looked at."""

    model_config = ConfigDict(extra="ignore")

    image: Annotated[Any, BeforeValidator(_parse_content)]
    """A ``Content``."""


def decode(content: Content) -> Image:
    """Whole, upright, RGB. Raises ``Refused``."""
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            # A stranger's file may give cause to many; of them only a picture that would fill the memory matters.
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
            "Not a whole PNG, JPEG, WebP, GIF or BMP; open it in a viewer and save it as one of these.",
            "image",
        ) from error


def _check_dimensions(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise _too_large_error()
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise InvalidInput("image", f"One side is more than {MAX_ASPECT_RATIO} times the other; crop it.", "image")


def _too_large_error() -> InvalidInput:
    return InvalidInput("image", f"More than {MAX_PIXELS:,} pixels; scale it down.", "image")


def _to_rgb(image: Image) -> Image:
    if image.mode.startswith("I;16"):
        # PIL would cut values at 255 rather than scale them.
        return image.point(lambda value: value * (1 / 256)).convert("L").convert("RGB")
    return image.convert("RGB")


def load_processor(directory: Path) -> Any:
    """Raises ``TrainingError`` for one whose pictures differ in shape: they could not share a batch."""
    from PIL import Image
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(directory, local_files_only=True, backend="pil")
    wide, tall = (preprocess([Image.new("RGB", size)], processor).shape for size in ((64, 32), (32, 64)))
    if wide != tall:
        raise TrainingError(
            "base_model_unavailable", "What this base model sees has no fixed shape; choose another.", "model"
        )
    return processor


def count_patches(processor: Any) -> int:
    """Of every picture: the squares of 16 × 16 pixels that the model is given."""
    from PIL import Image

    *_, height, width = preprocess([Image.new("RGB", (PATCH_SIZE, PATCH_SIZE))], processor).shape
    return max(1, int(height * width) // PATCH_SIZE**2)


def preprocess(images: Sequence[Image], processor: Any) -> torch.Tensor:
    """(B, 3, H, W) fp32."""
    seen: torch.Tensor = processor(list(images), return_tensors="pt")["pixel_values"]
    return seen
