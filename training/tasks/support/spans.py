"""Spans of tokens as answers: which is the best of a window, and of all windows of a context.

Shapes: B windows, T positions of the longest, K tokens of the longest answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import exp, inf, log
from typing import TYPE_CHECKING, Any, NamedTuple

from training.tasks.base import Batch, TaskContext
from training.tasks.support.text import collate_texts
from training.tasks.support.windows import Window

if TYPE_CHECKING:
    import torch

MAX_ANSWER_TOKENS = 30
"""Tokens of an answer."""
WINDOW_BATCH_SIZE = 32
"""Windows read at a time: a long context has many."""
NO_ANSWER = (0, 0)
"""The span of no answer: the token before the question, as in BERT (Devlin et al. 2018, arXiv:1810.04805, 4.3)."""


class WindowPrediction(NamedTuple):
    """What the model says of one window."""

    best_score: float
    """Sum of the logits of the best span's first and last token."""
    first: int
    last: int
    start_logsumexp: float
    """Logarithm of the sum of the exponentials of the context's logits as first tokens."""
    end_logsumexp: float
    start_null_logit: float
    """Logit of no answer."""
    end_null_logit: float


def collate_windows(windows: Sequence[Window], ctx: TaskContext) -> Batch:
    """The model's inputs, and where the context is."""
    import torch

    batch = collate_texts(windows, ctx.pad_token_id)
    context_BT = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
    for row, window in enumerate(windows):
        context_BT[row, window.context_start : window.context_start + len(window.char_starts)] = True
    return batch | {"context_BT": context_BT}


def compute_span_logits(model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each token (B, T) as the first and as the last of the answer, float32."""
    out = model(**{name: tensor for name, tensor in batch.items() if name.islower()})
    return out.start_logits.float(), out.end_logits.float()


def find_best_spans(
    start_BT: torch.Tensor, end_BT: torch.Tensor, context_BT: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Score (B,), first and last position (B, 2) of the best span of at most ``LONGEST`` tokens of the context."""
    import torch
    from torch.nn.functional import pad

    start_BT, end_BT = (logits_BT.masked_fill(~context_BT, -inf) for logits_BT in (start_BT, end_BT))
    # K last tokens for every first one.
    ends_BTK = pad(end_BT, (0, MAX_ANSWER_TOKENS - 1), value=-inf).unfold(1, MAX_ANSWER_TOKENS, 1)
    best = (start_BT[..., None] + ends_BTK).flatten(1).max(-1)
    first_B, length_B = best.indices // MAX_ANSWER_TOKENS, best.indices % MAX_ANSWER_TOKENS
    return best.values, torch.stack([first_B, first_B + length_B], dim=-1)


def predict_windows(model: Any, windows: Sequence[Window], ctx: TaskContext) -> Iterator[WindowPrediction]:
    """In order."""
    import torch

    for at in range(0, len(windows), WINDOW_BATCH_SIZE):
        with torch.inference_mode():
            inputs = collate_windows(windows[at : at + WINDOW_BATCH_SIZE], ctx)
            batch = {name: tensor.to(model.device) for name, tensor in inputs.items()}
            start_BT, end_BT = compute_span_logits(model, batch)
            best_B, span_B2 = find_best_spans(start_BT, end_BT, batch["context_BT"])
            masses = (one.masked_fill(~batch["context_BT"], -inf).logsumexp(-1) for one in (start_BT, end_BT))
            columns = (best_B, *span_B2.unbind(1), *masses, start_BT[:, 0], end_BT[:, 0])
            rows = zip(*(column.tolist() for column in columns), strict=True)
        yield from (WindowPrediction(*row) for row in rows)


def select_best_span(
    windows: Sequence[Window], predictions: Sequence[WindowPrediction], allow_no_answer: bool
) -> tuple[int, int, float]:
    """Characters of the context that the best span of all stands for, and its probability; (0, 0) where ``nowhere`` is
    possible and likelier in every window."""
    window, best = max(zip(windows, predictions, strict=True), key=lambda one: one[1].best_score)
    none = min(predictions, key=lambda one: one.start_null_logit + one.end_null_logit)
    starts, ends = [one.start_logsumexp for one in predictions], [one.end_logsumexp for one in predictions]
    logits, (start, end) = best.best_score, window.get_char_span(best.first, best.last)
    if allow_no_answer:
        starts.append(none.start_null_logit)
        ends.append(none.end_null_logit)
        nothing = none.start_null_logit + none.end_null_logit
        if nothing > logits:
            logits, (start, end) = nothing, NO_ANSWER
    return start, end, exp(logits - _logsumexp(starts) - _logsumexp(ends))


def _logsumexp(values: Sequence[float]) -> float:
    most = max(values)
    return most + log(sum(exp(value - most) for value in values))
