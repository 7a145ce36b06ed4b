"""The label of a text or of a pair of texts, or all of its labels.

Row: ``{"text": "Where is my card?", "label": "card_arrival"}``, a pair with ``text_pair``. With ``labels`` (a list,
which may be empty) in place of ``label`` any number of them may fit; in CSV they are separated by ``|``.
Answer: ``{"label": "card_arrival", "scores": {"card_arrival": 0.98, …}}``; of many labels ``{"labels": […], "scores":
{…}}``, those of score ½ and more.
Loss: cross-entropy; of many labels the mean of their binary cross-entropies. Accuracy counts rows that are all right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

from training.errors import TrainingError
from training.tasks.base import Batch, Flaw, Kit, Loss, Part, Shown, State, Task, load_auto
from training.tasks.support import labels
from training.tasks.support.labels import Label
from training.tasks.support.text import EncoderExample, Texts, check_text, encode_texts, text_inputs

if TYPE_CHECKING:
    import torch


def _listed(value: object) -> object:
    """What a CSV cell can hold."""
    return [part for part in value.split("|") if part.strip()] if isinstance(value, str) else value


class ClassificationRow(Texts):
    """A text with the label, or all the labels, it should get."""

    label: Label | None = None
    labels: Annotated[list[Label], Field(max_length=1000), BeforeValidator(_listed)] | None = None


@dataclass(frozen=True, slots=True)
class LabelExample(EncoderExample):
    labels: tuple[str, ...]
    many: bool
    """Whether any number of labels may fit."""


class TextClassification(Task[ClassificationRow, LabelExample]):
    name = "text-classification"
    title = "The label of a text or of a pair of texts, or all of its labels"
    row = ClassificationRow
    route = "predictions"
    family = "discriminative"
    peft_type = "SEQ_CLS"
    input = Texts
    options = frozenset({"label_smoothing", "class_weights", "neftune_alpha"})
    measures = labels.MEASURES

    def check(self, row: ClassificationRow) -> Iterator[Flaw]:
        yield from check_text(row)
        if row.label is None and row.labels is None:
            yield Flaw("missing_field", "label", "The field is missing; add it, or a list of labels as 'labels'.")
        if row.label is not None and row.labels is not None:
            yield Flaw("wrong_value", "labels", "The row has 'label' and 'labels'; keep one of them.")

    def encode(self, rows: Sequence[ClassificationRow], processor: Any, max_length: int) -> list[LabelExample | Flaw]:
        return [
            _labelled(text, (row.label,) if row.label is not None else tuple(row.labels or ()), row.label is None)
            for row, text in zip(rows, encode_texts(rows, processor, max_length), strict=True)
        ]

    def encode_inputs(self, inputs: Sequence[Texts], processor: Any, max_length: int) -> list[LabelExample | Flaw]:
        return [_labelled(text, (), False) for text in encode_texts(inputs, processor, max_length)]

    def prepare(self, examples: Sequence[LabelExample]) -> State:
        kinds = {example.many for example in examples}
        if len(kinds) > 1:
            raise TrainingError(
                "invalid_dataset",
                "Some rows have 'label', others 'labels'; give all of them 'labels'.",
                "training_file",
            )
        [many] = kinds
        found = (label for example in examples for label in example.labels)
        return labels.counted(found, least=1 if many else 2) | {"many": many}

    def continued(self, state: State, examples: Sequence[LabelExample]) -> State:
        return labels.recounted(state, (label for example in examples for label in example.labels))

    def fits(self, example: LabelExample, state: State) -> Flaw | None:
        field = "labels" if state["many"] else "label"
        if example.many != state["many"]:
            return Flaw("wrong_value", field, f"Rows of the training file have '{field}'; give this one the same.")
        unknown = set(example.labels) - set(state["labels"])
        if unknown:
            return Flaw("unknown_label", field, f"No row of the training file has the label '{min(unknown)}'.")
        return None

    def base_state(self, directory: Path) -> State:
        return labels.own_labels(directory, "SequenceClassification") | {"many": False}

    def load_model(self, directory: Path, state: State, dtype: torch.dtype) -> Any:
        """With a head for ``state["labels"]``; one that the directory lacks is drawn from torch's generator."""
        from transformers import AutoModelForSequenceClassification

        model = load_auto(AutoModelForSequenceClassification, directory, dtype, **labels.config_of(state["labels"]))
        model.config.problem_type = "multi_label_classification" if state["many"] else "single_label_classification"
        return model

    def shown(self, example: LabelExample, state: State) -> Shown:
        return Shown([Part("input", example.ids)], labels.shown(example.labels, state, state["many"]))

    def weight(self, example: LabelExample, kit: Kit) -> float:
        if example.many:
            return 1.0
        [label] = example.labels
        return labels.class_weights(kit)[labels.index(kit, label)]

    def collate(self, examples: Sequence[LabelExample], kit: Kit) -> Batch:
        return text_inputs(examples, kit.pad) | {"truth_BL": _truth(examples, kit)}

    def loss(self, model: Any, batch: Batch, kit: Kit) -> Loss:
        inputs = {name: tensor for name, tensor in batch.items() if name != "truth_BL"}
        return _LOSSES[kit.state["many"]](model(**inputs).logits.float(), batch["truth_BL"], kit)

    def measure(self, examples: Sequence[LabelExample], found: Sequence[torch.Tensor], kit: Kit) -> dict[str, float]:
        import torch

        return labels.f1_scores(_truth(examples, kit), torch.stack(list(found)))

    def answer(self, model: Any, examples: Sequence[LabelExample], kit: Kit, top_k: int) -> list[dict[str, Any]]:
        """Scores of the ``top_k`` likeliest labels, likeliest first."""
        import torch

        with torch.inference_mode():
            inputs = {name: tensor.to(model.device) for name, tensor in text_inputs(examples, kit.pad).items()}
            logits_BL = model(**inputs).logits.float()
        many = kit.state.get("many", False)
        scores_BL = logits_BL.sigmoid() if many else logits_BL.softmax(-1)
        answers: list[dict[str, Any]] = []
        for scores in labels.likeliest(scores_BL, kit.state["labels"], top_k):
            fitting = [label for label, score in scores.items() if score >= 0.5]
            answers.append(
                {"labels": fitting, "scores": scores} if many else {"label": next(iter(scores)), "scores": scores}
            )
        return answers


def _labelled(text: EncoderExample, fitting: tuple[str, ...], many: bool) -> LabelExample:
    return LabelExample(text.size, text.cut, text.ids, text.types, fitting, many)


def _truth(examples: Sequence[LabelExample], kit: Kit) -> torch.Tensor:
    return labels.truth([example.labels for example in examples], kit.state["labels"])


def _many_labels(logits_BL: torch.Tensor, truth_BL: torch.Tensor, kit: Kit) -> Loss:
    from torch.nn.functional import binary_cross_entropy_with_logits

    # Binary cross-entropy's label smoothing: the truth is drawn towards a half.
    smoothed_BL = truth_BL.float() * (1 - kit.objective.label_smoothing) + kit.objective.label_smoothing / 2
    weights_L = logits_BL.new_tensor(labels.class_weights(kit))
    total = binary_cross_entropy_with_logits(logits_BL, smoothed_BL, weights_L, reduction="sum") / truth_BL.shape[-1]
    found_BL = logits_BL.detach() > 0
    return Loss(total, (found_BL == truth_BL).all(-1).sum(), found_BL)


_LOSSES = {False: labels.one_label_loss, True: _many_labels}
"""Whether many labels may fit -> the loss of logits (B, L) against truth (B, L)."""
