"""What the tasks of causal language models share: a sequence, which of its tokens are learnt, and the loss of those."""

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
    """A sequence of tokens."""

    weights: array[float]
    """(T,) float32: how much each token counts as a target; 0 where it is only read. The first is always 0."""


@dataclass(frozen=True)
class CausalTask(Task[R, CausalExample]):
    """A task whose model writes the next token: all but its rows."""

    train_on_inputs: bool = False
    """Whether what the model is asked is learnt too, not only what it should answer."""

    family = "generative"
    peft_type = "CAUSAL_LM"
    updates = frozenset({"lora", "full", "layers"})
    options = frozenset({"label_smoothing", "neftune_alpha", "train_on_inputs"})

    def with_options(self, train_on_inputs: bool) -> CausalTask[R]:
        return replace(self, train_on_inputs=train_on_inputs)

    def load_model(self, directory: Path, state: TaskState, dtype: torch.dtype) -> Any:
        return load_causal_model(directory, dtype)

    def stop_tokens(self, model: Any, tokenizer: Any) -> set[int]:
        """Any of these ends an answer."""
        configured = model.generation_config.eos_token_id
        ends = configured if isinstance(configured, list) else [configured]
        return {token for token in [*ends, tokenizer.eos_token_id] if token is not None}

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
    """Cut on the right; a flaw of ``field`` where that leaves nothing to learn. Changes ``weights``."""
    # Nothing comes before the first token to predict it from.
    weights[:1] = array("f", bytes(4 * len(weights[:1])))
    kept = weights[:max_length]
    if not any(kept):
        return RowIssue(
            "too_long",
            field,
            f"What is to be learnt begins after the {max_length} tokens that a row may have; shorten what comes before "
            "it, or raise max_length where the base model allows it.",
        )
    return CausalExample(len(kept), len(ids) > max_length, array("i", ids[:max_length]), kept)


def count_targets(example: CausalExample) -> int:
    return len(example.weights) - example.weights.count(0.0)


def collate(examples: Sequence[CausalExample], ctx: TaskContext) -> Batch:
    """The model's inputs, and of each of the N targets: where the token before it stands in the flattened ids
    (``positions_N``), its id, its weight and its row."""
    import torch

    lengths = [len(example.ids) for example in examples]
    if ctx.packed:
        batch = _pack(examples, lengths)
        width = None
    else:
        batch = {"input_ids": pad_right([example.ids for example in examples], ctx.pad_token_id)}
        width = batch["input_ids"].shape[1]
    starts = [0, *accumulate(lengths)] if width is None else range(0, width * len(examples), width)
    weights = [torch.frombuffer(example.weights, dtype=torch.float32) for example in examples]
    targets = [weights_T.nonzero().squeeze(1) for weights_T in weights]
    places_N = torch.cat([at_T + start for at_T, start in zip(targets, starts, strict=False)])
    return batch | {
        "positions_N": places_N - 1,
        "targets_N": batch["input_ids"].flatten()[places_N],
        "weights_N": torch.cat([weights_T[at_T] for weights_T, at_T in zip(weights, targets, strict=True)]),
        "rows_N": torch.repeat_interleave(torch.tensor([len(at_T) for at_T in targets])),
    }


def _pack(examples: Sequence[CausalExample], lengths: list[int]) -> Batch:
    import torch

    ids_T = torch.cat([torch.frombuffer(example.ids, dtype=torch.int32) for example in examples]).long()
    positions_T = torch.cat([torch.arange(length) for length in lengths])
    return {"input_ids": ids_T[None], "position_ids": positions_T[None], "row_lengths": lengths}


def select_model_inputs(batch: Batch) -> Batch:
    """The arguments of the model's forward: what is named without a shape."""
    return {name: value for name, value in batch.items() if name.islower()}


def compute_causal_loss(model: Any, batch: Batch, ctx: TaskContext) -> Loss:
    """Cross-entropy of the targets, each times its weight."""
    assert ctx.logprob_fn, "set by whoever loads the model"
    smoothing = ctx.objective.label_smoothing
    found = ctx.logprob_fn(
        model, select_model_inputs(batch), batch["positions_N"], batch["targets_N"], with_mean=smoothing > 0
    )
    losses_N = -found.logprobs_N
    if smoothing:
        losses_N = (1 - smoothing) * losses_N - smoothing * found.mean_logprobs_N
    return Loss(losses_N @ batch["weights_N"], found.correct_N.sum())
