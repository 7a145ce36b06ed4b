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

from training.tasks.base import Batch, Example, Flaw, Kit, Loss, Part, Shown, State, Task, load_auto, pad_right
from training.tasks.support.text import Texts, encode_texts

if TYPE_CHECKING:
    import torch

EXAMINED = 200
"""Rows that are written out at the end."""
WRITTEN_TOGETHER = 32
ANSWER_TOKENS = 256
"""At most, of a base that was not tuned; of a tuned one the longest target it was trained on and ``MARGIN`` tokens."""
MARGIN = 16
MAX_ANSWER_TOKENS = 1024


class Source(BaseModel):
    """What is read."""

    model_config = ConfigDict(extra="ignore")

    source: str


class PairRow(Source):
    """A text and what should be made of it."""

    target: str


@dataclass(frozen=True, slots=True)
class PairExample(Example):
    """A text and what should be made of it; without a target it is asked for."""

    source: array[int]
    """(T,) int32."""
    target: array[int]
    """(U,) int32, its end included unless it was cut."""
    reference: str
    """The target as it was written."""


class Seq2Seq(Task[PairRow, PairExample]):
    name = "seq2seq"
    title = "One text made from another: translation, summarisation"
    row = PairRow
    route = "predictions"
    family = "seq2seq"
    peft_type = "SEQ_2_SEQ_LM"
    input = Source
    bare = "source"
    cacheable = False
    updates = frozenset({"lora", "full", "layers"})
    options = frozenset({"label_smoothing", "neftune_alpha"})

    def check(self, row: PairRow) -> Iterator[Flaw]:
        for field in ("source", "target"):
            if not getattr(row, field).strip():
                yield Flaw("empty_content", field, "The text is empty; write one or leave the row out.")

    def encode(self, rows: Sequence[PairRow], processor: Any, max_length: int) -> list[PairExample | Flaw]:
        """Source and target are each cut on the right, at ``max_length`` tokens."""
        targets = processor(text_target=[row.target for row in rows], split_special_tokens=True)["input_ids"]
        examples: list[PairExample | Flaw] = []
        for row, (ids, cut), target in zip(rows, _sources(rows, processor, max_length), targets, strict=True):
            if target[-1:] != [processor.eos_token_id]:
                target = [*target, processor.eos_token_id]
            kept = array("i", target[:max_length])
            cut = cut or len(kept) < len(target)
            examples.append(PairExample(len(ids) + len(kept), cut, ids, kept, row.target))
        return examples

    def encode_inputs(self, inputs: Sequence[Source], processor: Any, max_length: int) -> list[PairExample | Flaw]:
        return [PairExample(len(ids), cut, ids, array("i"), "") for ids, cut in _sources(inputs, processor, max_length)]

    def prepare(self, examples: Sequence[PairExample]) -> State:
        longest = max(len(example.target) for example in examples)
        return {"answer_tokens": min(longest + MARGIN, MAX_ANSWER_TOKENS)}

    def load_model(self, directory: Path, state: State, dtype: torch.dtype) -> Any:
        from transformers import AutoModelForSeq2SeqLM

        return load_auto(AutoModelForSeq2SeqLM, directory, dtype)

    def shown(self, example: PairExample, state: State) -> Shown:
        return Shown([Part("source", example.source), Part("target", example.target, [1.0] * len(example.target))])

    def targets(self, example: PairExample) -> int:
        return len(example.target)

    def weight(self, example: PairExample, kit: Kit) -> float:
        return len(example.target)

    def collate(self, examples: Sequence[PairExample], kit: Kit) -> Batch:
        """``labels`` (B, U) has -100 behind a row's end, as transformers' models expect."""
        return _read(examples, kit) | {"labels": pad_right([example.target for example in examples], -100)}

    def loss(self, model: Any, batch: Batch, kit: Kit) -> Loss:
        from torch.nn.functional import cross_entropy

        labels_BU = batch["labels"]
        learnt_BU = labels_BU != -100
        targets_N, smoothing = labels_BU[learnt_BU], kit.objective.label_smoothing
        logits_NV = _logits(model, batch, learnt_BU).float()
        total = cross_entropy(logits_NV, targets_N, reduction="sum", label_smoothing=smoothing)
        return Loss(total, (logits_NV.detach().argmax(-1) == targets_N).sum())

    def examine(self, model: Any, examples: Sequence[PairExample], kit: Kit) -> dict[str, float]:
        from sacrebleu import corpus_bleu, corpus_chrf

        chosen = sorted(examples[:EXAMINED], key=lambda example: len(example.source))
        texts: list[str] = []
        for start in range(0, len(chosen), WRITTEN_TOGETHER):
            answers = self.answer(model, chosen[start : start + WRITTEN_TOGETHER], kit, 1)
            texts += [answer["text"] for answer in answers]
        references = [[example.reference for example in chosen]]
        return {"bleu": corpus_bleu(texts, references).score, "chrf": corpus_chrf(texts, references).score}

    def answer(self, model: Any, examples: Sequence[PairExample], kit: Kit, top_k: int) -> list[dict[str, Any]]:
        import torch

        with torch.inference_mode():
            inputs = {name: tensor.to(model.device) for name, tensor in _read(examples, kit).items()}
            written = _written(model, inputs, _most(model, kit.state), kit.processor.eos_token_id)
        texts = kit.processor.batch_decode(written, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return [{"text": text.strip()} for text in texts]


def _sources(rows: Sequence[Source], tokenizer: Any, max_length: int) -> Iterator[tuple[array[int], bool]]:
    """Ids, and whether they were cut."""
    for encoded in encode_texts([Texts(text=row.source) for row in rows], tokenizer, max_length):
        yield encoded.ids, encoded.cut


def _read(examples: Sequence[PairExample], kit: Kit) -> Batch:
    """What the encoder is given, (B, T)."""
    return {
        "input_ids": pad_right([example.source for example in examples], kit.pad),
        "attention_mask": pad_right([array("i", [1]) * len(example.source) for example in examples], 0),
    }


def _logits(model: Any, batch: Batch, learnt_BU: torch.Tensor) -> torch.Tensor:
    """(N, V), of the positions of ``learnt_BU`` only: the output layer is the widest, and padding would be thrown away.

    Targets are padded on the right, so the decoder's causal attention never looks at padding.
    """
    shifted_BU = model.prepare_decoder_input_ids_from_labels(labels=batch["labels"])
    handle = model.get_output_embeddings().register_forward_pre_hook(
        lambda layer, hidden: (hidden[0][learnt_BU], *hidden[1:])
    )
    try:
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        logits: torch.Tensor = model(**inputs, decoder_input_ids=shifted_BU, use_cache=False).logits
    finally:
        handle.remove()
    return logits


def _most(model: Any, state: State) -> int:
    """Tokens of an answer; a decoder with a table of positions has no more than those."""
    most: int = state.get("answer_tokens", ANSWER_TOKENS)
    return min(most, getattr(model.config, "max_position_embeddings", None) or most)


def _written(model: Any, inputs: Batch, most: int, end: int) -> list[list[int]]:
    """The likeliest token each time, until ``end`` or ``most`` of them. Padding is no answer to anything."""
    import torch

    encoded, mask_BT = model.get_encoder()(**inputs), inputs["attention_mask"]
    rows, config = len(mask_BT), model.config
    tokens_BU = torch.full((rows, 1), config.decoder_start_token_id, device=mask_BT.device)
    open_B, cache = torch.ones(rows, dtype=torch.bool, device=mask_BT.device), None
    while tokens_BU.shape[1] <= most and bool(open_B.any()):
        out = model(
            encoder_outputs=encoded,
            attention_mask=mask_BT,
            decoder_input_ids=tokens_BU[:, -1:],
            past_key_values=cache,
            use_cache=True,
        )
        cache, logits_BV = out.past_key_values, out.logits[:, -1].float()
        if config.pad_token_id not in (None, end):
            logits_BV[:, config.pad_token_id] = -torch.inf
        next_B = torch.where(open_B, logits_BV.argmax(-1), end)
        open_B = open_B & (next_B != end)
        tokens_BU = torch.cat([tokens_BU, next_B[:, None]], 1)
    return [row[1:] for row in tokens_BU.tolist()]
