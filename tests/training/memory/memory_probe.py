"""Measurement of a training step's memory, in a process of its own: ``python -m … JSON``.

The peak is that of the training loop, less what the process took before it loaded the
model: resident memory on a CPU, allocated tensors on a GPU.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.tiny import build_byte_tokenizer, create_tiny_chat_base
from tests.training.run_folders import EventRecorder, create_run_folder, run_training
from training.kernels import memory
from training.spec import TrainSpec
from training.trainer import device, loop
from training.trainer.checkpoint import Progress
from training.trainer.prepare import fit_to_device, prepare
from training.trainer.setup import build_run
from training.trainer.state import StopFlag

STEPS = 3
CONTEXT_LENGTH = 4096


@dataclass(frozen=True)
class StepCase:
    """A Llama of random weights and a batch of equally long rows."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    key_heads: int
    intermediate: int
    row_tokens: int
    rows: int
    dtype: str
    update: dict[str, Any] = field(default_factory=lambda: {"type": "lora"})
    checkpointing: bool = False
    micro_batches: int = 1
    optimizer: str = "adamw"


def measure_ratio(case: StepCase) -> float:
    """Return the estimated peak over the measured one."""
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    command = [sys.executable, "-W", "ignore", "-m", "tests.training.memory.memory_probe", json.dumps(asdict(case))]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert process.returncode == 0, process.stderr
    values = json.loads(process.stdout.splitlines()[-1])
    print(case, values)
    return float(values["estimated"] / values["measured"])


def create_base(directory: Path, case: StepCase) -> Path:
    tokenizer = build_byte_tokenizer()
    tokenizer.model_max_length = CONTEXT_LENGTH
    config = LlamaConfig(
        vocab_size=case.vocabulary,
        hidden_size=case.width,
        intermediate_size=case.intermediate,
        num_hidden_layers=case.layers,
        num_attention_heads=case.heads,
        num_key_value_heads=case.key_heads,
        max_position_embeddings=CONTEXT_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def main(case: StepCase, directory: Path) -> dict[str, float]:
    # A child creates the model, so that none of its memory stays in this process.
    if (child := os.fork()) == 0:
        create_base(directory / "base", case)
        os._exit(0)
    os.waitpid(child, 0)
    text = case.row_tokens // 2 - 3
    row = {"messages": [{"role": "user", "content": "a" * text}, {"role": "assistant", "content": "b" * text}]}
    hyper = {
        "dtype": case.dtype,
        "batch_size": case.rows,
        "gradient_accumulation_steps": case.micro_batches,
        "gradient_checkpointing": case.checkpointing,
        "optimizer": case.optimizer,
        "max_steps": STEPS,
    }
    _warm_up(directory, case, hyper)
    rows = [row] * case.rows
    folder = create_run_folder(
        directory / "run", directory / "base", "chat", case.update, training=rows, hyperparameters=hyper, threads=2
    )
    spec = TrainSpec.read(folder)
    prepared = prepare(folder, spec, StopFlag())
    limits = device.measure_limits()
    estimated = fit_to_device(spec, prepared, limits).memory.total
    before = _read_status("VmRSS")
    run = build_run(folder, spec, prepared, EventRecorder(), StopFlag())
    if limits.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        # Resets the peak, so that loading the model does not count.
        Path("/proc/self/clear_refs").write_text("5")
    loop.train(run, Progress())
    measured = torch.cuda.max_memory_allocated() if limits.type == "cuda" else _read_status("VmHWM") - before
    return {"estimated": estimated, "measured": measured}


def _warm_up(directory: Path, case: StepCase, hyper: dict[str, Any]) -> None:
    """Train a tiny model first: libraries take memory at their first use."""
    keep, memory.keep_freed_memory = memory.keep_freed_memory, lambda: None
    base = create_tiny_chat_base(directory / "tiny")
    run_training(create_run_folder(directory / "first", base, "chat", case.update, hyperparameters=hyper))
    memory.keep_freed_memory = keep


def _read_status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    device.configure_torch(2)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(main(StepCase(**json.loads(sys.argv[1])), Path(scratch))))
