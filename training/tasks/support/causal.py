"""Examples, batches, and the loss of causal language models, shared by their tasks."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from training.tasks.base import (
    Batch,
    ExamplePreview,
    Loss,
    RowIssue,
    Task,
    TaskContext,
    TaskState,
    TextExample,
    TokenSegment,
    load_pretrained,
    pad_right,
)

if TYPE_CHECKING:
    import torch

R = TypeVar("R", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class CausalExample(TextExample):
    """A sequence of tokens with target weights."""

    weights: array[float]
    """(T,) float32: weight of each token as a target; 0 for context. The first is always 0."""
    has_reasoning: bool = False
    """True if an answer of a chat has reasoning."""


@dataclass(frozen=True)
class CausalTask(Task[R, CausalExample]):
    """Base class of tasks whose model predicts the next token. Subclasses define the rows."""

    train_on_inputs: bool = False
    """Train on the prompt too, not only on the answer."""

    example_type = CausalExample
    family = "generative"
    peft_task_type = "CAUSAL_LM"
    auto_class = "AutoModelForCausalLM"
    updates = frozenset({"lora", "full", "layers"})
    options = frozenset({"label_smoothing", "neftune_alpha", "train_on_inputs"})

    def with_options(self, train_on_inputs: bool, train_on_reasoning: bool = True) -> CausalTask[R]:
        return replace(self, train_on_inputs=train_on_inputs)

    def load_model(self, directory: Path, state: TaskState, dtype: torch.dtype) -> Any:
        return load_causal_model(directory, dtype)

    def stop_tokens(self, model: Any, tokenizer: Any) -> set[int]:
        """Return the tokens that end an answer."""
        configured = model.generation_config.eos_token_id
        end_tokens = configured if isinstance(configured, list) else [configured]
        return {token for token in [*end_tokens, tokenizer.eos_token_id] if token is not None}

    def preview(self, example: CausalExample, state: TaskState) -> ExamplePreview:
        return ExamplePreview([TokenSegment("input", example.ids, example.weights)])

    def count_targets(self, example: CausalExample) -> int:
        return count_targets(example)

    def sum_weights(self, example: CausalExample, ctx: TaskContext) -> float:
        return sum(example.weights)

    def collate(self, examples: Sequence[CausalExample], ctx: TaskContext) -> Batch:
        return collate(examples, ctx)

    def compute_loss(self, model: Any, batch: Batch, ctx: TaskContext) -> Loss:
        return compute_causal_loss(model, batch, ctx)


def load_causal_model(directory: Path, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM

    return load_pretrained(AutoModelForCausalLM, directory, dtype)


def build_causal_example(
    ids: Sequence[int], weights: array[float], max_length: int, field: str
) -> CausalExample | RowIssue:
    """Truncate on the right to ``max_length``. Changes ``weights``.

    Returns an issue of ``field`` if no target remains.
    """
    # No earlier token can predict the first one.
    weights[:1] = array("f", bytes(4 * len(weights[:1])))
    kept_weights = weights[:max_length]
    if not any(kept_weights):
        return RowIssue(
            "too_long",
            field,
            f"The text to learn begins after the limit of {max_length} tokens; shorten the text before it, or raise "
            "max_length if the base model allows it.",
        )
    return CausalExample(len(kept_weights), len(ids) > max_length, array("i", ids[:max_length]), kept_weights)


def count_targets(example: CausalExample) -> int:
    return len(example.weights) - example.weights.count(0.0)


def collate(examples: Sequence[CausalExample], ctx: TaskContext) -> Batch:
    """Batch the model's inputs and the N targets.

    A target has the position of the token before it in the flattened ids (``positions_N``), its id,
    its weight, and its row. The model needs no mask of the padding (``mask_BT``), which is on the
    right; losses that count tokens do.
    """
    import torch

    lengths = [len(example.ids) for example in examples]
    if ctx.packed:
        batch = _pack(examples, lengths)
        width = None
    else:
        batch = {"input_ids": pad_right([example.ids for example in examples], ctx.pad_token_id)}
        width = batch["input_ids"].shape[1]
        batch["mask_BT"] = torch.arange(width) < torch.tensor(lengths)[:, None]
    starts = [0, *accumulate(lengths)] if width is None else range(0, width * len(examples), width)
    weights = [torch.frombuffer(example.weights, dtype=torch.float32) for example in examples]
    targets = [weights_T.nonzero().squeeze(1) for weights_T in weights]
    target_positions_N = torch.cat([at_T + start for at_T, start in zip(targets, starts, strict=False)])
    return batch | {
        "positions_N": target_positions_N - 1,
        "targets_N": batch["input_ids"].flatten()[target_positions_N],
        "weights_N": torch.cat([weights_T[at_T] for weights_T, at_T in zip(weights, targets, strict=True)]),
        "rows_N": torch.repeat_interleave(torch.tensor([len(at_T) for at_T in targets])),
    }


def _pack(examples: Sequence[CausalExample], lengths: list[int]) -> Batch:
    import torch

    ids_T = torch.cat([torch.frombuffer(example.ids, dtype=torch.int32) for example in examples]).long()
    positions_T = torch.cat([torch.arange(length) for length in lengths])
    row_starts = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
    return {
        "input_ids": ids_T[None],
        "position_ids": positions_T[None],
        "row_lengths": lengths,
        "row_starts": row_starts,
    }


def select_model_inputs(batch: Batch) -> Batch:
    """Return the arguments of the model's forward: the entries whose names have no shape suffix.

    Shape suffixes are uppercase, as in ``positions_N``.
    """
    return {name: value for name, value in batch.items() if name.islower()}


def compute_causal_loss(model: Any, batch: Batch, ctx: TaskContext) -> Loss:
    """Return the weighted cross-entropy of the targets."""
    assert ctx.logprob_fn, "must be set when the model is loaded"
    smoothing = ctx.objective.label_smoothing
    scores = ctx.logprob_fn(
        model, select_model_inputs(batch), batch["positions_N"], batch["targets_N"], with_mean=smoothing > 0
    )
    losses_N = -scores.logprobs_N
    if smoothing:
        losses_N = (1 - smoothing) * losses_N - smoothing * scores.mean_logprobs_N
    # Not a matrix product: autocast would round losses, their sum and its gradient to bf16.
    return Loss((losses_N * batch["weights_N"]).sum(), scores.correct_N.sum())
