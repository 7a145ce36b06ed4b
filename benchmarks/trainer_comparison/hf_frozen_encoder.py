"""HF ``Trainer`` with most of an encoder frozen.

``python -m benchmarks.trainer_comparison.hf_frozen_encoder WORK.json``.

Rows padded to the longest of their batch, float32, the trainer's defaults. It sets the whole model to train, so the
frozen part keeps its dropout and is computed anew for every batch.
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
"""A run that would take longer ends after the least epochs."""


class TrainingTimer(TrainerCallback):  # type: ignore[misc]
    """Seconds from the start of training to the last step's end. Ends a run that would take too long."""

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
    clock = TrainingTimer()
    collator = DataCollatorWithPadding(tokenizer)
    trainer = Trainer(model=model, args=args, train_dataset=data, data_collator=collator, callbacks=[clock])
    loss = trainer.train().training_loss
    ran = {"epochs_run": clock.epochs, "seconds_run": clock.seconds}
    # Each epoch is the same work, so all of them take as many times as long.
    whole = clock.seconds * config.epochs / clock.epochs
    return {"seconds": whole, **ran, "trainable": trainable, "mean_loss": loss}


def freeze(model: Any, trainable_blocks: int) -> int:
    """Leave the last ``blocks`` and what stands behind them to train; how many weights that is."""
    encoder = model.base_model
    layers = encoder.encoder.layer
    for frozen in (encoder.embeddings, *layers[: len(layers) - trainable_blocks]):
        frozen.requires_grad_(False)
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


if __name__ == "__main__":
    print(json.dumps(train(FrozenEncoderConfig.model_validate_json(Path(sys.argv[1]).read_text()))))
