"""TRL's ``SFTTrainer``: ``python -m benchmarks.trainer_comparison.trainers.trl_sft CONFIG.json``.

TRL's defaults apply except for the shared configuration and ``settings``. TRL loads the model from
its path. Rows are prompt-completion pairs; TRL's default trains on the completion.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from datasets import Dataset
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer

from benchmarks.trainer_comparison.config import ADAPTER_FOLDER, Outcome, TrainerConfig, read_rows, to_prompt_completion
from benchmarks.trainer_comparison.rows import build_lora_config
from benchmarks.trainer_comparison.trainers.step_timer import StepTimer, add_loss_recording

REPORTED_ARGUMENTS = (
    *("bf16", "gradient_checkpointing", "packing", "padding_free", "max_length", "loss_type", "optim"),
    *("train_sampling_strategy", "per_device_train_batch_size", "gradient_accumulation_steps", "torch_compile"),
    *("lr_scheduler_type", "weight_decay", "max_grad_norm"),
)
"""Arguments that the result reports."""


def train(config: TrainerConfig) -> Outcome:
    torch.set_num_threads(config.threads)
    args = SFTConfig(**config.arguments, model_init_kwargs={"dtype": config.settings.weights_dtype})
    timer = StepTimer(config.patience)
    trainer = add_loss_recording(SFTTrainer, timer)(
        model=str(config.base),
        args=args,
        train_dataset=Dataset.from_list(read_prompt_completions(config.rows)),
        processing_class=AutoTokenizer.from_pretrained(config.base),
        peft_config=build_lora_config(config),
        callbacks=[timer],
    )
    trainer.data_collator = timer.wrap_collator(trainer.data_collator)
    trainer.train()
    trainer.model.save_pretrained(config.folder / ADAPTER_FOLDER)
    return timer.to_outcome(config.settings.describe(args, REPORTED_ARGUMENTS), args.gradient_accumulation_steps)


def read_prompt_completions(path: Path) -> list[dict[str, list[dict[str, str]]]]:
    return [dict(zip(("prompt", "completion"), to_prompt_completion(row), strict=True)) for row in read_rows(path)]


if __name__ == "__main__":
    print(train(TrainerConfig.model_validate_json(Path(sys.argv[1]).read_text())).model_dump_json())
