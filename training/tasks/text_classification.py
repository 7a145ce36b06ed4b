"""One label for a text, or for a pair of texts.

Row: ``{"text": "Where is my card?", "label": "card_arrival"}``, a pair with ``text_pair``.
Answer: ``{"label": "card_arrival", "scores": {"card_arrival": 0.98, …}}``.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints

from training.errors import TrainingError
from training.tasks.base import Batch, Example, Flaw, Loss, State, Task, load_auto, pad_right

if TYPE_CHECKING:
    import torch

Label = Annotated[str, StringConstraints(min_length=1, max_length=256, strip_whitespace=True)]
MAX_LABELS = 10_000


class Texts(BaseModel):
    """What is classified."""

    model_config = ConfigDict(extra="ignore")

    text: str
    text_pair: str | None = None


class ClassificationRow(Texts):
    """A text with the label it should get."""

    label: Label


@dataclass(frozen=True, slots=True)
class LabelExample(Example):
    types: array[int] | None
    """(T,) int32: 0 for the first text, 1 for the second; None where the model knows no types."""
    label: str


class TextClassification(Task[ClassificationRow, LabelExample]):
    name = "text-classification"
    title = "One label for a text or a pair of texts"
    row = ClassificationRow
    generative = False
    peft_type = "SEQ_CLS"

    def check(self, row: ClassificationRow) -> Iterator[Flaw]:
        if not row.text.strip():
            yield Flaw("empty_content", "text", "The text is empty; write one or leave the row out.")

    def encode(self, rows: Sequence[ClassificationRow], tokenizer: Any, max_length: int) -> list[LabelExample | Flaw]:
        return [
            LabelExample(ids, cut, types, row.label)
            for row, (ids, cut, types) in zip(rows, self._tokens(rows, tokenizer, max_length), strict=True)
        ]

    def encode_inputs(self, inputs: Sequence[Texts], tokenizer: Any, max_length: int) -> list[LabelExample]:
        """As ``encode``, for texts whose label is asked for."""
        return [LabelExample(ids, cut, types, "") for ids, cut, types in self._tokens(inputs, tokenizer, max_length)]

    def _tokens(
        self, texts: Sequence[Texts], tokenizer: Any, max_length: int
    ) -> Iterator[tuple[array[int], bool, array[int] | None]]:
        # Pairs and single texts may be mixed: the tokenizer takes only one kind at a time.
        encoded: dict[int, tuple[list[int], list[int] | None]] = {}
        for paired in (False, True):
            chosen = [index for index, row in enumerate(texts) if (row.text_pair is not None) == paired]
            if chosen:
                rows = [texts[index] for index in chosen]
                encoded |= dict(zip(chosen, _encode(rows, tokenizer, {}), strict=True))
        for index, row in enumerate(texts):
            ids, types = encoded[index]
            cut = len(ids) > max_length
            if cut:
                [(ids, types)] = _encode([row], tokenizer, {"truncation": True, "max_length": max_length})
            yield array("i", ids), cut, None if types is None else array("i", types)

    def prepare(self, examples: Sequence[LabelExample]) -> State:
        labels = sorted({example.label for example in examples})
        if len(labels) < 2:
            raise TrainingError(
                "invalid_dataset",
                f"Every row has the label '{labels[0]}'; a classifier needs rows of at least two labels.",
                "training_file",
            )
        if len(labels) > MAX_LABELS:
            raise TrainingError(
                "invalid_dataset",
                f"The file has {len(labels):,} labels, more than {MAX_LABELS:,}; is the right column the label?",
                "training_file",
            )
        return {"labels": labels}

    def fits(self, example: LabelExample, state: State) -> Flaw | None:
        if example.label in state["labels"]:
            return None
        return Flaw("unknown_label", "label", f"No row of the training file has the label '{example.label}'.")

    def base_state(self, directory: Path) -> State:
        """The labels of a base that is a classifier already."""
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(directory, local_files_only=True)
        if not any("SequenceClassification" in name for name in config.architectures or []):
            raise TrainingError(
                "base_model_unavailable",
                "This base model has no labels of its own: fine-tune it, and ask the tuned model.",
                "model",
            )
        return {"labels": [config.id2label[index] for index in range(config.num_labels)]}

    def load_model(self, directory: Path, state: State, dtype: torch.dtype) -> Any:
        """With a head for ``state["labels"]``; one that the directory lacks is drawn from torch's generator."""
        from transformers import AutoModelForSequenceClassification

        labels = dict(enumerate(state["labels"]))
        model = load_auto(
            AutoModelForSequenceClassification,
            directory,
            dtype,
            id2label=labels,
            label2id={label: index for index, label in labels.items()},
            num_labels=len(labels),
        )
        model.config.problem_type = "single_label_classification"
        return model

    def targets(self, example: LabelExample) -> int:
        return 1

    def weight(self, example: LabelExample) -> float:
        return 1.0

    def collate(self, examples: Sequence[LabelExample], state: State, pad: int) -> Batch:
        import torch

        index = {label: number for number, label in enumerate(state["labels"])}
        batch = _inputs(examples, pad)
        batch["targets_B"] = torch.tensor([index[example.label] for example in examples])
        return batch

    def loss(self, model: Any, batch: Batch, label_smoothing: float) -> Loss:
        from torch.nn.functional import cross_entropy

        inputs = {name: tensor for name, tensor in batch.items() if name != "targets_B"}
        logits_BL = model(**inputs).logits.float()
        total = cross_entropy(logits_BL, batch["targets_B"], reduction="sum", label_smoothing=label_smoothing)
        return Loss(total, (logits_BL.argmax(-1) == batch["targets_B"]).sum())

    def answer(
        self, model: Any, examples: Sequence[LabelExample], state: State, pad: int, top_k: int
    ) -> list[dict[str, Any]]:
        """``{label, scores}`` for each example, scores of the ``top_k`` likeliest labels, likeliest first."""
        import torch

        with torch.inference_mode():
            inputs = {name: tensor.to(model.device) for name, tensor in _inputs(examples, pad).items()}
            scores_BL = model(**inputs).logits.float().softmax(-1)
        best = scores_BL.topk(min(top_k, len(state["labels"])), dim=-1)
        answers = []
        for scores, indices in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            named = {state["labels"][index]: score for index, score in zip(indices, scores, strict=True)}
            answers.append({"label": next(iter(named)), "scores": named})
        return answers


def _encode(
    rows: Sequence[Texts], tokenizer: Any, options: dict[str, Any]
) -> Iterator[tuple[list[int], list[int] | None]]:
    """Token ids and types. A control token's name in a text is text: ``[SEP]`` there separates nothing."""
    pairs = None if rows[0].text_pair is None else [row.text_pair for row in rows]
    encoded = tokenizer([row.text for row in rows], pairs, split_special_tokens=True, **options)
    types = encoded.get("token_type_ids") or [None] * len(rows)
    yield from zip(encoded["input_ids"], types, strict=True)


def _inputs(examples: Sequence[LabelExample], pad: int) -> Batch:
    """The arguments of the model's forward, all (B, T)."""
    batch = {
        "input_ids": pad_right([example.ids for example in examples], pad),
        "attention_mask": pad_right([array("i", [1]) * len(example.ids) for example in examples], 0),
    }
    types = [example.types for example in examples if example.types is not None]
    if types:
        batch["token_type_ids"] = pad_right(types, 0)
    return batch
