"""Image classification.

Row: ``{"image": "cats/1.png", "label": "cat"}``. ``image`` is the name of a file in the uploaded
zip or the base64-encoded bytes of a file, plain or as a data: URL. A zip of folders named after
labels needs no rows. Output: ``{"label": "cat", "scores": {"cat": 0.98, …}}``. Loss: cross-entropy.
There is no augmentation: each epoch uses the same images. Metrics: ``f1_macro`` and ``f1_micro``.
The size of a row, which determines batches and memory, is the number of 16 × 16 pixel patches in
the model's input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.readers.archive import Content
from training.readers.strict_json import InvalidInput
from training.tasks.base import (
    Batch,
    Example,
    ExamplePreview,
    Loss,
    RowIssue,
    Task,
    TaskContext,
    TaskState,
    load_pretrained,
)
from training.tasks.support import images, labels
from training.tasks.support.images import ImageInput
from training.tasks.support.labels import Label

if TYPE_CHECKING:
    import torch


class ImageRow(ImageInput):
    """An image with its label."""

    label: Label


@dataclass(frozen=True, slots=True)
class ImageExample(Example):
    """An image, read and decoded at each use, because all images may not fit in memory."""

    content: Content
    label: str | None
    """None in requests for predictions."""


class ImageClassification(Task[ImageRow, ImageExample]):
    name = "image-classification"
    title = "The label of an image"
    row_schema = ImageRow
    route = "predictions"
    family = "vision"
    input_schema = ImageInput
    default_field = "image"
    file_field = "image"
    options = frozenset({"label_smoothing", "class_weights"})
    metrics = labels.METRICS

    def check_row(self, row: ImageRow) -> Iterator[RowIssue]:
        """Yield nothing; ``encode`` checks the image."""
        yield from ()

    def load_processor(self, directory: Path) -> Any:
        return images.load_processor(directory)

    def encode(self, rows: Sequence[ImageRow], processor: Any, max_length: int) -> list[ImageExample | RowIssue]:
        size = images.count_patches(processor)
        return [_build_example(row.image, row.label, size) for row in rows]

    def encode_inputs(
        self, inputs: Sequence[ImageInput], processor: Any, max_length: int
    ) -> list[ImageExample | RowIssue]:
        size = images.count_patches(processor)
        return [_build_example(item.image, None, size) for item in inputs]

    def prepare(self, examples: Sequence[ImageExample]) -> TaskState:
        return labels.count_labels(example.label for example in examples if example.label is not None)

    def update_state(self, state: TaskState, examples: Sequence[ImageExample]) -> TaskState:
        return labels.recount_labels(state, (example.label for example in examples if example.label is not None))

    def check_example(self, example: ImageExample, state: TaskState) -> RowIssue | None:
        if example.label in state["labels"]:
            return None
        assert example.label is not None
        return RowIssue("unknown_label", "label", labels.describe_unknown_label(example.label))

    def load_base_state(self, directory: Path) -> TaskState:
        return labels.load_base_labels(directory, "ImageClassification")

    def load_model(self, directory: Path, state: TaskState, dtype: torch.dtype) -> Any:
        """Load a model with a head for ``state["labels"]``.

        If the directory has no head or one for another number of labels, the head is initialized
        from torch's random generator.
        """
        from transformers import AutoModelForImageClassification

        config = labels.build_label_config(state["labels"]) | {"ignore_mismatched_sizes": True}
        return load_pretrained(AutoModelForImageClassification, directory, dtype, **config)

    def preview(self, example: ImageExample, state: TaskState) -> ExamplePreview:
        assert example.label is not None
        return ExamplePreview([], labels.preview_labels([example.label], state, False))

    def sum_weights(self, example: ImageExample, ctx: TaskContext) -> float:
        assert example.label is not None
        return labels.compute_class_weights(ctx)[labels.get_label_index(ctx, example.label)]

    def collate(self, examples: Sequence[ImageExample], ctx: TaskContext) -> Batch:
        return {"pixel_values": _load_pixels(examples, ctx), "truth_BL": _to_multi_hot(examples, ctx)}

    def compute_loss(self, model: Any, batch: Batch, ctx: TaskContext) -> Loss:
        return labels.single_label_loss(_compute_logits(model, batch["pixel_values"]), batch["truth_BL"], ctx)

    def compute_metrics(
        self, examples: Sequence[ImageExample], outputs: Sequence[torch.Tensor], ctx: TaskContext
    ) -> dict[str, float]:
        import torch

        return labels.compute_f1_scores(_to_multi_hot(examples, ctx), torch.stack(list(outputs)))

    def answer(
        self, model: Any, examples: Sequence[ImageExample], ctx: TaskContext, top_k: int
    ) -> list[dict[str, Any]]:
        """Return the ``top_k`` highest scores of each image by label, highest first."""
        import torch

        with torch.inference_mode():
            scores_BL = _compute_logits(model, _load_pixels(examples, ctx)).softmax(-1)
        return [
            {"label": next(iter(scores)), "scores": scores}
            for scores in labels.select_top_labels(scores_BL, ctx.state["labels"], top_k)
        ]


def _build_example(content: Content, label: str | None, size: int) -> ImageExample | RowIssue:
    """Build an example after a check that the image can be decoded."""
    try:
        images.decode(content)
    except InvalidInput as error:
        return RowIssue(error.code, "image", error.message)
    return ImageExample(size, False, content, label)


def _load_pixels(examples: Sequence[ImageExample], ctx: TaskContext) -> torch.Tensor:
    """Return the model's input (B, 3, H, W)."""
    return images.preprocess([images.decode(example.content) for example in examples], ctx.processor)


def _to_multi_hot(examples: Sequence[ImageExample], ctx: TaskContext) -> torch.Tensor:
    return labels.to_multi_hot(
        [[example.label] for example in examples if example.label is not None], ctx.state["labels"]
    )


def _compute_logits(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Return logits (B, L) float32."""
    logits: torch.Tensor = model(pixel_values=pixels.to(model.device, model.dtype)).logits
    return logits.float()
