"""One text made from another: translation, summarisation.

Row: ``{"source": "Good morning", "target": "God morgon"}``.
Answer: ``{"text": "God morgon"}``, the likeliest token each time.
Loss: cross-entropy of the target's tokens, its end included; accuracy counts tokens.
Metrics, at the end, of at most 200 validation rows: BLEU (Papineni et al. 2002) and chrF (Popović 2015), by sacrebleu.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from training.tasks.base import (
    Batch,
    Example,
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
from training.tasks.support.text import TextInput, encode_texts

if TYPE_CHECKING:
    import torch

MAX_METRIC_ROWS = 200
"""Rows that are written out at the end."""
GENERATION_BATCH_SIZE = 32
DEFAULT_MAX_NEW_TOKENS = 256
"""At most, of a base that was not tuned; of a tuned one the longest target it was trained on and ``MARGIN`` tokens."""
NEW_TOKENS_MARGIN = 16
MAX_NEW_TOKENS = 1024


class SourceInput(BaseModel):
    """What is read."""

    model_config = ConfigDict(extra="ignore")

    source: str


class Seq2SeqRow(SourceInput):
    """A text and what should be made of it."""

    target: str


@dataclass(frozen=True, slots=True)
class Seq2SeqExample(Example):
    """A text and what should be made of it; without a target it is asked for."""

    source_ids: array[int]
    """(T,) int32."""
    target_ids: array[int]
    """(U,) int32, its end included unless it was cut."""
    reference: str
    """The target as it was written."""


class Seq2Seq(Task[Seq2SeqRow, Seq2SeqExample]):
    name = "seq2seq"
    title = "One text made from another: translation, summarisation"
    row_schema = Seq2SeqRow
    route = "predictions"
    family = "seq2seq"
    peft_type = "SEQ_2_SEQ_LM"
    input_schema = SourceInput
    default_field = "source"
    cacheable = False
    updates = frozenset({"lora", "full", "layers"})
    options = frozenset({"label_smoothing", "neftune_alpha"})

    def check_row(self, row: Seq2SeqRow) -> Iterator[RowIssue]:
        for field in ("source", "target"):
            if not getattr(row, field).strip():
                yield RowIssue("empty_content", field, "The text is empty; write one or leave the row out.")

    def encode(self, rows: Sequence[Seq2SeqRow], processor: Any, max_length: int) -> list[Seq2SeqExample | RowIssue]:
        """Source and target are each cut on the right, at ``max_length`` tokens."""
        targets = processor(text_target=[row.target for row in rows], split_special_tokens=True)["input_ids"]
        examples: list[Seq2SeqExample | RowIssue] = []
        for row, (ids, cut), target in zip(rows, _encode_sources(rows, processor, max_length), targets, strict=True):
            if target[-1:] != [processor.eos_token_id]:
                target = [*target, processor.eos_token_id]
            kept = array("i", target[:max_length])
            cut = cut or len(kept) < len(target)
            examples.append(Seq2SeqExample(len(ids) + len(kept), cut, ids, kept, row.target))
        return examples

    def encode_inputs(
        self, inputs: Sequence[SourceInput], processor: Any, max_length: int
    ) -> list[Seq2SeqExample | RowIssue]:
        return [
            Seq2SeqExample(len(ids), cut, ids, array("i"), "")
            for ids, cut in _encode_sources(inputs, processor, max_length)
        ]

    def prepare(self, examples: Sequence[Seq2SeqExample]) -> TaskState:
        longest = max(len(example.target_ids) for example in examples)
        return {"answer_tokens": min(longest + NEW_TOKENS_MARGIN, MAX_NEW_TOKENS)}

    def load_model(self, directory: Path, state: TaskState, dtype: torch.dtype) -> Any:
        from transformers import AutoModelForSeq2SeqLM

        return load_pretrained(AutoModelForSeq2SeqLM, directory, dtype)

    def preview(self, example: Seq2SeqExample, state: TaskState) -> ExamplePreview:
        return ExamplePreview(
            [
                TokenSegment("source", example.source_ids),
                TokenSegment("target", example.target_ids, [1.0] * len(example.target_ids)),
            ]
        )

    def count_targets(self, example: Seq2SeqExample) -> int:
        return len(example.target_ids)

    def sum_weights(self, example: Seq2SeqExample, ctx: TaskContext) -> float:
        return len(example.target_ids)

    def collate(self, examples: Sequence[Seq2SeqExample], ctx: TaskContext) -> Batch:
        """``labels`` (B, U) has -100 behind a row's end, as transformers' models expect."""
        return _collate_sources(examples, ctx) | {
            "labels": pad_right([example.target_ids for example in examples], -100)
        }

    def compute_loss(self, model: Any, batch: Batch, ctx: TaskContext) -> Loss:
        from torch.nn.functional import cross_entropy

        labels_BU = batch["labels"]
        learnt_BU = labels_BU != -100
        targets_N, smoothing = labels_BU[learnt_BU], ctx.objective.label_smoothing
        logits_NV = _compute_logits(model, batch, learnt_BU).float()
        total = cross_entropy(logits_NV, targets_N, reduction="sum", label_smoothing=smoothing)
        return Loss(total, (logits_NV.detach().argmax(-1) == targets_N).sum())

    def final_metrics(self, model: Any, examples: Sequence[Seq2SeqExample], ctx: TaskContext) -> dict[str, float]:
        from sacrebleu import corpus_bleu, corpus_chrf

        chosen = sorted(examples[:MAX_METRIC_ROWS], key=lambda example: len(example.source_ids))
        texts: list[str] = []
        for start in range(0, len(chosen), GENERATION_BATCH_SIZE):
            answers = self.answer(model, chosen[start : start + GENERATION_BATCH_SIZE], ctx, 1)
            texts += [answer["text"] for answer in answers]
        references = [[example.reference for example in chosen]]
        return {"bleu": corpus_bleu(texts, references).score, "chrf": corpus_chrf(texts, references).score}

    def answer(
        self, model: Any, examples: Sequence[Seq2SeqExample], ctx: TaskContext, top_k: int
    ) -> list[dict[str, Any]]:
        import torch

        with torch.inference_mode():
            inputs = {name: tensor.to(model.device) for name, tensor in _collate_sources(examples, ctx).items()}
            written = _generate(model, inputs, _get_max_new_tokens(model, ctx.state), ctx.processor.eos_token_id)
        texts = ctx.processor.batch_decode(written, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return [{"text": text.strip()} for text in texts]


def _encode_sources(rows: Sequence[SourceInput], tokenizer: Any, max_length: int) -> Iterator[tuple[array[int], bool]]:
    """Ids, and whether they were cut."""
    for encoded in encode_texts([TextInput(text=row.source) for row in rows], tokenizer, max_length):
        yield encoded.ids, encoded.truncated


def _collate_sources(examples: Sequence[Seq2SeqExample], ctx: TaskContext) -> Batch:
    """What the encoder is given, (B, T)."""
    return {
        "input_ids": pad_right([example.source_ids for example in examples], ctx.pad_token_id),
        "attention_mask": pad_right([array("i", [1]) * len(example.source_ids) for example in examples], 0),
    }


def _compute_logits(model: Any, batch: Batch, target_mask_BU: torch.Tensor) -> torch.Tensor:
    """(N, V), of the positions of ``learnt_BU`` only: the output layer is the widest, and padding would be thrown away.

    Targets are padded on the right, so the decoder's causal attention never looks at padding.
    """
    shifted_BU = model.prepare_decoder_input_ids_from_labels(labels=batch["labels"])
    handle = model.get_output_embeddings().register_forward_pre_hook(
        lambda layer, hidden: (hidden[0][target_mask_BU], *hidden[1:])
    )
    try:
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        logits: torch.Tensor = model(**inputs, decoder_input_ids=shifted_BU, use_cache=False).logits
    finally:
        handle.remove()
    return logits


def _get_max_new_tokens(model: Any, state: TaskState) -> int:
    """Tokens of an answer; a decoder with a table of positions has no more than those."""
    most: int = state.get("answer_tokens", DEFAULT_MAX_NEW_TOKENS)
    return min(most, getattr(model.config, "max_position_embeddings", None) or most)


def _generate(model: Any, inputs: Batch, max_new_tokens: int, eos_token_id: int) -> list[list[int]]:
    """The likeliest token each time, until ``end`` or ``most`` of them. Padding is no answer to anything."""
    import torch

    encoded, mask_BT = model.get_encoder()(**inputs), inputs["attention_mask"]
    rows, config = len(mask_BT), model.config
    tokens_BU = torch.full((rows, 1), config.decoder_start_token_id, device=mask_BT.device)
    open_B, cache = torch.ones(rows, dtype=torch.bool, device=mask_BT.device), None
    while tokens_BU.shape[1] <= max_new_tokens and bool(open_B.any()):
        out = model(
            encoder_outputs=encoded,
            attention_mask=mask_BT,
            decoder_input_ids=tokens_BU[:, -1:],
            past_key_values=cache,
            use_cache=True,
        )
        cache, logits_BV = out.past_key_values, out.logits[:, -1].float()
        if config.pad_token_id not in (None, eos_token_id):
            logits_BV[:, config.pad_token_id] = -torch.inf
        next_B = torch.where(open_B, logits_BV.argmax(-1), eos_token_id)
        open_B = open_B & (next_B != eos_token_id)
        tokens_BU = torch.cat([tokens_BU, next_B[:, None]], 1)
    return [row[1:] for row in tokens_BU.tolist()]
