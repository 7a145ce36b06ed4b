"""Training speed: ``python -m benchmarks.gpu.training CONTESTANT SHAPE UPDATE BASE DEVICE``.

Both contestants train the same rows of random tokens in the same steps: bfloat16 products by
autocast, fp32 for the trained weights, fused AdamW and gradient clipping. Luthier runs its training
loop's step. The peer runs PEFT, or all weights, under transformers with SDPA, with rows sorted by
length, padded, and split into the micro-batches that are fastest of those that fit.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM

from benchmarks.gpu.shapes import LORA_RANK, SHAPES, TINY_SHAPES, ModelShape, RandomRow, build_rows
from training.data.batch_sampler import split_batch
from training.spec import TrainSpec
from training.tasks.support.causal import CausalExample
from training.trainer import device as devices
from training.trainer import optim
from training.trainer.failures import is_out_of_memory
from training.trainer.gradients import compute_gradients
from training.trainer.prepare import prepare
from training.trainer.setup import build_run
from training.trainer.state import StopFlag

LEARNING_RATE = 1e-4
MAX_GRAD_NORM = 1.0
WARM_UP_STEPS, MIN_STEPS, MAX_STEPS = 2, 5, 20
MEASURE_SECONDS = 12.0
"""A measurement ends after this time or ``MAX_STEPS`` steps, but not before ``MIN_STEPS``."""
PEER_MICRO_BATCH_ROWS = (32, 16, 8, 4, 2, 1)
"""Rows of a micro-batch that the peer tries, until one is slower than the one before it."""

Step = Callable[[], object]


def build_luthier_step(
    shape: ModelShape, rows: Sequence[RandomRow], update: str, base: Path, folder: Path
) -> tuple[Step, dict[str, Any]]:
    """Build a run as the service does, and return its step and its settings."""
    settings = {"type": "lora", "rank": LORA_RANK, "alpha": 2 * LORA_RANK} if update == "lora" else {"type": update}
    hyper = {"dtype": "bfloat16", "batch_size": len(rows), "learning_rate": LEARNING_RATE}
    (folder / "rows.jsonl").write_text('{"text": "A row, to start with."}\n' * 4)
    values = {"task": "completion", "base": base, "base_id": "random", "update": settings, "seed": 0}
    spec = TrainSpec.model_validate(
        {**values, "training_file": "rows.jsonl", "hyperparameters": {**hyper, "max_grad_norm": MAX_GRAD_NORM}}
    )
    devices.configure_torch(None)
    run = build_run(folder, spec, prepare(folder, spec, StopFlag()), lambda event: None, StopFlag())
    examples = [
        CausalExample(
            len(row.ids),
            False,
            array("i", row.ids),
            array("f", [0.0] * (len(row.ids) - row.num_targets) + [1.0] * row.num_targets),
        )
        for row in rows
    ]
    run.train_mode()
    state = {"micro_batches": 1}

    def step() -> None:
        optim.set_learning_rate(run.optimizer, LEARNING_RATE)
        state["micro_batches"] = compute_gradients(run, examples, state["micro_batches"]).micro_batches
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)

    # A step that runs out of memory itself finds the micro-batches that fit.
    return step, state


def build_peer_step(
    rows: Sequence[RandomRow], update: str, base: Path, device: torch.device
) -> tuple[Step, dict[str, Any]]:
    dtype = torch.bfloat16 if update == "lora" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, attn_implementation="sdpa").to(device)
    if update == "lora":
        config = LoraConfig(
            r=LORA_RANK, lora_alpha=2 * LORA_RANK, target_modules="all-linear", task_type="CAUSAL_LM", lora_dropout=0.0
        )
        model = get_peft_model(model, config)
    model.train()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, fused=True)
    by_length = sorted(rows, key=lambda row: -len(row.ids))
    num_targets = sum(row.num_targets for row in rows)
    state = {"micro_batch_rows": 0}

    def step() -> None:
        for micro_batch in split_batch(by_length, -(-len(rows) // state["micro_batch_rows"])):
            batch = {name: tensor.to(device) for name, tensor in _collate(micro_batch).items()}
            with torch.autocast(device.type, dtype=torch.bfloat16):
                loss = model(**batch, use_cache=False, num_items_in_batch=num_targets).loss
            torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(trained, MAX_GRAD_NORM).item()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    state["micro_batch_rows"] = _find_fastest(step, state, len(rows))
    return step, state


def _collate(rows: Sequence[RandomRow]) -> dict[str, torch.Tensor]:
    ids = [torch.tensor(row.ids) for row in rows]
    labels = [torch.tensor([-100] * (len(row.ids) - row.num_targets) + row.ids[-row.num_targets :]) for row in rows]
    return {
        "input_ids": pad_sequence(ids, batch_first=True),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
        "labels": pad_sequence(labels, batch_first=True, padding_value=-100),
    }


def _find_fastest(step: Step, state: dict[str, Any], rows: int) -> int:
    """Return the number of rows of a micro-batch with the fastest step."""
    best, best_seconds = 0, float("inf")
    for size in PEER_MICRO_BATCH_ROWS:
        if size > rows and size != PEER_MICRO_BATCH_ROWS[-1]:
            continue
        state["micro_batch_rows"] = size
        seconds = float("inf") if _runs_out_of_memory(step) else _time(step)
        if best and seconds > best_seconds:
            break
        best, best_seconds = (size, seconds) if seconds < best_seconds else (best, best_seconds)
    if not best:
        raise SystemExit("not even one row fits")
    return best


def _runs_out_of_memory(step: Step) -> bool:
    try:
        step()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    else:
        return False
    # Outside the handler, because the traceback keeps the tensors that filled the memory alive.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return True


def _time(step: Step) -> float:
    start = time.perf_counter()
    step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(step: Step, shape: ModelShape, rows: Sequence[RandomRow], update: str) -> dict[str, float]:
    """Return tokens and useful FLOPs per second and the peak of memory of some steps."""
    for _ in range(WARM_UP_STEPS):
        _time(step)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    seconds: list[float] = []
    while len(seconds) < MIN_STEPS or (sum(seconds) < MEASURE_SECONDS and len(seconds) < MAX_STEPS):
        seconds.append(_time(step))
    lengths = [len(row.ids) for row in rows]
    mean = sum(seconds) / len(seconds)
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated()
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "tokens_per_s": sum(lengths) / mean,
        "flops_per_s": shape.count_flops(lengths, sum(row.num_targets for row in rows), update) / mean,
        "peak_gb": peak / 1e9,
        "steps": len(seconds),
    }


def main(contestant: str, shape_name: str, update: str, base: Path, device: torch.device) -> dict[str, Any]:
    shape = {**SHAPES, **TINY_SHAPES}[shape_name]
    rows = build_rows(shape)
    with tempfile.TemporaryDirectory() as folder:
        if contestant == "luthier":
            step, settings = build_luthier_step(shape, rows, update, base, Path(folder))
        else:
            step, settings = build_peer_step(rows, update, base, device)
        return {**measure(step, shape, rows, update), **settings}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]), torch.device(sys.argv[5]))))
