"""Direct preference optimization on pairs of answers, relative to the model before training.

Row: ``{"input": {"messages": […], "tools": […]}, "preferred_output": [{"role": "assistant", …}],
"non_preferred_output": […]}``, OpenAI's preference row (older names: ``preferred_completion``,
``non_preferred_completion``). Output: no predictions. The result is a model of the task ``chat``.
Loss: ``sigmoid`` or ``ipo``. ``sigmoid`` is the loss of DPO (Rafailov et al. 2023,
arXiv:2305.18290, equation 7) with label smoothing (Mitchell 2023, "A note on DPO with noisy
preferences", equation 3). ``ipo`` (Azar et al. 2023, arXiv:2310.12036, equation 17) uses mean
log-ratios, so that long answers weigh no more than short ones. Accuracy counts pairs. Reward of an
answer: beta times the log-ratio of its probabilities under the model and the reference.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from training.progress import Report
from training.tasks.base import (
    Batch,
    ExamplePreview,
    Loss,
    RowIssue,
    Task,
    TaskContext,
    TaskState,
    TokenSegment,
)
from training.tasks.chat import TokenizedSequence, build_chat_state, render, set_answer_weights, tokenize_rendered
from training.tasks.chat_format.row_rules import check_conversation, check_messages
from training.tasks.chat_format.rows import Conversation, Message
from training.tasks.chat_format.template import ChatTemplate
from training.tasks.support.causal import (
    CausalExample,
    build_causal_example,
    collate,
    load_causal_model,
    select_model_inputs,
)
from training.tasks.support.preference_examples import PreferenceExample, ReferencedExamples
from training.tasks.support.preference_losses import LOSSES

if TYPE_CHECKING:
    import torch

REFERENCE_BATCH_TOKENS = 2048
"""Maximum tokens of a batch of reference log-probabilities, padding included.

The constant makes the results bit-identical between runs.
"""

METRICS: Mapping[str, str] = {
    "reward_margin": "mean difference between preferred and non-preferred reward",
    "reward_accuracy": "share of pairs whose preferred output has the higher reward",
    "reward_chosen": "mean reward of the preferred outputs",
    "reward_rejected": "mean reward of the non-preferred outputs",
}

Output = Annotated[list[Message], Field(min_length=1)]


class PreferenceRow(BaseModel):
    """OpenAI's preference row."""

    model_config = ConfigDict(extra="forbid")

    input: Conversation
    preferred_output: Output = Field(validation_alias=AliasChoices("preferred_output", "preferred_completion"))
    non_preferred_output: Output = Field(
        validation_alias=AliasChoices("non_preferred_output", "non_preferred_completion")
    )

    @property
    def outputs(self) -> dict[str, list[Message]]:
        return {"preferred_output": self.preferred_output, "non_preferred_output": self.non_preferred_output}


@dataclass(frozen=True)
class ChatPreference(Task[PreferenceRow, PreferenceExample]):
    name = "chat"
    title = "Pairs of answers to a conversation; the model learns to prefer the better one"
    row_schema = PreferenceRow
    example_type = PreferenceExample
    route = "chat/completions"
    family = "preference"
    peft_task_type = "CAUSAL_LM"
    updates = frozenset({"lora", "full", "layers"})
    options = frozenset({"label_smoothing", "beta", "loss", "train_on_reasoning"})
    needs_chat_template = True
    # A row is two sequences.
    supports_feature_cache = False
    metrics = METRICS

    train_on_reasoning: bool = True

    def with_options(self, train_on_inputs: bool, train_on_reasoning: bool = True) -> ChatPreference:
        return replace(self, train_on_reasoning=train_on_reasoning)

    def check_row(self, row: PreferenceRow) -> Iterator[RowIssue]:
        yield from check_conversation(row.input, "input.")
        for field, output in row.outputs.items():
            yield from check_messages(output, field)
            for index, message in enumerate(output):
                if message.role != "assistant":
                    reason = "An output may contain only assistant messages; remove this one or set its role."
                    yield RowIssue("wrong_value", f"{field}[{index}].role", reason)
            if not any(message.weight for message in output):
                yield RowIssue("no_target", field, "Every message has weight 0; give at least one message weight 1.")
        if row.preferred_output == row.non_preferred_output:
            yield RowIssue(
                "wrong_value",
                "non_preferred_output",
                "Both outputs are identical; change one of them or remove the row.",
            )

    def encode(
        self, rows: Sequence[PreferenceRow], processor: Any, max_length: int
    ) -> list[PreferenceExample | RowIssue]:
        template = ChatTemplate(processor)
        sides = [(row, field, output) for row in rows for field, output in row.outputs.items()]
        rendered = [
            render(template, [*row.input.messages, *output], row.input.all_tools, "input.") for row, _, output in sides
        ]
        encoded = [
            result if isinstance(result, RowIssue) else self._encode_output(*side, result, max_length)
            for side, result in zip(sides, tokenize_rendered(template, rendered), strict=True)
        ]
        return [_build_example(chosen, rejected) for chosen, rejected in zip(encoded[::2], encoded[1::2], strict=True)]

    def _encode_output(
        self,
        row: PreferenceRow,
        field: str,
        output: Sequence[Message],
        sequences: Sequence[TokenizedSequence],
        max_length: int,
    ) -> CausalExample | RowIssue:
        """Build the example of one side. Its targets are the output's tokens."""
        encoded = []
        for rendered, tokens in sequences:
            weights = array("f", [0.0]) * len(tokens.ids)
            spans = [span for span in rendered.spans if span.is_target]
            for span in spans:
                position = span.message_index - len(row.input.messages)
                if position >= 0 and output[position].weight:
                    set_answer_weights(weights, span, tokens, 1.0, self.train_on_reasoning)
            if any(weights):
                example = build_causal_example(tokens.ids, weights, max_length, field)
                has_reasoning = spans[-1].body_start > spans[-1].start
                encoded.append(
                    example if isinstance(example, RowIssue) else replace(example, has_reasoning=has_reasoning)
                )
        if len(encoded) > 1:
            reason = (
                "The base model's chat template renders the messages of this output otherwise once others follow, so "
                "they cannot be compared as one answer. Give one message, or set the weight of all but one to 0."
            )
            return RowIssue("template", field, reason)
        return encoded[0]

    def prepare(self, examples: Sequence[PreferenceExample]) -> TaskState:
        return build_chat_state(sum(example.chosen.has_reasoning for example in examples), len(examples))

    def update_state(self, state: TaskState, examples: Sequence[PreferenceExample]) -> TaskState:
        return self.prepare(examples)

    @property
    def needs_full_dataset(self) -> bool:
        # A sample shows well enough whether the rows have reasoning.
        return False

    def load_model(self, directory: Path, state: TaskState, dtype: torch.dtype) -> Any:
        return load_causal_model(directory, dtype)

    def preview(self, example: PreferenceExample, state: TaskState) -> ExamplePreview:
        sides = {"preferred_output": example.chosen, "non_preferred_output": example.rejected}
        return ExamplePreview([TokenSegment(name, side.ids, side.weights) for name, side in sides.items()])

    def with_reference(
        self, examples: Sequence[PreferenceExample], model: Any, ctx: TaskContext, report: Report
    ) -> Sequence[PreferenceExample]:
        """Add reference log-probabilities, computed with ``model`` before training.

        Restores the training mode of every module.
        """
        import torch

        modes = [(module, module.training) for module in model.modules()]
        model.eval()
        references: dict[int, tuple[array[float], array[float]]] = {}
        with torch.no_grad():
            for indices in _batch_by_length(examples):
                report(len(references), len(examples))
                batch = collate(_concatenate([examples[index] for index in indices]), ctx)
                counts = batch["rows_N"].bincount().tolist()
                logprobs = iter(_compute_logprobs(model, batch, ctx).tolist())
                by_sequence = [array("f", islice(logprobs, count)) for count in counts]
                pairs = zip(by_sequence[: len(indices)], by_sequence[len(indices) :], strict=True)
                references |= zip(indices, pairs, strict=True)
        for module, mode in modes:
            module.training = mode
        return ReferencedExamples(examples, references)

    def collate(self, examples: Sequence[PreferenceExample], ctx: TaskContext) -> Batch:
        """Batch the 2B sequences: first all chosen, then all rejected."""
        import torch

        references = [example.reference_logprobs for example in examples if example.reference_logprobs is not None]
        assert len(references) == len(examples), "call with_reference first"
        batch = collate(_concatenate(examples), ctx)
        ordered = [reference[side] for side in (0, 1) for reference in references]
        return batch | {
            "reference_N": torch.cat([torch.frombuffer(logprobs, dtype=torch.float32) for logprobs in ordered]),
            "lengths_2B": batch["rows_N"].bincount().float().view(2, -1),
        }

    def compute_loss(self, model: Any, batch: Batch, ctx: TaskContext) -> Loss:
        gains_N = _compute_logprobs(model, batch, ctx) - batch["reference_N"]
        lengths_2B = batch["lengths_2B"]
        ratios_2B = gains_N.new_zeros(lengths_2B.numel()).index_add(0, batch["rows_N"], gains_N).view_as(lengths_2B)
        losses_B = LOSSES[ctx.objective.loss](ratios_2B, lengths_2B, ctx.objective)
        rewards_2B = ctx.objective.beta * ratios_2B.detach()
        return Loss(losses_B.sum(), (rewards_2B[0] > rewards_2B[1]).sum(), rewards_2B.T)

    def compute_metrics(
        self, examples: Sequence[PreferenceExample], outputs: Sequence[torch.Tensor], ctx: TaskContext
    ) -> dict[str, float]:
        import torch

        chosen_B, rejected_B = torch.stack(list(outputs)).double().unbind(1)
        return {
            "reward_margin": (chosen_B - rejected_B).mean().item(),
            "reward_accuracy": (chosen_B > rejected_B).double().mean().item(),
            "reward_chosen": chosen_B.mean().item(),
            "reward_rejected": rejected_B.mean().item(),
        }


def _build_example(
    chosen: CausalExample | RowIssue, rejected: CausalExample | RowIssue
) -> PreferenceExample | RowIssue:
    if isinstance(chosen, RowIssue):
        return chosen
    if isinstance(rejected, RowIssue):
        return rejected
    return PreferenceExample(chosen.size + rejected.size, chosen.truncated or rejected.truncated, chosen, rejected)


def _concatenate(examples: Sequence[PreferenceExample]) -> list[CausalExample]:
    return [*(example.chosen for example in examples), *(example.rejected for example in examples)]


def _batch_by_length(examples: Sequence[PreferenceExample]) -> Iterator[list[int]]:
    """Yield batches of indices, longest rows first."""
    longest = [max(example.chosen.size, example.rejected.size) for example in examples]
    order = sorted(range(len(examples)), key=lambda index: -longest[index])
    while order:
        fitting = max(1, REFERENCE_BATCH_TOKENS // (2 * longest[order[0]]))
        yield order[:fitting]
        order = order[fitting:]


def _compute_logprobs(model: Any, batch: Batch, ctx: TaskContext) -> torch.Tensor:
    """Return the targets' log-probabilities (N,) on the model's device."""
    assert ctx.logprob_fn, "must be set when the model is loaded"
    on_device = {name: value.to(model.device) if hasattr(value, "to") else value for name, value in batch.items()}
    scores = ctx.logprob_fn(model, select_model_inputs(on_device), on_device["positions_N"], on_device["targets_N"])
    logprobs_N: torch.Tensor = scores.logprobs_N
    return logprobs_N
