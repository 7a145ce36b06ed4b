"""HF ``Trainer`` with most of an encoder frozen.

Usage: ``python -m benchmarks.trainer_comparison.trainers.hf_frozen_encoder CONFIG.json``.

Rows are padded to the longest of their batch; weights are float32; other settings are the trainer's
defaults. The trainer puts the whole model in training mode, so the frozen blocks keep their dropout
and are computed again for every batch.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from benchmarks.trainer_comparison.frozen_encoder import FrozenEncoderConfig

MIN_EPOCHS = 2
MAX_SECONDS = 360.0
"""Time limit. A run that would exceed it ends after ``MIN_EPOCHS`` or the current epoch."""


class TrainingTimer(TrainerCallback):  # type: ignore[misc]
    """Measure the seconds from the start of training to the end of the last step.

    Stop a run that would exceed ``MAX_SECONDS``.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.epochs = 0
        self._started_at = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._started_at = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds = time.perf_counter() - self._started_at

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.epochs = round(state.epoch)
        if self.epochs >= MIN_EPOCHS and self.seconds * args.num_train_epochs / self.epochs > MAX_SECONDS:
            control.should_training_stop = True


def train(config: FrozenEncoderConfig) -> dict[str, Any]:
    torch.set_num_threads(config.threads)
    set_seed(config.seed)
    rows = config.read_labeled_rows()
    names = sorted({label for _, label in rows})
    tokenizer = AutoTokenizer.from_pretrained(config.base)
    model = AutoModelForSequenceClassification.from_pretrained(config.base, num_labels=len(names), dtype=torch.float32)
    trainable = freeze(model, config.blocks)
    encoded = tokenizer([text for text, _ in rows], truncation=True)["input_ids"]
    data = [{"input_ids": ids, "labels": names.index(label)} for ids, (_, label) in zip(encoded, rows, strict=True)]
    args = TrainingArguments(
        output_dir=str(config.folder / "out"),
        per_device_train_batch_size=config.batch_size,
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        seed=config.seed,
        report_to="none",
        use_cpu=True,
        save_strategy="no",
    )
    timer = TrainingTimer()
    collator = DataCollatorWithPadding(tokenizer)
    trainer = Trainer(model=model, args=args, train_dataset=data, data_collator=collator, callbacks=[timer])
    loss = trainer.train().training_loss
    measured = {"epochs_run": timer.epochs, "seconds_run": timer.seconds}
    # Every epoch does the same work, so the time of all epochs is proportional.
    seconds = timer.seconds * config.epochs / timer.epochs
    return {"seconds": seconds, **measured, "trainable": trainable, "mean_loss": loss}


def freeze(model: Any, trainable_blocks: int) -> int:
    """Freeze all but the last ``trainable_blocks`` and the head.

    Return the number of trainable weights.
    """
    encoder = model.base_model
    layers = encoder.encoder.layer
    for module in (encoder.embeddings, *layers[: len(layers) - trainable_blocks]):
        module.requires_grad_(False)
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


if __name__ == "__main__":
    print(json.dumps(train(FrozenEncoderConfig.model_validate_json(Path(sys.argv[1]).read_text()))))
