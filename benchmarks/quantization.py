"""``make bench-quantization``: peak memory of a run with NF4 and with 8-bit AdamW.

The model is a Llama of SmolLM2-135M's shape with random weights in bfloat16. Each run is a process
of its own, of a few steps. The peak is that of the whole process. ``imports`` is the peak of the
phase that only checks the rows, before a model is loaded. ``optimizer`` is the size of the
optimizer's state in a checkpoint.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from benchmarks.bases import SEED, train_bpe_tokenizer
from benchmarks.result import write_result
from benchmarks.trainer_comparison.subprocesses import run
from training.spec import TrainSpec

SHAPE: dict[str, Any] = {
    "vocab_size": 49_152,
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
}
STEPS, BATCH_SIZE = 4, 4
ROW_WORDS = 100
RUNS: dict[str, tuple[dict[str, Any], str]] = {
    "lora": ({"type": "lora"}, "adamw"),
    "lora_nf4": ({"type": "lora", "base_precision": "nf4"}, "adamw"),
    "full_adamw": ({"type": "full"}, "adamw"),
    "full_adamw8bit": ({"type": "full"}, "adamw8bit"),
}
"""Name of the figures -> (update, optimizer)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    threads = parser.parse_args().threads
    metrics: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="lb") as name:
        folder = Path(name)
        rows = [{"prompt": "", "completion": f"number {row} " * ROW_WORDS} for row in range(STEPS * BATCH_SIZE)]
        # In a process of its own, because a child's peak includes its parent's memory at the fork.
        arguments = (folder / "base", [row["completion"] for row in rows])
        writer = multiprocessing.get_context("spawn").Process(target=_write_base, args=arguments)
        writer.start()
        writer.join()
        for kind, (update, optimizer) in RUNS.items():
            directory = _write_run(folder, kind, rows, update, optimizer)
            if not metrics:
                idle = run("training.run", directory, "--validate", threads=threads, log=folder / "log")
                metrics["imports_peak_mb"] = round(idle.peak_bytes / 1e6)
            finished = run("training.run", directory, threads=threads, log=folder / "log")
            metrics |= {
                f"{kind}_peak_mb": round(finished.peak_bytes / 1e6),
                f"{kind}_optimizer_mb": round(_get_optimizer_bytes(directory) / 1e6),
            }
    write_result("quantization", f"python -m benchmarks.quantization --threads {threads}", metrics)


def _write_base(directory: Path, texts: list[str]) -> None:
    tokenizer = train_bpe_tokenizer(texts)
    torch.manual_seed(SEED)
    end = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, **end)).bfloat16()
    model.generation_config = GenerationConfig(**end)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def _write_run(folder: Path, name: str, rows: list[dict[str, str]], update: dict[str, Any], optimizer: str) -> Path:
    directory = folder / name
    directory.mkdir()
    (directory / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    hyperparameters: dict[str, Any] = {
        "optimizer": optimizer,
        "max_steps": STEPS,
        "batch_size": BATCH_SIZE,
        "dtype": "bfloat16",
    }
    hyperparameters |= {"gradient_accumulation_steps": 1, "gradient_checkpointing": True}
    spec = {
        "task": "completion",
        "update": update,
        "hyperparameters": hyperparameters,
        "seed": 0,
        "base": folder / "base",
        "base_id": "random-135m",
        "training_file": "rows.jsonl",
    }
    TrainSpec.model_validate(spec).write(directory)
    return directory


def _get_optimizer_bytes(directory: Path) -> int:
    return (directory / f"checkpoints/step-{STEPS}/state/optimizer.safetensors").stat().st_size


if __name__ == "__main__":
    main()
