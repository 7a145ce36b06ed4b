"""Selection of answer spans: the best span of a window and of all windows of a context.

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
"""Maximum tokens of an answer."""
WINDOW_BATCH_SIZE = 32
"""Windows per forward pass. A long context has many."""
NO_ANSWER = (0, 0)
"""Span for no answer: the token before the question, as in BERT.

(Devlin et al. 2018, arXiv:1810.04805, 4.3)
"""


class WindowPrediction(NamedTuple):
    """Scores of one window."""

    best_score: float
    """Sum of the logits of the best span's first and last token."""
    first: int
    last: int
    start_logsumexp: float
    """Log-sum-exp of the start logits over the context."""
    end_logsumexp: float
    start_null_logit: float
    """Start logit of no answer."""
    end_null_logit: float


def collate_windows(windows: Sequence[Window], ctx: TaskContext) -> Batch:
    """Batch the model's inputs with a mask of the context's tokens."""
    import torch

    batch = collate_texts(windows, ctx.pad_token_id)
    context_BT = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
    for row, window in enumerate(windows):
        context_BT[row, window.context_start : window.context_start + len(window.char_starts)] = True
    return batch | {"context_BT": context_BT}


def compute_span_logits(model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each token's logits (B, T) as first and as last token of the answer, float32."""
    out = model(**{name: tensor for name, tensor in batch.items() if name.islower()})
    return out.start_logits.float(), out.end_logits.float()


def find_best_spans(
    start_BT: torch.Tensor, end_BT: torch.Tensor, context_BT: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scores (B,) and first and last positions (B, 2) of the best spans.

    A span is in the context and has at most ``MAX_ANSWER_TOKENS`` tokens.
    """
    import torch
    from torch.nn.functional import pad

    start_BT, end_BT = (logits_BT.masked_fill(~context_BT, -inf) for logits_BT in (start_BT, end_BT))
    # For every first token, the K possible last tokens.
    ends_BTK = pad(end_BT, (0, MAX_ANSWER_TOKENS - 1), value=-inf).unfold(1, MAX_ANSWER_TOKENS, 1)
    best = (start_BT[..., None] + ends_BTK).flatten(1).max(-1)
    first_B, length_B = best.indices // MAX_ANSWER_TOKENS, best.indices % MAX_ANSWER_TOKENS
    return best.values, torch.stack([first_B, first_B + length_B], dim=-1)


def predict_windows(model: Any, windows: Sequence[Window], ctx: TaskContext) -> Iterator[WindowPrediction]:
    """Yield predictions in the order of the windows."""
    import torch

    for at in range(0, len(windows), WINDOW_BATCH_SIZE):
        with torch.inference_mode():
            inputs = collate_windows(windows[at : at + WINDOW_BATCH_SIZE], ctx)
            batch = {name: tensor.to(model.device) for name, tensor in inputs.items()}
            start_BT, end_BT = compute_span_logits(model, batch)
            best_B, span_B2 = find_best_spans(start_BT, end_BT, batch["context_BT"])
            logsumexps = (
                logits_BT.masked_fill(~batch["context_BT"], -inf).logsumexp(-1) for logits_BT in (start_BT, end_BT)
            )
            columns = (best_B, *span_B2.unbind(1), *logsumexps, start_BT[:, 0], end_BT[:, 0])
            rows = zip(*(column.tolist() for column in columns), strict=True)
        yield from (WindowPrediction(*row) for row in rows)


def select_best_span(
    windows: Sequence[Window], predictions: Sequence[WindowPrediction], allow_no_answer: bool
) -> tuple[int, int, float]:
    """Return start and end character of the best span of all windows, and its probability.

    Start and end are 0 if ``allow_no_answer`` and every window prefers no answer.
    """
    window, best = max(zip(windows, predictions, strict=True), key=lambda pair: pair[1].best_score)
    no_answer = min(predictions, key=lambda prediction: prediction.start_null_logit + prediction.end_null_logit)
    starts = [prediction.start_logsumexp for prediction in predictions]
    ends = [prediction.end_logsumexp for prediction in predictions]
    logit, (start, end) = best.best_score, window.get_char_span(best.first, best.last)
    if allow_no_answer:
        starts.append(no_answer.start_null_logit)
        ends.append(no_answer.end_null_logit)
        null_logit = no_answer.start_null_logit + no_answer.end_null_logit
        if null_logit > logit:
            logit, (start, end) = null_logit, NO_ANSWER
    return start, end, exp(logit - _logsumexp(starts) - _logsumexp(ends))


def _logsumexp(values: Sequence[float]) -> float:
    largest = max(values)
    return largest + log(sum(exp(value - largest) for value in values))
