"""NEFTune: noise on the token embeddings during training (Jain et al. 2023, arXiv:2310.05914)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Module


def activate(model: Any, alpha: float) -> None:
    """Add uniform noise of magnitude alpha / sqrt(T · D) to the embeddings, in train mode only.

    Frozen embeddings and evaluations get no noise.
    """

    def add_noise(module: Module, inputs: Any, embedded_BTD: Tensor) -> Tensor:
        if not module.training:
            return embedded_BTD
        length, width = embedded_BTD.shape[-2:]
        noise = torch.empty_like(embedded_BTD).uniform_(-1, 1)
        return embedded_BTD + noise * float(alpha / (length * width) ** 0.5)

    model.get_input_embeddings().register_forward_hook(add_noise)
