"""The entities in a text: a tag for each of its words.

Row: ``{"tokens": ["Empire", "State", "Building", "=", "ESB"], "tags": ["B-location", "I-location", "I-location", "O",
"B-location"]}``, BIO; in CSV tokens and tags are separated by blanks. An ``I-`` that nothing of its kind comes before
begins an entity, as in seqeval. A word's tag is that of its first piece; words that the tokenizer gives no piece and
those beyond ``max_length`` are left out.
Asked: a text, whose words are then its runs of letters and digits and each of its marks, or ``{"tokens": […]}``.
Answer: ``{"entities": [{"label": "location", "start": 0, "end": 21, "text": "Empire State Building", "score":
0.97}]}``. ``start`` and ``end`` count characters (of tokens: joined by blanks), ``score`` is the mean probability of
its words' tags.
Loss: cross-entropy of each word; accuracy counts words.
Measures: precision, recall and F1 of whole entities, as of all rows together.
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
from training.tasks.support.text import EncoderExample, collate_texts

if TYPE_CHECKING:
    import torch

IGNORE_INDEX = -100
"""In the place of a tag: torch's own mark of what is no target."""


def _split_cell(value: object) -> object:
    """What a CSV cell can hold."""
    return value.split() if isinstance(value, str) else value


Token = Annotated[str, StringConstraints(min_length=1, max_length=10_000)]
Tokens = Annotated[list[Token], Field(min_length=1, max_length=100_000), BeforeValidator(_split_cell)]


class TaggedRow(BaseModel):
    """Words, each with its tag."""

    model_config = ConfigDict(extra="ignore")

    tokens: Tokens
    tags: Annotated[list[Label], Field(min_length=1, max_length=100_000), BeforeValidator(_split_cell)]


class WordsInput(BaseModel):
    """A text, or its words."""

    model_config = ConfigDict(extra="ignore")

    text: str | None = None
    tokens: Tokens | None = None

    @model_validator(mode="after")
    def _require_one_field(self) -> WordsInput:
        if (self.text is None) == (self.tokens is None):
            raise ValueError("give 'text' or 'tokens', one of the two")
        return self

    @property
    def words(self) -> Words:
        return join_tokens(self.tokens) if self.tokens is not None else split_words(self.text or "")


@dataclass(frozen=True, slots=True)
class WordsExample(EncoderExample):
    words: Words
    """Those that have a piece among ``ids``."""
    word_positions: array[int]
    """Position of each word's first piece, int32."""
    tags: tuple[str, ...]
    """Of each word; none where they are what is asked for."""


class TokenClassification(Task[TaggedRow, WordsExample]):
    name = "token-classification"
    title = "The entities in a text: a tag for each of its words"
    row_schema = TaggedRow
    route = "predictions"
    family = "discriminative"
    peft_type = "TOKEN_CLS"
    input_schema = WordsInput
    options = frozenset({"label_smoothing", "class_weights", "neftune_alpha"})
    metrics = METRICS

    def check_row(self, row: TaggedRow) -> Iterator[RowIssue]:
        if len(row.tokens) != len(row.tags):
            message = f"There are {len(row.tags)} tags for {len(row.tokens)} tokens; give each token one."
            yield RowIssue("wrong_value", "tags", message)
        for index, token in enumerate(row.tokens):
            if not token.strip():
                yield RowIssue("empty_content", f"tokens[{index}]", "The token is blank; leave it and its tag out.")
        yield from check_tags(row.tags)

    def encode(self, rows: Sequence[TaggedRow], processor: Any, max_length: int) -> list[WordsExample | RowIssue]:
        encoded = _encode_words(
            [join_tokens(row.tokens) for row in rows], [row.tags for row in rows], processor, max_length
        )
        unread = RowIssue(
            "no_target", "tokens", "The base model's tokenizer reads none of the words; leave the row out."
        )
        return [example if example.tags else unread for example in encoded]

    def encode_inputs(
        self, inputs: Sequence[WordsInput], processor: Any, max_length: int
    ) -> list[WordsExample | RowIssue]:
        return list(_encode_words([asked.words for asked in inputs], [()] * len(inputs), processor, max_length))

    def prepare(self, examples: Sequence[WordsExample]) -> TaskState:
        return count_tags(tag for example in examples for tag in example.tags)

    def update_state(self, state: TaskState, examples: Sequence[WordsExample]) -> TaskState:
        return labels.recount_labels(state, (tag for example in examples for tag in example.tags))

    def check_example(self, example: WordsExample, state: TaskState) -> RowIssue | None:
        unknown = set(example.tags) - set(state["labels"])
        message = f"No row of the training file has the tag '{min(unknown, default='')}'."
        return RowIssue("unknown_label", "tags", message) if unknown else None

    def load_base_state(self, directory: Path) -> TaskState:
        state = labels.load_base_labels(directory, "TokenClassification")
        other = next((label for label in state["labels"] if not TAG_PATTERN.fullmatch(label)), None)
        if other is not None:
            message = f"This base model's label '{other}' is no BIO tag: fine-tune it, and ask the tuned model."
            raise TrainingError("base_model_unavailable", message, "model")
        return state

    def load_model(self, directory: Path, state: TaskState, dtype: torch.dtype) -> Any:
        from transformers import AutoModelForTokenClassification

        return load_pretrained(
            AutoModelForTokenClassification, directory, dtype, **labels.build_label_config(state["labels"])
        )

    def preview(self, example: WordsExample, state: TaskState) -> ExamplePreview:
        learnt = set(example.word_positions)
        weights = [float(place in learnt) for place in range(len(example.ids))]
        return ExamplePreview(
            [TokenSegment("input", example.ids, weights)], labels.preview_labels(example.tags, state, True)
        )

    def count_targets(self, example: WordsExample) -> int:
        return len(example.tags)

    def sum_weights(self, example: WordsExample, ctx: TaskContext) -> float:
        weights = dict(zip(ctx.state["labels"], labels.compute_class_weights(ctx), strict=True))
        return float(sum(weights[tag] for tag in example.tags))

    def collate(self, examples: Sequence[WordsExample], ctx: TaskContext) -> Batch:
        """The model's inputs; of W words of each row where they stand and which tag they have."""
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
        found_BW = logits_BWL.detach().argmax(-1)
        total = (losses_BW * weights_L[tags_BW.clamp(min=0)]).sum()
        return Loss(total, (found_BW == tags_BW).sum(), found_BW)

    def compute_metrics(
        self, examples: Sequence[WordsExample], outputs: Sequence[torch.Tensor], ctx: TaskContext
    ) -> dict[str, float]:
        names = ctx.state["labels"]
        made = [
            [names[tag] for tag in found_W[: len(example.tags)].tolist()]
            for example, found_W in zip(examples, outputs, strict=True)
        ]
        return score_entities([example.tags for example in examples], made)

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
    """In order. The same text is read in training and in answering; a control token's name in it is text."""
    options = {"split_special_tokens": True, "return_offsets_mapping": True}
    whole = tokenizer([row.text for row in rows], **options)
    for number, row in enumerate(rows):
        ids, offsets = whole["input_ids"][number], whole["offset_mapping"][number]
        cut = len(ids) > max_length
        if cut:
            short = tokenizer(row.text, truncation=True, max_length=max_length, **options)
            ids, offsets = short["input_ids"], short["offset_mapping"]
        kept = [(word, at) for word, at in enumerate(align_words(row.spans, offsets)) if at is not None]
        yield WordsExample(
            size=len(ids),
            truncated=cut,
            ids=array("i", ids),
            token_type_ids=array("i", bytes(4 * len(ids))) if "token_type_ids" in whole else None,
            words=Words(row.text, [row.spans[word] for word, _ in kept]),
            # A row without words has one place too, which is passed over.
            word_positions=array("i", [at for _, at in kept] or [0]),
            tags=tuple(tags[number][word] for word, _ in kept) if tags[number] else (),
        )


def _collate_inputs(examples: Sequence[WordsExample], ctx: TaskContext) -> Batch:
    """Places are padded with 0: any will do, as what stands there is passed over."""
    return collate_texts(examples, ctx.pad_token_id) | {
        "places_BW": pad_right([example.word_positions for example in examples], 0)
    }


def _compute_word_logits(model: Any, batch: Batch) -> torch.Tensor:
    """(B, W, L) float32: of the words' first pieces."""
    logits_BTL = model(**{name: tensor for name, tensor in batch.items() if name.islower()}).logits.float()
    places_BW1 = batch["places_BW"][..., None]
    found: torch.Tensor = logits_BTL.gather(1, places_BW1.expand(-1, -1, logits_BTL.shape[-1]))
    return found


def _build_entities(words: Words, tags: Sequence[str], scores: Sequence[float]) -> Iterator[dict[str, Any]]:
    """``tags`` and ``scores`` may be longer than the words: padding."""
    for label, first, end in extract_entities(tags[: len(words.spans)]):
        start, stop = words.spans[first][0], words.spans[end - 1][1]
        score = sum(scores[first:end]) / (end - first)
        yield {"label": label, "start": start, "end": stop, "text": words.text[start:stop], "score": score}
