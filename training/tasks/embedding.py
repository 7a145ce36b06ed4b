"""Text embeddings, trained on pairs of related texts.

Row: ``{"anchor": "How do I reset it?", "positive": "Hold the button for ten seconds.", "negative":
"It is blue."}``. ``negative`` is optional. Output: no predictions; ``/v1/embeddings`` returns
vectors of length 1. An untuned encoder is served too. The vector is the mean of the last hidden
states, or the pooling of ``1_Pooling/config.json`` in a base of sentence-transformers. Loss:
cross-entropy of an anchor's own positive among all positives and negatives of the batch, with 20
times the cosine as logits (Henderson et al. 2017, arXiv:1705.00652, section 4.4). The anchor's own
text and positives of equal anchors are not used as negatives. The loss depends on the composition
of the batch, so losses are comparable only at equal batch sizes. Accuracy counts anchors whose own
positive ranks first in the batch. Metrics: ``recall_at_1`` and ``mrr``, which rank each anchor's
positive among all positives of the validation file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints

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
)
from training.tasks.support.pairs import METRICS, build_false_negative_mask, compute_ranking_metrics
from training.tasks.support.sequence import load_padded_tokenizer
from training.tasks.support.text import EncoderExample, TextInput, collate_texts, encode_texts

if TYPE_CHECKING:
    import torch

COSINE_SCALE = 20.0
"""Factor that scales cosines before the softmax."""
ANCHOR_PREFIX, CANDIDATE_PREFIX = "anchor.", "candidate."
"""Prefixes of the model's input names.

The model reads each side in its own batch, because texts of one side have similar lengths.
"""

Text = Annotated[str, StringConstraints(min_length=1, max_length=1_000_000)]


class EmbeddingRow(BaseModel):
    """Two related texts and, optionally, an unrelated one."""

    model_config = ConfigDict(extra="ignore")

    anchor: Text
    positive: Text
    negative: Text | None = None

    @property
    def texts(self) -> dict[str, str]:
        fields = {"anchor": self.anchor, "positive": self.positive, "negative": self.negative}
        return {field: text for field, text in fields.items() if text is not None}


@dataclass(frozen=True, slots=True)
class EmbeddingExample(EncoderExample):
    """An encoded anchor with its candidates. ``size`` counts the tokens of all texts of the row."""

    candidates: tuple[EncoderExample, ...]
    """The positive and, if the row has one, the negative. Empty in requests for embeddings."""


class Embedding(Task[EmbeddingRow, EmbeddingExample]):
    name = "embedding"
    title = "A vector for a text, close to the vectors of related texts"
    row_schema = EmbeddingRow
    example_type = EmbeddingExample
    route = "embeddings"
    family = "embedding"
    peft_task_type = "FEATURE_EXTRACTION"
    auto_class = "AutoModel"
    input_schema = TextInput
    supports_micro_batches = False
    supports_feature_cache = False
    updates = frozenset({"lora", "full", "layers"})
    metrics = METRICS

    def check_row(self, row: EmbeddingRow) -> Iterator[RowIssue]:
        for field, text in row.texts.items():
            if not text.strip():
                yield RowIssue("empty_content", field, "The text is blank; add text or remove the row.")
        if row.negative in (row.anchor, row.positive):
            yield RowIssue(
                "wrong_value", "negative", "The text equals the anchor or the positive; use a different text."
            )

    def load_processor(self, directory: Path) -> Any:
        return load_padded_tokenizer(directory)

    def encode(
        self, rows: Sequence[EmbeddingRow], processor: Any, max_length: int
    ) -> list[EmbeddingExample | RowIssue]:
        texts = [TextInput(text=text) for row in rows for text in row.texts.values()]
        encoded = encode_texts(texts, processor, max_length)
        return [_build_example([next(encoded) for _ in row.texts]) for row in rows]

    def encode_inputs(
        self, inputs: Sequence[TextInput], processor: Any, max_length: int
    ) -> list[EmbeddingExample | RowIssue]:
        return [_build_example([text]) for text in encode_texts(inputs, processor, max_length)]

    def load_model(self, directory: Path, state: TaskState, dtype: torch.dtype) -> Any:
        """Load a model without its pooler, which is not used. The config stores the pooling."""
        from transformers import AutoModel

        model = load_pretrained(AutoModel, directory, dtype)
        if getattr(model, "pooler", None) is not None:
            model.pooler = None
        model.config.embedding_pooling = _read_pooling(directory) or getattr(model.config, "embedding_pooling", "mean")
        return model

    def preview(self, example: EmbeddingExample, state: TaskState) -> ExamplePreview:
        texts = zip(("anchor", "positive", "negative"), (example, *example.candidates), strict=False)
        return ExamplePreview([TokenSegment(name, text.ids) for name, text in texts])

    def collate(self, examples: Sequence[EmbeddingExample], ctx: TaskContext) -> Batch:
        """Batch B anchors and C candidates: the anchors' positives in order, then all negatives."""
        negatives = [text for example in examples for text in example.candidates[1:]]
        candidates = [*(example.candidates[0] for example in examples), *negatives]
        batch = {"masked_BC": build_false_negative_mask(examples, candidates)}
        for side, texts in ((ANCHOR_PREFIX, examples), (CANDIDATE_PREFIX, candidates)):
            batch |= {side + name: tensor for name, tensor in collate_texts(texts, ctx.pad_token_id).items()}
        return batch

    def compute_loss(self, model: Any, batch: Batch, ctx: TaskContext) -> Loss:
        import torch
        from torch.nn.functional import cross_entropy

        anchors_BD, candidates_CD = (
            embed(model, _select_side(batch, side)) for side in (ANCHOR_PREFIX, CANDIDATE_PREFIX)
        )
        scores_BC = (COSINE_SCALE * anchors_BD @ candidates_CD.T).masked_fill(batch["masked_BC"], -inf)
        own_B = torch.arange(len(anchors_BD), device=scores_BC.device)
        total = cross_entropy(scores_BC, own_B, reduction="sum")
        vectors_B2D = torch.stack([anchors_BD, candidates_CD[: len(anchors_BD)]], dim=1).detach()
        return Loss(total, (scores_BC.argmax(-1) == own_B).sum(), vectors_B2D)

    def compute_metrics(
        self, examples: Sequence[EmbeddingExample], outputs: Sequence[torch.Tensor], ctx: TaskContext
    ) -> dict[str, float]:
        import torch

        return compute_ranking_metrics(
            [(example, example.candidates[0]) for example in examples], torch.stack(list(outputs))
        )

    def answer(
        self, model: Any, examples: Sequence[EncoderExample], ctx: TaskContext, top_k: int
    ) -> list[dict[str, Any]]:
        import torch

        with torch.inference_mode():
            inputs = {
                name: tensor.to(model.device) for name, tensor in collate_texts(examples, ctx.pad_token_id).items()
            }
            return [{"embedding": vector} for vector in embed(model, inputs).tolist()]

    def write_library_files(self, model: Any, directory: Path) -> None:
        """Write the files that sentence-transformers expects next to a saved model."""
        module = "sentence_transformers.models"
        files = {
            "modules.json": [
                {"idx": 0, "name": "0", "path": "", "type": f"{module}.Transformer"},
                {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{module}.Pooling"},
                {"idx": 2, "name": "2", "path": "2_Normalize", "type": f"{module}.Normalize"},
            ],
            POOLING_FILE: {
                "word_embedding_dimension": model.config.hidden_size,
                **{key: mode == model.config.embedding_pooling for key, mode in POOLING_KEYS.items()},
            },
        }
        for name, content in files.items():
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def embed(model: Any, inputs: Batch) -> torch.Tensor:
    """Return vectors (B, D) float32 of length 1."""
    from torch.nn.functional import normalize

    hidden_BTD = model(**inputs).last_hidden_state.float()
    return normalize(POOLINGS[model.config.embedding_pooling](hidden_BTD, inputs["attention_mask"]), dim=-1)


def _mean_pool(hidden_BTD: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    mask_BT1 = mask_BT[..., None].to(hidden_BTD.dtype)
    return (hidden_BTD * mask_BT1).sum(1) / mask_BT1.sum(1)


def _cls_pool(hidden_BTD: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    return hidden_BTD[:, 0]


def _last_token_pool(hidden_BTD: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Pool the last token, for models with causal attention."""
    lengths_B11 = mask_BT.sum(1)[:, None, None]
    return hidden_BTD.take_along_dim(lengths_B11 - 1, dim=1).squeeze(1)


POOLINGS: Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "mean": _mean_pool,
    "cls": _cls_pool,
    "lasttoken": _last_token_pool,
}
"""Pooling name -> function of hidden states (B, T, D) and the attention mask (B, T)."""

POOLING_FILE = "1_Pooling/config.json"
POOLING_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Names that sentence-transformers wrote up to version 5.

Later versions write ``pooling_mode`` and read both.
"""


def _read_pooling(directory: Path) -> str | None:
    """Return the pooling of a sentence-transformers model, or None for other models.

    Raises ``TrainingError`` if the pooling is not supported.
    """
    path = directory / POOLING_FILE
    if not path.is_file():
        return None
    config = json.loads(path.read_text(encoding="utf-8"))
    configured = config.get("pooling_mode") or [mode for key, mode in POOLING_KEYS.items() if config.get(key)]
    modes = [configured] if isinstance(configured, str) else list(configured)
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise TrainingError(
            "base_model_unavailable",
            f"This base model has the unsupported pooling {' and '.join(modes)}; choose one with one of "
            f"{', '.join(POOLINGS)}.",
            "model",
        )
    return modes[0]


def _build_example(texts: Sequence[EncoderExample]) -> EmbeddingExample:
    anchor, *others = texts
    size, truncated = sum(text.size for text in texts), any(text.truncated for text in texts)
    return EmbeddingExample(size, truncated, anchor.ids, anchor.token_type_ids, tuple(others))


def _select_side(batch: Batch, side: str) -> Batch:
    return {name.removeprefix(side): value for name, value in batch.items() if name.startswith(side)}
