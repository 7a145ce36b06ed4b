"""TRL's ``SFTTrainer``: ``python -m benchmarks.trainer_comparison.trl_sft TERMS.json``.

Its defaults stay but for the terms and ``settings``. A model given by its path is loaded as TRL loads it; rows are
given as prompt and completion, of which its default learns the completion.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from datasets import Dataset
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer

from benchmarks.trainer_comparison.config import ADAPTER, Outcome, Terms, read_rows, turns
from benchmarks.trainer_comparison.rows import lora
from benchmarks.trainer_comparison.step_timer import Watch, watched

TOLD = (
    *("bf16", "gradient_checkpointing", "packing", "padding_free", "max_length", "loss_type", "optim"),
    *("train_sampling_strategy", "per_device_train_batch_size", "lr_scheduler_type", "weight_decay", "max_grad_norm"),
)
"""Settings that the result names."""


def train(terms: Terms) -> Outcome:
    torch.set_num_threads(terms.threads)
    asked = {
        "per_device_train_batch_size": terms.batch_size,
        "num_train_epochs": terms.epochs,
        "max_steps": terms.max_steps,
        "learning_rate": terms.learning_rate,
        "seed": terms.seed,
        "report_to": "none",
        # Without it the default bf16 is refused where there is no GPU.
        "use_cpu": True,
    }
    args = SFTConfig(output_dir=str(terms.folder / "out"), **asked | terms.settings)
    watch = Watch(terms.patience)
    trainer = watched(SFTTrainer, watch)(
        model=str(terms.base),
        args=args,
        train_dataset=Dataset.from_list(prompts(terms.rows)),
        processing_class=AutoTokenizer.from_pretrained(terms.base),
        peft_config=lora(terms),
        callbacks=[watch],
    )
    trainer.data_collator = watch.counting(trainer.data_collator)
    trainer.train()
    trainer.model.save_pretrained(terms.folder / ADAPTER)
    return watch.outcome({name: getattr(args, name) for name in TOLD})


def prompts(rows: Path) -> list[dict[str, list[dict[str, str]]]]:
    return [dict(zip(("prompt", "completion"), turns(row), strict=True)) for row in read_rows(rows)]


if __name__ == "__main__":
    print(train(Terms.model_validate_json(Path(sys.argv[1]).read_text())).model_dump_json())
