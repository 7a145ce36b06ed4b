"""The label of a picture.

Row: ``{"image": "cats/1.png", "label": "cat"}``, the name of a file inside the uploaded zip, or the file's bytes in
base64, bare or as a data: URL. A zip of folders named by their label needs no rows.
Answer: ``{"label": "cat", "scores": {"cat": 0.98, …}}``.
Loss: cross-entropy; accuracy and F1 as of texts. No augmentation: each epoch sees the same pictures.
A row's size, which batches and memory are reckoned by, is the squares of 16 × 16 pixels that the model is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.readers.archive import Content
from training.readers.strict_json import Refused
from training.tasks.base import Batch, Example, Flaw, Kit, Loss, Shown, State, Task, load_auto
from training.tasks.support import images, labels
from training.tasks.support.images import Picture
from training.tasks.support.labels import Label

if TYPE_CHECKING:
    import torch


class PictureRow(Picture):
    """A picture with the label it should get."""

    label: Label


@dataclass(frozen=True, slots=True)
class PictureExample(Example):
    """A picture, read and decoded each time it is looked at: all of them may not fit memory."""

    content: Content
    label: str | None
    """None where it is asked for."""


class ImageClassification(Task[PictureRow, PictureExample]):
    name = "image-classification"
    title = "The label of a picture"
    row = PictureRow
    route = "predictions"
    family = "vision"
    input = Picture
    bare = "image"
    file_field = "image"
    options = frozenset({"label_smoothing", "class_weights"})
    measures = labels.MEASURES

    def check(self, row: PictureRow) -> Iterator[Flaw]:
        """Nothing: whether it is a picture, ``encode`` finds out."""
        yield from ()

    def load_processor(self, directory: Path) -> Any:
        return images.load_processor(directory)

    def encode(self, rows: Sequence[PictureRow], processor: Any, max_length: int) -> list[PictureExample | Flaw]:
        size = images.size_of(processor)
        return [_example(row.image, row.label, size) for row in rows]

    def encode_inputs(self, inputs: Sequence[Picture], processor: Any, max_length: int) -> list[PictureExample | Flaw]:
        size = images.size_of(processor)
        return [_example(one.image, None, size) for one in inputs]

    def prepare(self, examples: Sequence[PictureExample]) -> State:
        return labels.counted(example.label for example in examples if example.label is not None)

    def continued(self, state: State, examples: Sequence[PictureExample]) -> State:
        return labels.recounted(state, (example.label for example in examples if example.label is not None))

    def fits(self, example: PictureExample, state: State) -> Flaw | None:
        if example.label in state["labels"]:
            return None
        return Flaw("unknown_label", "label", f"No row of the training file has the label '{example.label}'.")

    def base_state(self, directory: Path) -> State:
        return labels.own_labels(directory, "ImageClassification")

    def load_model(self, directory: Path, state: State, dtype: torch.dtype) -> Any:
        """With a head for ``state["labels"]``; where the directory's is for another number of them, or lacks, it is
        drawn from torch's generator."""
        from transformers import AutoModelForImageClassification

        config = labels.config_of(state["labels"]) | {"ignore_mismatched_sizes": True}
        return load_auto(AutoModelForImageClassification, directory, dtype, **config)

    def shown(self, example: PictureExample, state: State) -> Shown:
        assert example.label is not None
        return Shown([], labels.shown([example.label], state, False))

    def weight(self, example: PictureExample, kit: Kit) -> float:
        assert example.label is not None
        return labels.class_weights(kit)[labels.index(kit, example.label)]

    def collate(self, examples: Sequence[PictureExample], kit: Kit) -> Batch:
        return {"pixel_values": _seen(examples, kit), "truth_BL": _truth(examples, kit)}

    def loss(self, model: Any, batch: Batch, kit: Kit) -> Loss:
        return labels.one_label_loss(_logits(model, batch["pixel_values"]), batch["truth_BL"], kit)

    def measure(self, examples: Sequence[PictureExample], found: Sequence[torch.Tensor], kit: Kit) -> dict[str, float]:
        import torch

        return labels.f1_scores(_truth(examples, kit), torch.stack(list(found)))

    def answer(self, model: Any, examples: Sequence[PictureExample], kit: Kit, top_k: int) -> list[dict[str, Any]]:
        """Scores of the ``top_k`` likeliest labels, likeliest first."""
        import torch

        with torch.inference_mode():
            scores_BL = _logits(model, _seen(examples, kit)).softmax(-1)
        return [
            {"label": next(iter(scores)), "scores": scores}
            for scores in labels.likeliest(scores_BL, kit.state["labels"], top_k)
        ]


def _example(content: Content, label: str | None, size: int) -> PictureExample | Flaw:
    """Decoded to know that it can be."""
    try:
        images.decode(content)
    except Refused as error:
        return Flaw(error.code, "image", error.message)
    return PictureExample(size, False, content, label)


def _seen(examples: Sequence[PictureExample], kit: Kit) -> torch.Tensor:
    """(B, 3, H, W)."""
    return images.pixels([images.decode(example.content) for example in examples], kit.processor)


def _truth(examples: Sequence[PictureExample], kit: Kit) -> torch.Tensor:
    return labels.truth([[example.label] for example in examples if example.label is not None], kit.state["labels"])


def _logits(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    """(B, L) fp32."""
    logits: torch.Tensor = model(pixel_values=pixels.to(model.device, model.dtype)).logits
    return logits.float()
