"""HF ``Trainer`` with PEFT and padded rows.

Usage: ``python -m benchmarks.trainer_comparison.trainers.hf_trainer CONFIG.json``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from peft import get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainingArguments,
    set_seed,
)

from benchmarks.trainer_comparison.config import ADAPTER_FOLDER, Outcome, TrainerConfig
from benchmarks.trainer_comparison.rows import build_lora_config, encode_rows
from benchmarks.trainer_comparison.trainers.step_timer import StepTimer, add_loss_recording

REPORTED_ARGUMENTS = (
    *("bf16", "gradient_checkpointing", "per_device_train_batch_size", "gradient_accumulation_steps", "optim"),
    *("train_sampling_strategy", "torch_compile", "lr_scheduler_type", "max_grad_norm"),
)
"""Arguments that the result reports."""


def train(config: TrainerConfig) -> Outcome:
    torch.set_num_threads(config.threads)
    set_seed(config.seed)
    tokenizer = AutoTokenizer.from_pretrained(config.base)
    dtype = getattr(torch, config.settings.weights_dtype)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(config.base, dtype=dtype), build_lora_config(config))
    args = TrainingArguments(**config.arguments)
    timer = StepTimer(config.patience)
    trainer = add_loss_recording(Trainer, timer)(
        model=model,
        args=args,
        train_dataset=encode_rows(config.rows, tokenizer),
        data_collator=timer.wrap_collator(DataCollatorForSeq2Seq(tokenizer)),
        callbacks=[timer],
    )
    trainer.train()
    model.save_pretrained(config.folder / ADAPTER_FOLDER)
    return timer.to_outcome(config.settings.describe(args, REPORTED_ARGUMENTS), args.gradient_accumulation_steps)


if __name__ == "__main__":
    print(train(TrainerConfig.model_validate_json(Path(sys.argv[1]).read_text())).model_dump_json())
