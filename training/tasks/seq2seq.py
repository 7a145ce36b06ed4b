"""Sequence-to-sequence generation, e.g. translation and summarization.

Row: ``{"source": "Good morning", "target": "God morgon"}``.
Output: ``{"text": "God morgon"}``, by greedy decoding.
Loss: cross-entropy of the target's tokens, including the end token. Accuracy counts tokens.
Metrics: BLEU (Papineni et al. 2002) and chrF (Popović 2015), computed by sacrebleu on at most 200
validation rows at the end of training.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from training.progress import Report
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
"""Maximum validation rows for which text is generated at the end of training."""
GENERATION_BATCH_SIZE = 32
DEFAULT_MAX_NEW_TOKENS = 256
"""Maximum generated tokens of an untuned base.

A tuned model generates at most its longest training target plus ``NEW_TOKENS_MARGIN`` tokens.
"""
NEW_TOKENS_MARGIN = 16
MAX_NEW_TOKENS = 1024


class SourceInput(BaseModel):
    """A source text."""

    model_config = ConfigDict(extra="ignore")

    source: str


class Seq2SeqRow(SourceInput):
    """A source text with its target text."""

    target: str


@dataclass(frozen=True, slots=True)
class Seq2SeqExample(Example):
    """An encoded pair. The target is empty in requests for predictions."""

    source_ids: array[int]
    """(T,) int32."""
    target_ids: array[int]
    """(U,) int32, with the end token unless the target was truncated."""
    reference: str
    """The target text of the row."""


class Seq2Seq(Task[Seq2SeqRow, Seq2SeqExample]):
    name = "seq2seq"
    title = "Text generated from another text, such as translations and summaries"
    row_schema = Seq2SeqRow
    example_type = Seq2SeqExample
    route = "predictions"
    family = "seq2seq"
    peft_task_type = "SEQ_2_SEQ_LM"
    auto_class = "AutoModelForSeq2SeqLM"
    input_schema = SourceInput
    default_field = "source"
    supports_feature_cache = False
    updates = frozenset({"lora", "full", "layers"})
    options = frozenset({"label_smoothing", "neftune_alpha"})

    def check_row(self, row: Seq2SeqRow) -> Iterator[RowIssue]:
        for field in ("source", "target"):
            if not getattr(row, field).strip():
                yield RowIssue("empty_content", field, "The text is empty; add text or remove the row.")

    def encode(self, rows: Sequence[Seq2SeqRow], processor: Any, max_length: int) -> list[Seq2SeqExample | RowIssue]:
        """Encode rows. Source and target are each truncated on the right to ``max_length``."""
        targets = processor(text_target=[row.target for row in rows], split_special_tokens=True)["input_ids"]
        examples: list[Seq2SeqExample | RowIssue] = []
        for row, (ids, truncated), target in zip(
            rows, _encode_sources(rows, processor, max_length), targets, strict=True
        ):
            if target[-1:] != [processor.eos_token_id]:
                target = [*target, processor.eos_token_id]
            target_ids = array("i", target[:max_length])
            truncated = truncated or len(target_ids) < len(target)
            examples.append(Seq2SeqExample(len(ids) + len(target_ids), truncated, ids, target_ids, row.target))
        return examples

    def encode_inputs(
        self, inputs: Sequence[SourceInput], processor: Any, max_length: int
    ) -> list[Seq2SeqExample | RowIssue]:
        return [
            Seq2SeqExample(len(ids), truncated, ids, array("i"), "")
            for ids, truncated in _encode_sources(inputs, processor, max_length)
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
        """Batch examples. ``labels`` (B, U) is padded with -100, as transformers' models expect."""
        return _collate_sources(examples, ctx) | {
            "labels": pad_right([example.target_ids for example in examples], -100)
        }

    def compute_loss(self, model: Any, batch: Batch, ctx: TaskContext) -> Loss:
        from torch.nn.functional import cross_entropy

        labels_BU = batch["labels"]
        target_mask_BU = labels_BU != -100
        targets_N, smoothing = labels_BU[target_mask_BU], ctx.objective.label_smoothing
        logits_NV = _compute_logits(model, batch, target_mask_BU).float()
        total = cross_entropy(logits_NV, targets_N, reduction="sum", label_smoothing=smoothing)
        return Loss(total, (logits_NV.detach().argmax(-1) == targets_N).sum())

    def final_metrics(
        self, model: Any, examples: Sequence[Seq2SeqExample], ctx: TaskContext, report: Report
    ) -> dict[str, float]:
        from sacrebleu import corpus_bleu, corpus_chrf

        chosen = sorted(examples[:MAX_METRIC_ROWS], key=lambda example: len(example.source_ids))
        texts: list[str] = []
        for start in range(0, len(chosen), GENERATION_BATCH_SIZE):
            report(start, len(chosen))
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
            generated = _generate(model, inputs, _get_max_new_tokens(model, ctx.state), ctx.processor.eos_token_id)
        texts = ctx.processor.batch_decode(generated, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return [{"text": text.strip()} for text in texts]


def _encode_sources(rows: Sequence[SourceInput], tokenizer: Any, max_length: int) -> Iterator[tuple[array[int], bool]]:
    """Yield the token ids of each source and whether they were truncated."""
    for encoded in encode_texts([TextInput(text=row.source) for row in rows], tokenizer, max_length):
        yield encoded.ids, encoded.truncated


def _collate_sources(examples: Sequence[Seq2SeqExample], ctx: TaskContext) -> Batch:
    """Batch the encoder's inputs, (B, T)."""
    return {
        "input_ids": pad_right([example.source_ids for example in examples], ctx.pad_token_id),
        "attention_mask": pad_right([array("i", [1]) * len(example.source_ids) for example in examples], 0),
    }


def _compute_logits(model: Any, batch: Batch, target_mask_BU: torch.Tensor) -> torch.Tensor:
    """Return logits (N, V) of the positions in ``target_mask_BU`` only.

    The output layer is the widest layer, so it skips padding. Targets are padded on the right, so
    the decoder's causal attention never reads padding.
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
    """Return the maximum tokens of a generated text; the decoder's position table bounds it."""
    limit: int = state.get("answer_tokens", DEFAULT_MAX_NEW_TOKENS)
    return min(limit, getattr(model.config, "max_position_embeddings", None) or limit)


def _generate(model: Any, inputs: Batch, max_new_tokens: int, eos_token_id: int) -> list[list[int]]:
    """Decode greedily until ``eos_token_id`` or ``max_new_tokens``. Padding is never generated.

    As in transformers, the generation config may name the first token (``forced_bos_token_id``),
    such as the language to translate into. Its ``max_length`` has no effect.
    """
    import torch

    encoded, mask_BT = model.get_encoder()(**inputs), inputs["attention_mask"]
    rows, config, first_token = len(mask_BT), model.config, model.generation_config.forced_bos_token_id
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
        chosen_B = logits_BV.argmax(-1)
        if first_token is not None and tokens_BU.shape[1] == 1:
            chosen_B = torch.full_like(chosen_B, first_token)
        next_B = torch.where(open_B, chosen_B, eos_token_id)
        open_B = open_B & (next_B != eos_token_id)
        tokens_BU = torch.cat([tokens_BU, next_B[:, None]], 1)
    return [row[1:] for row in tokens_BU.tolist()]
