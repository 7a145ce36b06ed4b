"""Metrics in OpenAI's vocabulary."""

from __future__ import annotations

from typing import Any


def to_wire_metrics(data: dict[str, Any]) -> dict[str, Any]:
    """Add OpenAI's names beside ours to the metrics of a step."""
    rest = {name: value for name, value in data.items() if name not in ("type", "measures") and value is not None}
    rest |= {f"valid_{name}": value for name, value in data["measures"].items()}
    named = {
        "train_mean_token_accuracy": data["train_accuracy"],
        "valid_mean_token_accuracy": data["valid_accuracy"],
        "full_valid_loss": data["valid_loss"],
        "full_valid_mean_token_accuracy": data["valid_accuracy"],
    }
    return rest | {name: value for name, value in named.items() if value is not None}
