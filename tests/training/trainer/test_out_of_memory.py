"""Tests for out-of-memory errors: smaller micro-batches give the same results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.run_folders import FULL, LORA, EventRecorder, Row, create_run_folder, hash_files, run_training
from tests.training.step_probe import assert_resumed_run_matches, set_up_run
from training.run_events import Checkpoint, Message, Metrics
from training.tasks.embedding import Embedding
from training.tasks.text_classification import TextClassification
from training.trainer import gradients
from training.trainer.checkpoint import Progress
from training.trainer.failures import to_failure
from training.trainer.state import TrainingRun

pytestmark = pytest.mark.integration

OUT_OF_MEMORY_ERRORS: list[Callable[[], Exception]] = [
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried"),
    MemoryError,
]
HYPER = {"n_epochs": 2, "batch_size": 4, "learning_rate": 0.01}
LORA_WITHOUT_DROPOUT: Row = {"type": "lora", "rank": 4}


def create_folder(
    directory: Path, base: Path, update: Row = FULL, task: str = "text-classification", **hyper: Any
) -> Path:
    return create_run_folder(directory, base, task, update, hyperparameters={**HYPER, **hyper})


@pytest.fixture
def limit_memory(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Simulate memory for at most ``rows`` rows in training.

    The result lists the sizes of the attempted micro-batches.
    """

    def limit(
        rows: int, error: Callable[[], Exception] = OUT_OF_MEMORY_ERRORS[0], task: Any = TextClassification
    ) -> list[int]:
        attempted_sizes: list[int] = []
        plain = task.compute_loss

        def loss(self: Any, model: Any, batch: Any, ctx: Any) -> Any:
            size = len(next(iter(batch.values())))
            if torch.is_grad_enabled():
                attempted_sizes.append(size)
            # Fail late, after dropout has been drawn.
            result = plain(self, model, batch, ctx)
            if torch.is_grad_enabled() and size > rows:
                raise error()
            return result

        monkeypatch.setattr(task, "compute_loss", loss)
        return attempted_sizes

    return limit


@pytest.mark.parametrize("error", OUT_OF_MEMORY_ERRORS, ids=["cuda", "cpu", "python"])
def test_a_batch_is_retried_in_micro_batches_of_half_the_size(
    tmp_path: Path, encoder_base: Path, limit_memory: Any, error: Callable[[], Exception]
) -> None:
    split = run_training(create_folder(tmp_path / "split", encoder_base, gradient_accumulation_steps=2))
    attempted_sizes = limit_memory(2, error)
    retried = run_training(create_folder(tmp_path / "retried", encoder_base, gradient_accumulation_steps=1))
    assert attempted_sizes == [4] + [2] * 16
    [warning] = [line for line in retried.of_type(Message) if line.level == "warn"]
    assert warning.message == (
        "Out of memory at step 1. Batches are now split into 2 micro-batches; the result is the same."
    )
    # The micro-batches and dropout equal those of a run that had two from the start.
    for left, right in zip(retried.of_type(Metrics), split.of_type(Metrics), strict=True):
        assert left.train_loss == right.train_loss
        assert left.grad_norm == right.grad_norm
    assert _hash_weights(tmp_path / "retried") == _hash_weights(tmp_path / "split")


def _hash_weights(folder: Path) -> str:
    return hash_files(folder / "result")["model.safetensors"]


def test_the_gradient_is_that_of_the_complete_batch(tmp_path: Path, encoder_base: Path, limit_memory: Any) -> None:
    run = set_up_run(create_folder(tmp_path / "run", encoder_base, LORA_WITHOUT_DROPOUT))
    run.model.eval()
    rows = run.splits.training[:4]
    whole = _compute_gradient(run, rows, micro_batches=1)
    limit_memory(1)
    halved = _compute_gradient(run, rows, micro_batches=2)
    torch.testing.assert_close(halved, whole, rtol=1e-5, atol=1e-6)


def _compute_gradient(run: TrainingRun, rows: Any, micro_batches: int) -> dict[str, torch.Tensor]:
    run.optimizer.zero_grad()
    gradients.compute_gradients(run, rows, micro_batches)
    return {name: weight.grad.clone() for name, weight in run.trainable_parameters.items() if weight.grad is not None}


def test_gradients_of_earlier_micro_batches_are_not_counted_twice(
    tmp_path: Path, encoder_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first micro-batch has added its gradient when the second runs out of memory."""
    retried, split = (set_up_run(create_folder(tmp_path / name, encoder_base)) for name in ("retried", "split"))
    expected = _compute_gradient(split, split.splits.training[:8], micro_batches=4)
    plain, calls = TextClassification.compute_loss, []

    def loss(*args: Any) -> Any:
        calls.append(len(args[2]["input_ids"]))
        if len(calls) == 2:
            raise OUT_OF_MEMORY_ERRORS[0]()
        return plain(*args)

    monkeypatch.setattr(TextClassification, "compute_loss", loss)
    gradient = _compute_gradient(retried, retried.splits.training[:8], micro_batches=2)
    assert calls == [4, 4, 2, 2, 2, 2]
    assert all(torch.equal(gradient[name], expected[name]) for name in expected)


def test_it_can_happen_at_several_steps(tmp_path: Path, encoder_base: Path, limit_memory: Any) -> None:
    """Each error halves the micro-batches once."""
    run = set_up_run(create_folder(tmp_path / "run", encoder_base))
    rows = run.splits.training
    attempted_sizes = limit_memory(4)
    assert gradients.compute_gradients(run, rows[:8], 1).micro_batches == 2
    assert gradients.compute_gradients(run, rows[:16], 2).micro_batches == 4
    assert attempted_sizes == [8, 4, 4, 8, 4, 4, 4, 4]


def test_a_short_batch_halves_the_micro_batches_of_later_long_ones(
    tmp_path: Path, encoder_base: Path, limit_memory: Any
) -> None:
    """Three rows in two micro-batches fail, so the number becomes four, more than the rows."""
    run = set_up_run(create_folder(tmp_path / "run", encoder_base))
    limit_memory(1)
    assert gradients.compute_gradients(run, run.splits.training[:3], 2).micro_batches == 4


@pytest.mark.parametrize("error", OUT_OF_MEMORY_ERRORS, ids=["cuda", "cpu", "python"])
def test_the_run_fails_if_one_row_is_too_much(
    tmp_path: Path, encoder_base: Path, limit_memory: Any, error: Callable[[], Exception]
) -> None:
    attempted_sizes = limit_memory(0, error)
    folder = create_folder(tmp_path / "run", encoder_base, gradient_accumulation_steps=2)
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        run_training(folder)
    # The last attempt recomputes activations.
    assert attempted_sizes == [2, 1, 1]
    failure = to_failure(caught.value)
    assert failure is not None
    assert failure.code == "out_of_memory"
    assert "Lower max_length" in failure.message


def test_one_batch_is_halved_until_it_fits(tmp_path: Path, encoder_base: Path, limit_memory: Any) -> None:
    attempted_sizes = limit_memory(1)
    run_training(create_folder(tmp_path / "run", encoder_base, gradient_accumulation_steps=1))
    assert attempted_sizes == [4, 2] + [1] * 32


@pytest.fixture
def need_checkpointing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate memory for one row whose activations are recomputed."""
    plain = TextClassification.compute_loss

    def loss(self: Any, model: Any, batch: Any, ctx: Any) -> Any:
        result = plain(self, model, batch, ctx)
        is_checkpointed = any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
        if torch.is_grad_enabled() and not (is_checkpointed and len(batch["input_ids"]) == 1):
            raise OUT_OF_MEMORY_ERRORS[1]()
        return result

    monkeypatch.setattr(TextClassification, "compute_loss", loss)


@pytest.mark.parametrize("update", [FULL, LORA], ids=lambda update: update["type"])
def test_activations_are_recomputed_if_one_row_is_too_much(
    tmp_path: Path, encoder_base: Path, need_checkpointing: None, update: Row
) -> None:
    """The results are those of a run with these settings from the start, also after a resume."""
    small = {"gradient_accumulation_steps": 4, "gradient_checkpointing": True}
    expected = run_training(create_folder(tmp_path / "expected", encoder_base, update, **small))

    def create_unprepared_folder(name: str) -> Path:
        return create_folder(tmp_path / name, encoder_base, update, gradient_accumulation_steps=2)

    whole = run_training(create_unprepared_folder("whole"))
    warnings = [line.message for line in whole.of_type(Message) if line.level == "warn"]
    assert warnings == [
        "Out of memory at step 1. Batches are now split into 4 micro-batches; the result is the same.",
        "Out of memory at step 1. Activations are now recomputed in the backward pass, which takes longer; "
        "the result is the same.",
    ]
    losses = [[line.train_loss for line in events.of_type(Metrics)] for events in (whole, expected)]
    assert losses[0] == losses[1]
    events = assert_resumed_run_matches(create_unprepared_folder, 4, whole)
    state = tmp_path / "4-first" / events.of_type(Checkpoint)[-1].path / "state/progress.json"
    progress = Progress.model_validate_json(state.read_bytes())
    assert (progress.parts, progress.checkpointing) == (4, True)


def test_a_batch_that_cannot_be_split_is_recomputed_before_it_fails(
    tmp_path: Path, encoder_base: Path, limit_memory: Any
) -> None:
    attempted_sizes = limit_memory(0, task=Embedding)
    rows = [{"anchor": f"{word} one", "positive": f"two {word}"} for word in ("sun", "rain", "snow", "wind")]
    with pytest.raises(torch.OutOfMemoryError):
        run_training(
            create_run_folder(tmp_path / "run", encoder_base, "embedding", FULL, training=rows, hyperparameters=HYPER)
        )
    assert len(attempted_sizes) == 2


def test_other_errors_are_not_retried(tmp_path: Path, encoder_base: Path, limit_memory: Any) -> None:
    attempted_sizes = limit_memory(2, lambda: RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes") as caught:
        run_training(create_folder(tmp_path / "run", encoder_base))
    assert attempted_sizes == [4]
    assert to_failure(caught.value) is None


def test_the_number_of_micro_batches_survives_a_resume(tmp_path: Path, encoder_base: Path, limit_memory: Any) -> None:
    def create_split_folder(name: str) -> Path:
        return create_folder(tmp_path / name, encoder_base, LORA, gradient_accumulation_steps=1)

    attempted_sizes = limit_memory(2)
    whole: EventRecorder = run_training(create_split_folder("whole"))
    for step in (1, 4, 7):
        attempted_sizes.clear()
        events = assert_resumed_run_matches(create_split_folder, step, whole)
        assert attempted_sizes.count(4) == 1
        state = tmp_path / f"{step}-first" / events.of_type(Checkpoint)[-1].path / "state/progress.json"
        assert Progress.model_validate_json(state.read_bytes()).parts == 2
