"""False negatives and ranking metrics of pairs of texts.

Shapes: B pairs of an anchor and a positive, C candidates, U distinct positives, D width of a
vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from training.tasks.base import TextExample

if TYPE_CHECKING:
    import torch

RANKING_BATCH_SIZE = 1024
"""Number of anchors compared with all positives at a time."""

METRICS = {
    "recall_at_1": "share of anchors whose own positive is the nearest",
    "mrr": "mean reciprocal rank of an anchor's own positive",
}


def build_false_negative_mask(anchors: Sequence[TextExample], candidates: Sequence[TextExample]) -> torch.Tensor:
    """Return (B, C) bool: candidates that are not negatives of an anchor and not its own positive.

    These are positives of equal anchors and the anchor's own text. The first B candidates are the
    anchors' positives, in order.
    """
    import torch

    numbers: dict[bytes, int] = {}
    text_ids = [numbers.setdefault(_to_key(text), len(numbers)) for text in (*anchors, *candidates)]
    anchors_B, candidates_C = torch.tensor(text_ids[: len(anchors)]), torch.tensor(text_ids[len(anchors) :])
    related = torch.eye(len(numbers), dtype=torch.bool)
    related[anchors_B, candidates_C[: len(anchors)]] = True
    mask_BC = related[anchors_B[:, None], candidates_C]
    mask_BC.diagonal().fill_(False)
    return mask_BC


def compute_ranking_metrics(
    pairs: Sequence[tuple[TextExample, TextExample]], vectors_B2D: torch.Tensor
) -> dict[str, float]:
    """Rank each anchor's own positive among all distinct positives.

    Positives of equal anchors and the anchor's own text are excluded. A tie counts against the
    positive, so that identical vectors score the minimum.
    """
    import torch

    anchors_BD, positives_BD = vectors_B2D.unbind(1)
    columns: dict[bytes, int] = {}
    own = [columns.setdefault(_to_key(positive), len(columns)) for _, positive in pairs]
    related: dict[bytes, set[int]] = {}
    for (anchor, _), column in zip(pairs, own, strict=True):
        related.setdefault(_to_key(anchor), {columns.get(_to_key(anchor), column)}).add(column)
    rows = dict(zip(own, range(len(own)), strict=True))
    distinct_UD = torch.stack([positives_BD[rows[column]] for column in range(len(columns))])
    ranks = []
    for start in range(0, len(pairs), RANKING_BATCH_SIZE):
        scores_PU = anchors_BD[start : start + RANKING_BATCH_SIZE] @ distinct_UD.T
        for scores_U, (anchor, _), column in zip(scores_PU, pairs[start:], own[start:], strict=False):
            before_U = scores_U >= scores_U[column]
            before_U[list(related[_to_key(anchor)])] = False
            ranks.append(1 + int(before_U.sum()))
    return {
        "recall_at_1": ranks.count(1) / len(ranks),
        "mrr": sum(1 / rank for rank in ranks) / len(ranks),
    }


def _to_key(text: TextExample) -> bytes:
    """Return a key that is equal for texts with equal tokens."""
    return text.ids.tobytes()
