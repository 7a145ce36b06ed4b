"""Held-out loss of all trainers' adapters, computed the same way for each.

``python -m benchmarks.trainer_comparison.held_out_loss BASE ROWS ADAPTER …`` prints each adapter's
loss on the rows. PEFT loads the adapters onto the base in float32. The loss is the mean over all
target tokens, in nats.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.trainer_comparison.rows import encode_rows


@torch.inference_mode()
def compute_loss(base: Path, rows: list[dict[str, list[int]]], adapter: Path) -> float:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, adapter).eval()
    total, targets = 0.0, 0
    for row in rows:
        logits_TV = model(torch.tensor([row["input_ids"]])).logits[0]
        labels_T = torch.tensor(row["labels"])[1:]
        total += float(cross_entropy(logits_TV[:-1], labels_T, reduction="sum"))
        targets += int((labels_T >= 0).sum())
    return total / targets


def main(base: Path, held_out: Path, adapters: list[Path]) -> None:
    rows = encode_rows(held_out, AutoTokenizer.from_pretrained(base))
    print(json.dumps([compute_loss(base, rows, adapter) for adapter in adapters]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
