"""Spans of tokens as answers: which is the best of a window, and of all windows of a context.

Shapes: B windows, T positions of the longest, K tokens of the longest answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import exp, inf, log
from typing import TYPE_CHECKING, Any, NamedTuple

from training.tasks.base import Batch, Kit
from training.tasks.support.text import text_inputs
from training.tasks.support.windows import Window

if TYPE_CHECKING:
    import torch

LONGEST = 30
"""Tokens of an answer."""
TOGETHER = 32
"""Windows read at a time: a long context has many."""
NOWHERE = (0, 0)
"""The span of no answer: the token before the question, as in BERT (Devlin et al. 2018, arXiv:1810.04805, 4.3)."""


class Found(NamedTuple):
    """What the model says of one window."""

    best: float
    """Sum of the logits of the best span's first and last token."""
    first: int
    last: int
    start_mass: float
    """Logarithm of the sum of the exponentials of the context's logits as first tokens."""
    end_mass: float
    start_nowhere: float
    """Logit of no answer."""
    end_nowhere: float


def window_inputs(windows: Sequence[Window], kit: Kit) -> Batch:
    """The model's inputs, and where the context is."""
    import torch

    batch = text_inputs(windows, kit.pad)
    context_BT = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
    for row, window in enumerate(windows):
        context_BT[row, window.first : window.first + len(window.starts)] = True
    return batch | {"context_BT": context_BT}


def span_logits(model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each token (B, T) as the first and as the last of the answer, float32."""
    out = model(**{name: tensor for name, tensor in batch.items() if name.islower()})
    return out.start_logits.float(), out.end_logits.float()


def best_spans(
    start_BT: torch.Tensor, end_BT: torch.Tensor, context_BT: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Score (B,), first and last position (B, 2) of the best span of at most ``LONGEST`` tokens of the context."""
    import torch
    from torch.nn.functional import pad

    start_BT, end_BT = (logits_BT.masked_fill(~context_BT, -inf) for logits_BT in (start_BT, end_BT))
    # K last tokens for every first one.
    ends_BTK = pad(end_BT, (0, LONGEST - 1), value=-inf).unfold(1, LONGEST, 1)
    best = (start_BT[..., None] + ends_BTK).flatten(1).max(-1)
    first_B, length_B = best.indices // LONGEST, best.indices % LONGEST
    return best.values, torch.stack([first_B, first_B + length_B], dim=-1)


def looked(model: Any, windows: Sequence[Window], kit: Kit) -> Iterator[Found]:
    """In order."""
    import torch

    for at in range(0, len(windows), TOGETHER):
        with torch.inference_mode():
            inputs = window_inputs(windows[at : at + TOGETHER], kit)
            batch = {name: tensor.to(model.device) for name, tensor in inputs.items()}
            start_BT, end_BT = span_logits(model, batch)
            best_B, span_B2 = best_spans(start_BT, end_BT, batch["context_BT"])
            masses = (one.masked_fill(~batch["context_BT"], -inf).logsumexp(-1) for one in (start_BT, end_BT))
            columns = (best_B, *span_B2.unbind(1), *masses, start_BT[:, 0], end_BT[:, 0])
            rows = zip(*(column.tolist() for column in columns), strict=True)
        yield from (Found(*row) for row in rows)


def best_of(windows: Sequence[Window], found: Sequence[Found], nowhere: bool) -> tuple[int, int, float]:
    """Characters of the context that the best span of all stands for, and its probability; (0, 0) where ``nowhere`` is
    possible and likelier in every window."""
    window, best = max(zip(windows, found, strict=True), key=lambda one: one[1].best)
    none = min(found, key=lambda one: one.start_nowhere + one.end_nowhere)
    starts, ends = [one.start_mass for one in found], [one.end_mass for one in found]
    logits, (start, end) = best.best, window.text(best.first, best.last)
    if nowhere:
        starts.append(none.start_nowhere)
        ends.append(none.end_nowhere)
        nothing = none.start_nowhere + none.end_nowhere
        if nothing > logits:
            logits, (start, end) = nothing, NOWHERE
    return start, end, exp(logits - _logsumexp(starts) - _logsumexp(ends))


def _logsumexp(values: Sequence[float]) -> float:
    most = max(values)
    return most + log(sum(exp(value - most) for value in values))
