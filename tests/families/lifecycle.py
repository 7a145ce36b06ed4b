"""Life of one model: train, stop, resume, save, load, merge, serve."""

from __future__ import annotations

import queue
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from inference.generation.detokenizer import IncrementalDetokenizer
from inference.generation.llm_engine import BASE_ADAPTER, LLMEngine
from inference.generation.sampling import SamplingParams
from inference.generation.scheduler import SequenceOutput, SequenceState, emit_outputs
from tests.training.run_folders import EventRecorder, Row, create_run_folder, hash_files, run_training
from training import run as runs
from training.artifacts import serving
from training.errors import Interrupted
from training.run_events import Checkpoint, Metrics, Result, RunEvent
from training.spec import TrainSpec
from training.tasks import TASKS
from training.tasks.base import AnyTask, TaskContext
from training.tasks.chat_format.template import ChatTemplate
from training.trainer.checkpoint import Progress
from training.trainer.loop import train as train_steps
from training.trainer.prepare import prepare
from training.trainer.setup import build_run, cache_frozen_features
from training.trainer.state import StopFlag, TrainingRun
from training.updates.lora import LoraUpdate, supports_mixed_batches

HYPERPARAMETERS = {"max_steps": 4, "batch_size": 4, "learning_rate": 0.01}
NEW_TOKENS = 6
UPDATES: dict[str, Row] = {
    "lora": {"type": "lora", "rank": 4},
    "full": {"type": "full"},
    "head": {"type": "head"},
    "layers": {"type": "layers", "last": 1},
}
UPDATE_ROWS: dict[str, Row] = {
    **UPDATES,
    "qlora": {"type": "lora", "rank": 4, "dropout": 0.1, "base_precision": "nf4"},
}


@dataclass(frozen=True)
class Case:
    """Base, task, update and rows of a life."""

    base: Path
    task: str
    update: str
    rows: list[Row]
    inputs: list[Any]
    """Inputs of predictions; prompts of generative tasks."""
    folder: Path

    def create_folder(self, name: str) -> Path:
        values = {"training": self.rows, "hyperparameters": HYPERPARAMETERS}
        return create_run_folder(self.folder / name, self.base, self.task, UPDATE_ROWS[self.update], **values)


def check_life(case: Case) -> None:
    """Check that every stage of a life gives the numbers of the stage before it."""
    run = _train_whole(case)
    saved = case.folder / "saved"
    _check_resume(case, saved)
    served = serving.load(case.base, saved, case.task)
    examples = list(run.splits.training[:4])
    with run.full_eval_mode():
        expected = compute_outputs(served.task, run.model, run.context, examples)
    assert_close(compute_outputs(served.task, served.model, served.context, examples), expected)
    if UPDATE_ROWS[case.update]["type"] == "lora":
        _check_merged(case, saved, examples, expected)
    if served.task.generative:
        check_generation(case, saved)
    else:
        _check_predictions(case, served)


def _train_whole(case: Case) -> TrainingRun:
    folder = case.create_folder("whole")
    spec = TrainSpec.read(folder)
    run = build_run(folder, spec, prepare(folder, spec, StopFlag()), EventRecorder(), StopFlag())
    cache_frozen_features(run, spec)
    train_steps(run, Progress())
    (case.folder / "saved").mkdir()
    run.write_model(case.folder / "saved")
    return run


def _check_resume(case: Case, saved: Path) -> None:
    """Check that a stopped and resumed run has the files of the unbroken one, bit for bit."""
    first, second = case.create_folder("first"), case.create_folder("second")
    events, stop = EventRecorder(), StopFlag()

    def stop_in_the_middle(event: RunEvent) -> None:
        events(event)
        if isinstance(event, Metrics) and event.step == HYPERPARAMETERS["max_steps"] // 2:
            stop.requested = True

    with pytest.raises(Interrupted):
        runs.train(first, stop_in_the_middle, stop)
    shutil.copytree(first / events.of_type(Checkpoint)[-1].path, second / "resume")
    [result] = run_training(second).of_type(Result)
    assert hash_files(second / result.path) == hash_files(saved)


def _check_merged(case: Case, saved: Path, examples: Sequence[Any], expected: list[Any]) -> None:
    """Check that the merged weights, loaded as a model of their own, give the adapter's outputs."""
    merged = case.folder / "merged"
    serving.merge(case.base, saved, merged)
    task = TASKS[case.task]
    metadata = serving.read_metadata(saved, case.task)
    model = task.load_model(merged, metadata.state, torch.float32).eval()
    served = serving.load(case.base, saved, case.task)
    assert_close(compute_outputs(task, model, served.context, examples), expected, tolerance=1e-3)


def _check_predictions(case: Case, served: serving.ServedModel) -> None:
    assert served.task.input_schema is not None or served.task.route == "embeddings"
    schema = served.task.input_schema
    inputs = [schema.model_validate(value) for value in case.inputs] if schema else case.inputs
    together = serving.predict(served, inputs, top_k=3)
    for left, value in zip(together, inputs, strict=True):
        assert_close(left, serving.predict(served, [value], top_k=3)[0])


def check_generation(case: Case, saved: Path) -> None:
    """Check that the engine answers a prompt alike alone and in a batch with others."""
    update = serving.read_metadata(saved, case.task).update
    # Adapted experts are served as a model of their own.
    is_adapter = isinstance(update, LoraUpdate) and supports_mixed_batches(saved)
    precision = update.base_precision if is_adapter else "native"
    served = serving.load(case.base, None if is_adapter else saved, case.task, base_precision=precision)
    engine = LLMEngine(served, 512, 8, "family", emit_outputs)
    try:
        adapter = engine.load_adapter(saved) if is_adapter else BASE_ADAPTER
        # A chat is rendered with its template, a completion has none.
        context = ChatTemplate(engine.tokenizer) if case.task == "chat" else engine.tokenizer
        prompts = [engine.task.encode_prompt(value, context) for value in case.inputs]
        together = generate(engine, adapter, prompts)
        alone = [generate(engine, adapter, [prompt])[0] for prompt in prompts]
    finally:
        engine.scheduler.close()
    assert together == alone
    assert all(together)


def generate(engine: LLMEngine, adapter: str, prompts: Sequence[list[int]]) -> list[list[int]]:
    """Generate greedily for all prompts in one batch and return the tokens of each."""
    outputs: queue.Queue[SequenceOutput] = queue.Queue()
    params = SamplingParams(temperature=0.0)
    sequences = [
        SequenceState(prompt, adapter, params, IncrementalDetokenizer(engine.tokenizer, []), NEW_TOKENS, outputs.put)
        for prompt in prompts
    ]
    engine.scheduler.submit(sequences)
    finished = 0
    while finished < len(sequences):
        output = outputs.get(timeout=60)
        assert output.error is None, output.error
        finished += output.is_final
    return [sequence.output_tokens for sequence in sequences]


def compute_outputs(task: AnyTask, model: Any, ctx: TaskContext, examples: Sequence[Any]) -> list[Any]:
    """Return the answers of a predicting task, or the losses of rows of another."""
    if task.route in ("predictions", "embeddings") and task.name != "embedding":
        return task.answer(model, examples, ctx, 3)
    with torch.inference_mode():
        return [float(task.compute_loss(model, task.collate([example], ctx), ctx).total) for example in examples]


def assert_close(left: Any, right: Any, tolerance: float = 1e-4) -> None:
    """Assert equality up to rounding of numbers."""
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for name in left:
            assert_close(left[name], right[name], tolerance)
    elif isinstance(left, list):
        assert len(left) == len(right)
        for left_item, right_item in zip(left, right, strict=True):
            assert_close(left_item, right_item, tolerance)
    elif isinstance(left, float):
        assert left == pytest.approx(right, rel=tolerance, abs=tolerance)
    else:
        assert left == right
