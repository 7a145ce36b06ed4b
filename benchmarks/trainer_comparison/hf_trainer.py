"""HF ``Trainer`` with PEFT, rows padded, float32.

``python -m benchmarks.trainer_comparison.hf_trainer TERMS.json``.
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

from benchmarks.trainer_comparison.config import ADAPTER, Outcome, Terms
from benchmarks.trainer_comparison.rows import encoded, lora
from benchmarks.trainer_comparison.step_timer import Watch, watched

TOLD = ("bf16", "gradient_checkpointing", "optim", "train_sampling_strategy", "lr_scheduler_type", "max_grad_norm")
"""Settings that the result names."""


def train(terms: Terms) -> Outcome:
    torch.set_num_threads(terms.threads)
    set_seed(terms.seed)
    tokenizer = AutoTokenizer.from_pretrained(terms.base)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(terms.base, dtype=torch.float32), lora(terms))
    args = TrainingArguments(
        output_dir=str(terms.folder / "out"),
        per_device_train_batch_size=terms.batch_size,
        num_train_epochs=terms.epochs,
        max_steps=terms.max_steps,
        learning_rate=terms.learning_rate,
        seed=terms.seed,
        report_to="none",
        use_cpu=True,
        **terms.settings,
    )
    watch = Watch(terms.patience)
    trainer = watched(Trainer, watch)(
        model=model,
        args=args,
        train_dataset=encoded(terms.rows, tokenizer),
        data_collator=watch.counting(DataCollatorForSeq2Seq(tokenizer)),
        callbacks=[watch],
    )
    trainer.train()
    model.save_pretrained(terms.folder / ADAPTER)
    return watch.outcome({name: getattr(args, name) for name in TOLD})


if __name__ == "__main__":
    print(train(Terms.model_validate_json(Path(sys.argv[1]).read_text())).model_dump_json())
