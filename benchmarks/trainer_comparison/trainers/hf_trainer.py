"""HF ``Trainer`` with PEFT, padded rows, float32.

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

REPORTED_SETTINGS = (
    "bf16",
    "gradient_checkpointing",
    "optim",
    "train_sampling_strategy",
    "lr_scheduler_type",
    "max_grad_norm",
)
"""Settings that the result reports."""


def train(config: TrainerConfig) -> Outcome:
    torch.set_num_threads(config.threads)
    set_seed(config.seed)
    tokenizer = AutoTokenizer.from_pretrained(config.base)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(config.base, dtype=torch.float32), build_lora_config(config)
    )
    args = TrainingArguments(
        output_dir=str(config.folder / "out"),
        per_device_train_batch_size=config.batch_size,
        num_train_epochs=config.epochs,
        max_steps=config.max_steps,
        learning_rate=config.learning_rate,
        seed=config.seed,
        report_to="none",
        use_cpu=True,
        **config.settings,
    )
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
    return timer.to_outcome({name: getattr(args, name) for name in REPORTED_SETTINGS})


if __name__ == "__main__":
    print(train(TrainerConfig.model_validate_json(Path(sys.argv[1]).read_text())).model_dump_json())
