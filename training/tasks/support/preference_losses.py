"""Losses of preference training: functions of the log-ratios of both answers to a conversation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from training.tasks.base import LossSettings

if TYPE_CHECKING:
    import torch


def _sigmoid_loss(ratios_2B: torch.Tensor, lengths_2B: torch.Tensor, objective: LossSettings) -> torch.Tensor:
    from torch.nn.functional import logsigmoid

    margins_B = objective.beta * (ratios_2B[0] - ratios_2B[1])
    swapped = objective.label_smoothing
    return -(1 - swapped) * logsigmoid(margins_B) - swapped * logsigmoid(-margins_B)


def _ipo_loss(ratios_2B: torch.Tensor, lengths_2B: torch.Tensor, objective: LossSettings) -> torch.Tensor:
    means_2B = ratios_2B / lengths_2B
    return (means_2B[0] - means_2B[1] - 1 / (2 * objective.beta)).square()


LOSSES: Mapping[str, Callable[[torch.Tensor, torch.Tensor, LossSettings], torch.Tensor]] = {
    "sigmoid": _sigmoid_loss,
    "ipo": _ipo_loss,
}
"""Loss name -> function of log-ratios (2, B) and token counts (2, B) of chosen and rejected."""
