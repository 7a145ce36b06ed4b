"""Tests that compare loss and gradient norm per step with HF ``Trainer`` + PEFT and TRL.

Batches are equal, in fp32. The residual must be small at every step, and its mean must be near
zero, where a drift would show first.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

from tests.training.run_folders import FULL, LABEL_ROWS, EventRecorder, Row, create_run_folder
from training import run as runs
from training.run_events import Metrics
from training.spec import TrainSpec
from training.trainer.checkpoint import Progress
from training.trainer.loop import train as train_steps
from training.trainer.prepare import prepare
from training.trainer.setup import build_run, compute_reference_logprobs
from training.trainer.state import StopFlag, TrainingRun

trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"),
]

COUNTING_ROWS: list[Row] = [
    {
        "messages": [
            {"role": "user", "content": f"Count from {number}" + " slowly" * (number % 5) + "."},
            {"role": "assistant", "content": " ".join(str(number + step) for step in range(3 + number % 4)) + "."},
        ]
    }
    for number in range(40)
]
PREFERENCE_ROWS: list[Row] = [
    {
        "input": {"messages": row["messages"][:1]},
        "preferred_output": row["messages"][1:],
        "non_preferred_output": [{"role": "assistant", "content": "No" + " no" * (number % 6) + "."}],
    }
    for number, row in enumerate(COUNTING_ROWS)
]
LORA: Row = {"type": "lora", "rank": 8, "alpha": 16, "dropout": 0.0}
HYPER: Row = {
    "n_epochs": 1,
    "batch_size": 4,
    "gradient_accumulation_steps": 1,
    "learning_rate": 5e-3,
    "lr_scheduler": "constant",
    "warmup_ratio": 0.0,
    "weight_decay": 0.0,
}


@dataclass
class TrainingCurve:
    """Loss and gradient norm of each step."""

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)


@dataclass
class ParityRun:
    """A Luthier run and an untrained copy of its model for another trainer."""

    run: TrainingRun
    twin: Any

    @property
    def batches(self) -> list[list[Any]]:
        steps = range(1, self.run.hyper.max_steps + 1)
        return [[self.run.splits.training[row] for row in self.run.batch_sampler.get_batch(step)] for step in steps]

    def curve(self) -> TrainingCurve:
        lines = EventRecorder()
        self.run.emit = lines
        train_steps(self.run, Progress())
        metrics = lines.of_type(Metrics)
        assert [line.step for line in metrics] == list(range(1, self.run.hyper.max_steps + 1))
        return TrainingCurve([line.train_loss for line in metrics], [line.grad_norm for line in metrics])


@pytest.fixture
def create_parity_run(tmp_path: Path) -> Callable[..., ParityRun]:
    def create(task: str, base: Path, update: Row, rows: list[Row], **changes: Any) -> ParityRun:
        folder = create_run_folder(
            tmp_path / "ours", base, task, update, training=rows, **{"hyperparameters": HYPER, **changes}
        )
        spec = TrainSpec.read(folder)

        def fresh() -> TrainingRun:
            return build_run(folder, spec, prepare(folder, spec, StopFlag()), lambda line: None, StopFlag())

        run = fresh()
        compute_reference_logprobs(run)
        return ParityRun(run, fresh().model)

    return create


def build_training_arguments(arguments_class: type[Any], folder: Path, steps: int, **overrides: Any) -> Any:
    return arguments_class(
        output_dir=str(folder / "theirs"),
        max_steps=steps,
        per_device_train_batch_size=4,
        learning_rate=HYPER["learning_rate"],
        lr_scheduler_type="constant",
        weight_decay=0.0,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        **{"bf16": False, "gradient_checkpointing": False, **overrides},
    )


def train_with(trainer_class: type[Any], batches: list[dict[str, Any]], **trainer_arguments: Any) -> TrainingCurve:
    """Train with another library's trainer on the given batches."""
    curve = TrainingCurve()

    class RecordingTrainer(trainer_class):  # type: ignore[misc]
        def get_train_dataloader(self) -> Any:
            return DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch)  # type: ignore[arg-type]

        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            out = super().compute_loss(*args, **kwargs)
            curve.losses.append(float((out[0] if isinstance(out, tuple) else out).detach()))
            return out

        def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
            if "grad_norm" in logs:
                curve.norms.append(float(logs["grad_norm"]))

    RecordingTrainer(**trainer_arguments).train()
    return curve


def assert_curves_agree(left: TrainingCurve, right: TrainingCurve) -> None:
    for name in ("losses", "norms"):
        a, b = (torch.tensor(getattr(curve, name), dtype=torch.float64) for curve in (left, right))
        assert len(a) == len(b) >= 4
        residual = (a - b) / b
        assert residual.abs().max() < 1e-4, (name, residual)
        # Zero mean: within the standard error of the residuals, or far below any relevance.
        assert residual.mean().abs() < max(3 * float(residual.std()) / len(residual) ** 0.5, 1e-6), (name, residual)
    assert left.losses[0] != left.losses[-1]


def pad_batch(examples: list[Any], pad: int) -> dict[str, Any]:
    longest = max(len(example.ids) for example in examples)
    ids = torch.full((len(examples), longest), pad)
    labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
    for index, example in enumerate(examples):
        row = torch.tensor(list(example.ids))
        ids[index, : len(row)], mask[index, : len(row)] = row, 1
        labels[index, : len(row)] = row.masked_fill(torch.tensor(list(example.weights)) == 0, -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


@pytest.mark.parametrize("update", [LORA, FULL], ids=["lora", "full"])
def test_supervised_as_hf_trainer(
    create_parity_run: Callable[..., ParityRun], chat_base: Path, tmp_path: Path, update: Row
) -> None:
    ours = create_parity_run("chat", chat_base, update, COUNTING_ROWS)
    batches = [pad_batch(batch, ours.run.context.pad_token_id) for batch in ours.batches]
    curve = train_with(
        Trainer,
        batches,
        model=ours.twin,
        args=build_training_arguments(TrainingArguments, tmp_path, len(batches)),
        train_dataset=batches,
    )
    assert_curves_agree(ours.curve(), curve)


def test_classification_as_hf_trainer(
    create_parity_run: Callable[..., ParityRun], encoder_base: Path, tmp_path: Path
) -> None:
    # The order of dropout draws would differ.
    ours = create_parity_run("text-classification", copy_base_without_dropout(encoder_base, tmp_path), LORA, LABEL_ROWS)
    batches = []
    for examples in ours.batches:
        batch = ours.run.task.collate(examples, ours.run.context)
        truth = batch.pop("truth_BL")
        batches.append({**batch, "labels": truth.int().argmax(-1)})
    curve = train_with(
        Trainer,
        batches,
        model=ours.twin,
        args=build_training_arguments(TrainingArguments, tmp_path, len(batches)),
        train_dataset=batches,
    )
    assert_curves_agree(ours.curve(), curve)


def test_supervised_as_trl(create_parity_run: Callable[..., ParityRun], chat_base: Path, tmp_path: Path) -> None:
    ours = create_parity_run("chat", chat_base, LORA, COUNTING_ROWS)
    batches = [pad_batch(batch, ours.run.context.pad_token_id) for batch in ours.batches]
    rows = datasets.Dataset.from_list([{"input_ids": list(example.ids)} for example in ours.run.splits.training])
    args = build_training_arguments(
        trl.SFTConfig, tmp_path, len(batches), dataset_kwargs={"skip_prepare_dataset": True}
    )
    curve = train_with(
        trl.SFTTrainer,
        batches,
        model=ours.twin,
        args=args,
        train_dataset=rows,
        processing_class=ours.run.context.processor,
    )
    assert_curves_agree(ours.curve(), curve)


@pytest.mark.parametrize("loss", ["sigmoid", "ipo"])
def test_preference_as_trl(
    create_parity_run: Callable[..., ParityRun], chat_base: Path, tmp_path: Path, loss: str
) -> None:
    hyper = {**HYPER, "beta": 0.2, "loss": loss}
    ours = create_parity_run("chat", chat_base, LORA, PREFERENCE_ROWS, method="dpo", hyperparameters=hyper)
    batches = [dict(build_preference_batch(batch, ours.run.context.pad_token_id)) for batch in ours.batches]
    rows = datasets.Dataset.from_list(
        [{"prompt": "a", "chosen": "b", "rejected": "c"} for example in ours.run.splits.training]
    )
    args = build_training_arguments(trl.DPOConfig, tmp_path, len(batches), beta=0.2, loss_type=[loss])
    curve = train_with(
        trl.DPOTrainer,
        batches,
        model=ours.twin,
        args=args,
        train_dataset=rows,
        processing_class=ours.run.context.processor,
    )
    assert_curves_agree(ours.curve(), curve)


def build_preference_batch(examples: list[Any], pad: int) -> Iterator[tuple[str, Any]]:
    """Build TRL's batch: all chosen, then all rejected."""
    batch = pad_batch([example.chosen for example in examples] + [example.rejected for example in examples], pad)
    yield from ((name, batch[name]) for name in ("input_ids", "attention_mask"))
    yield "completion_mask", (batch["labels"] != -100).long()


def copy_base_without_dropout(base: Path, tmp_path: Path) -> Path:
    """Copy a base and set its dropout to 0."""
    shutil.copytree(base, tmp_path / "no_dropout")
    config = json.loads((tmp_path / "no_dropout/config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (tmp_path / "no_dropout/config.json").write_text(json.dumps(config))
    return tmp_path / "no_dropout"


def test_the_comparison_rejects_different_and_biased_curves() -> None:
    assert runs.train.__module__.startswith("training")
    with pytest.raises(AssertionError):
        assert_curves_agree(
            TrainingCurve([1.0, 1.0, 1.0, 0.9], [1.0] * 4), TrainingCurve([1.0, 1.0, 1.0, 0.8], [1.0] * 4)
        )
    biased = [1.00005] * 4
    with pytest.raises(AssertionError):
        assert_curves_agree(TrainingCurve(biased, biased), TrainingCurve([1.0] * 4, [1.0] * 4))
