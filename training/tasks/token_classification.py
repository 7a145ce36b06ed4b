"""Named-entity recognition: a BIO tag for each word of a text.

Row: ``{"tokens": ["Empire", "State", "Building", "=", "ESB"], "tags": ["B-location", "I-location",
"I-location", "O", "B-location"]}``. In CSV, spaces separate tokens and tags. An ``I-`` tag that
does not follow a tag of its kind begins an entity, as in seqeval. A word's tag is predicted at its
first token. Words without tokens and words beyond ``max_length`` are ignored. Input: a text or
``{"tokens": […]}``. The words of a text are its runs of letters and digits, and each punctuation
mark. Output: ``{"entities": [{"label": "location", "start": 0, "end": 21, "text": "Empire State
Building", "score": 0.97}]}``. ``start`` and ``end`` count characters (of the tokens joined by
spaces, if tokens are given). ``score`` is the mean probability of the entity's tags. Loss:
cross-entropy of each word. Accuracy counts words. Metrics: precision, recall and F1 of complete
entities over all rows.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from training.errors import TrainingError
from training.tasks.base import (
    Batch,
    ExamplePreview,
    Loss,
    RowIssue,
    Task,
    TaskContext,
    TaskState,
    TokenSegment,
    load_pretrained,
    pad_right,
)
from training.tasks.support import labels
from training.tasks.support.entities import (
    METRICS,
    TAG_PATTERN,
    Words,
    align_words,
    check_tags,
    count_tags,
    extract_entities,
    join_tokens,
    score_entities,
    split_words,
)
from training.tasks.support.labels import Label
from training.tasks.support.sequence import load_padded_tokenizer
from training.tasks.support.text import EncoderExample, collate_texts, reject_empty_text

if TYPE_CHECKING:
    import torch

IGNORE_INDEX = -100
"""Replaces a tag at positions that are not targets; the default ``ignore_index`` of torch."""


def _split_cell(value: object) -> object:
    """Split the text of a CSV cell at spaces."""
    return value.split() if isinstance(value, str) else value


Token = Annotated[str, StringConstraints(min_length=1, max_length=10_000)]
Tokens = Annotated[list[Token], Field(min_length=1, max_length=100_000), BeforeValidator(_split_cell)]


class TaggedRow(BaseModel):
    """Words with their tags."""

    model_config = ConfigDict(extra="ignore")

    tokens: Tokens
    tags: Annotated[list[Label], Field(min_length=1, max_length=100_000), BeforeValidator(_split_cell)]


class WordsInput(BaseModel):
    """A text or its words."""

    model_config = ConfigDict(extra="ignore")

    text: str | None = None
    tokens: Tokens | None = None

    @model_validator(mode="after")
    def _require_one_field(self) -> WordsInput:
        if (self.text is None) == (self.tokens is None):
            raise ValueError("give exactly one of 'text' and 'tokens'")
        return self

    @property
    def words(self) -> Words:
        return join_tokens(self.tokens) if self.tokens is not None else split_words(self.text or "")


@dataclass(frozen=True, slots=True)
class WordsExample(EncoderExample):
    """An encoded sequence of words."""

    words: Words
    """Words that have a token in ``ids``."""
    word_positions: array[int]
    """Position of each word's first token, int32."""
    tags: tuple[str, ...]
    """Tag of each word. Empty in requests for predictions."""


class TokenClassification(Task[TaggedRow, WordsExample]):
    name = "token-classification"
    title = "The entities in a text, by a tag for each word"
    row_schema = TaggedRow
    example_type = WordsExample
    route = "predictions"
    family = "discriminative"
    peft_task_type = "TOKEN_CLS"
    auto_class = "AutoModelForTokenClassification"
    input_schema = WordsInput
    options = frozenset({"label_smoothing", "class_weights", "neftune_alpha"})
    metrics = METRICS

    def check_row(self, row: TaggedRow) -> Iterator[RowIssue]:
        if len(row.tokens) != len(row.tags):
            message = f"There are {len(row.tags)} tags for {len(row.tokens)} tokens; give each token one tag."
            yield RowIssue("wrong_value", "tags", message)
        for index, token in enumerate(row.tokens):
            if not token.strip():
                yield RowIssue("empty_content", f"tokens[{index}]", "The token is blank; remove it and its tag.")
        yield from check_tags(row.tags)

    def load_processor(self, directory: Path) -> Any:
        return load_padded_tokenizer(directory)

    def encode(self, rows: Sequence[TaggedRow], processor: Any, max_length: int) -> list[WordsExample | RowIssue]:
        encoded = _encode_words(
            [join_tokens(row.tokens) for row in rows], [row.tags for row in rows], processor, max_length
        )
        no_words = RowIssue(
            "no_target", "tokens", "The base model's tokenizer finds no tokens in these words; remove the row."
        )
        return [example if example.tags else no_words for example in encoded]

    def encode_inputs(
        self, inputs: Sequence[WordsInput], processor: Any, max_length: int
    ) -> list[WordsExample | RowIssue]:
        encoded = _encode_words([item.words for item in inputs], [()] * len(inputs), processor, max_length)
        return [reject_empty_text(example) or example for example in encoded]

    def prepare(self, examples: Sequence[WordsExample]) -> TaskState:
        return count_tags(tag for example in examples for tag in example.tags)

    def update_state(self, state: TaskState, examples: Sequence[WordsExample]) -> TaskState:
        return labels.recount_labels(state, (tag for example in examples for tag in example.tags))

    def check_example(self, example: WordsExample, state: TaskState) -> RowIssue | None:
        unknown = set(example.tags) - set(state["labels"])
        message = (
            f"The training file has no tag '{min(unknown, default='')}'; correct the tag or add rows that have it."
        )
        return RowIssue("unknown_label", "tags", message) if unknown else None

    def load_base_state(self, directory: Path) -> TaskState:
        state = labels.load_base_labels(directory, "TokenClassification")
        invalid = next((label for label in state["labels"] if not TAG_PATTERN.fullmatch(label)), None)
        if invalid is not None:
            message = f"This base model's label '{invalid}' is not a BIO tag; fine-tune it and use the tuned model."
            raise TrainingError("base_model_unavailable", message, "model")
        return state

    def load_model(self, directory: Path, state: TaskState, dtype: torch.dtype) -> Any:
        from transformers import AutoModelForTokenClassification

        return load_pretrained(
            AutoModelForTokenClassification, directory, dtype, **labels.build_label_config(state["labels"])
        )

    def preview(self, example: WordsExample, state: TaskState) -> ExamplePreview:
        targets = set(example.word_positions)
        weights = [float(position in targets) for position in range(len(example.ids))]
        return ExamplePreview(
            [TokenSegment("input", example.ids, weights)], labels.preview_labels(example.tags, state, True)
        )

    def count_targets(self, example: WordsExample) -> int:
        return len(example.tags)

    def sum_weights(self, example: WordsExample, ctx: TaskContext) -> float:
        weights = dict(zip(ctx.state["labels"], labels.compute_class_weights(ctx), strict=True))
        return float(sum(weights[tag] for tag in example.tags))

    def collate(self, examples: Sequence[WordsExample], ctx: TaskContext) -> Batch:
        """Batch the model's inputs with the positions and tags of W words per row."""
        index = {label: number for number, label in enumerate(ctx.state["labels"])}
        tags = [array("i", [index[tag] for tag in example.tags]) for example in examples]
        return _collate_inputs(examples, ctx) | {"tags_BW": pad_right(tags, IGNORE_INDEX)}

    def compute_loss(self, model: Any, batch: Batch, ctx: TaskContext) -> Loss:
        from torch.nn.functional import cross_entropy

        tags_BW, logits_BWL = batch["tags_BW"], _compute_word_logits(model, batch)
        weights_L = logits_BWL.new_tensor(labels.compute_class_weights(ctx))
        losses_BW = cross_entropy(
            logits_BWL.mT,
            tags_BW,
            reduction="none",
            ignore_index=IGNORE_INDEX,
            label_smoothing=ctx.objective.label_smoothing,
        )
        predicted_BW = logits_BWL.detach().argmax(-1)
        total = (losses_BW * weights_L[tags_BW.clamp(min=0)]).sum()
        return Loss(total, (predicted_BW == tags_BW).sum(), predicted_BW)

    def compute_metrics(
        self, examples: Sequence[WordsExample], outputs: Sequence[torch.Tensor], ctx: TaskContext
    ) -> dict[str, float]:
        names = ctx.state["labels"]
        predicted = [
            [names[tag] for tag in tags_W[: len(example.tags)].tolist()]
            for example, tags_W in zip(examples, outputs, strict=True)
        ]
        return score_entities([example.tags for example in examples], predicted)

    def answer(
        self, model: Any, examples: Sequence[WordsExample], ctx: TaskContext, top_k: int
    ) -> list[dict[str, Any]]:
        import torch

        with torch.inference_mode():
            batch = {name: tensor.to(model.device) for name, tensor in _collate_inputs(examples, ctx).items()}
            best = _compute_word_logits(model, batch).softmax(-1).max(-1)
        rows = zip(examples, best.values.tolist(), best.indices.tolist(), strict=True)
        return [
            {"entities": list(_build_entities(example.words, [ctx.state["labels"][tag] for tag in tags], scores))}
            for example, scores, tags in rows
        ]


def _encode_words(
    rows: Sequence[Words], tags: Sequence[Sequence[str]], tokenizer: Any, max_length: int
) -> Iterator[WordsExample]:
    """Encode rows in order. A control token's name in a text is plain text.

    Training and predictions encode the same text.
    """
    options = {"split_special_tokens": True, "return_offsets_mapping": True}
    encoded = tokenizer([row.text for row in rows], **options)
    for number, row in enumerate(rows):
        ids, offsets = encoded["input_ids"][number], encoded["offset_mapping"][number]
        truncated = len(ids) > max_length
        if truncated:
            shortened = tokenizer(row.text, truncation=True, max_length=max_length, **options)
            ids, offsets = shortened["input_ids"], shortened["offset_mapping"]
        aligned = [(word, at) for word, at in enumerate(align_words(row.spans, offsets)) if at is not None]
        yield WordsExample(
            size=len(ids),
            truncated=truncated,
            ids=array("i", ids),
            token_type_ids=array("i", bytes(4 * len(ids))) if "token_type_ids" in encoded else None,
            words=Words(row.text, [row.spans[word] for word, _ in aligned]),
            # A row without words gets one position too, which is ignored.
            word_positions=array("i", [at for _, at in aligned] or [0]),
            tags=tuple(tags[number][word] for word, _ in aligned) if tags[number] else (),
        )


def _collate_inputs(examples: Sequence[WordsExample], ctx: TaskContext) -> Batch:
    """Batch the model's inputs. Positions are padded with 0; logits at padding are ignored."""
    return collate_texts(examples, ctx.pad_token_id) | {
        "positions_BW": pad_right([example.word_positions for example in examples], 0)
    }


def _compute_word_logits(model: Any, batch: Batch) -> torch.Tensor:
    """Return logits (B, W, L) float32 at the words' first tokens."""
    logits_BTL = model(**{name: tensor for name, tensor in batch.items() if name.islower()}).logits.float()
    positions_BW1 = batch["positions_BW"][..., None]
    word_logits_BWL: torch.Tensor = logits_BTL.gather(1, positions_BW1.expand(-1, -1, logits_BTL.shape[-1]))
    return word_logits_BWL


def _build_entities(words: Words, tags: Sequence[str], scores: Sequence[float]) -> Iterator[dict[str, Any]]:
    """Yield the entities of a text. ``tags`` and ``scores`` may end with padding."""
    for label, first, end in extract_entities(tags[: len(words.spans)]):
        start, stop = words.spans[first][0], words.spans[end - 1][1]
        score = sum(scores[first:end]) / (end - first)
        yield {"label": label, "start": start, "end": stop, "text": words.text[start:stop], "score": score}
