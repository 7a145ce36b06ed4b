"""What a task is. The same ``encode`` runs in training and in the engine.

Shapes: B rows of a batch, T positions of its longest row, N targets of all its rows together, L labels.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

from pydantic import BaseModel

if TYPE_CHECKING:
    import torch

TaskState = dict[str, Any]
"""What a task learns from the training file before training, as JSON: a classifier's labels."""

Batch = dict[str, Any]
"""Tensors by name, and what is no tensor (lists of numbers) beside them."""

Route = Literal["chat/completions", "completions", "embeddings", "predictions"]
"""Where under /v1 a model answers."""

Family = Literal["generative", "seq2seq", "discriminative", "embedding", "preference", "vision"]
"""Which of the rules for ``auto`` a task takes."""

MAX_LENGTH = 1_000_000
"""Tokens of a row at most, and of a base that knows no longest text of its own."""


@dataclass(frozen=True, slots=True)
class Example:
    """An encoded row."""

    size: int
    """What it costs: tokens."""
    truncated: bool
    """Whether the row was longer than max_length."""


@dataclass(frozen=True, slots=True)
class TextExample(Example):
    """A row that is one sequence of tokens."""

    ids: array[int]
    """(T,) int32."""


@dataclass(frozen=True)
class Objective:
    """What a job asks of its loss, beside the task."""

    label_smoothing: float = 0.0
    class_weights: str | Mapping[str, float] = "none"
    """``none``, ``balanced`` (each label counts alike in sum), or a weight for each label."""
    beta: float = 0.1
    """Preference: how strongly the model is held to the reference."""
    loss: str = "sigmoid"
    """Preference: ``sigmoid`` or ``ipo``."""


@dataclass(frozen=True)
class TaskContext:
    """What a task works with, beside the rows and the model."""

    processor: Any
    """Tokenizer or image processor."""
    state: TaskState = field(default_factory=dict)
    objective: Objective = Objective()
    packed: bool = False
    """Rows of a batch are laid end to end instead of padded; only for models whose attention can tell them apart."""
    logprob_fn: Callable[..., Any] | None = None
    """``training.models.logprobs.target_scores``, handed in so that a task's file needs no torch."""

    @property
    def pad_token_id(self) -> int:
        """Token to pad with; masked or behind every target, so any will do where a tokenizer has none."""
        token = getattr(self.processor, "pad_token_id", None)
        return 0 if token is None else int(token)


class RowIssue(NamedTuple):
    """What is wrong with a row: a fault that does not know its line yet."""

    code: str
    field: str | None
    message: str


class TokenSegment(NamedTuple):
    """Tokens of a row that the model reads, or learns to write, together."""

    name: str
    ids: Sequence[int]
    weights: Sequence[float] = ()
    """How much each counts as a target; empty: all are only read."""


class ExamplePreview(NamedTuple):
    """An encoded row for people to look at."""

    segments: list[TokenSegment]
    target: dict[str, Any] | None = None
    """What the row as a whole should get, as JSON."""


class Loss(NamedTuple):
    """Sums over a batch, each a scalar tensor, so that batches add up."""

    total: torch.Tensor
    """Sum of the targets' losses times their weights, nats; its mean is what is trained on."""
    correct: torch.Tensor
    """Targets predicted right."""
    outputs: torch.Tensor | None = None
    """(B, …), detached: what ``measure`` is given of each example."""


R = TypeVar("R", bound=BaseModel)
E = TypeVar("E", bound=Example)


class Task(Generic[R, E]):
    """A subclass is a task; it has no state of its own."""

    name: ClassVar[str]
    title: ClassVar[str]
    row_schema: type[R]
    """Schema of a row in a data file."""
    route: ClassVar[Route]
    family: ClassVar[Family]
    peft_type: ClassVar[str | None] = None
    """A value of ``peft.TaskType``, where it has one for the task."""
    input_schema: ClassVar[type[BaseModel] | None] = None
    """Schema of what ``/v1/predictions`` is asked, where the task answers there."""
    default_field: ClassVar[str] = "text"
    """Field of ``input`` that an input without fields is."""
    file_field: ClassVar[str | None] = None
    """Row field that can name a file in an uploaded zip; the row gets a ``training.readers.archive.Content``."""
    needs_chat_template: ClassVar[bool] = False
    """Whether the base must have one."""
    splittable: ClassVar[bool] = True
    """Whether a batch's loss is the sum of its rows' losses, so that a batch may be split for memory."""
    cacheable: ClassVar[bool] = True
    """Whether a loss runs the model once, over the batch's examples, so that what frozen blocks give can be kept."""
    updates: ClassVar[frozenset[str]] = frozenset({"lora", "full", "head", "layers"})
    """Ways of updating that fit: ``head`` needs a head of the task's own."""
    has_accuracy: ClassVar[bool] = True
    """Whether a target is predicted right or wrong, not more or less."""
    options: ClassVar[frozenset[str]] = frozenset()
    """Hyperparameters beyond those that every task takes."""
    metrics: ClassVar[Mapping[str, str]] = {}
    """Figures of ``measure`` beside loss and accuracy, and what each is."""

    @property
    def generative(self) -> bool:
        """Whether it answers with text that it writes itself, token by token, in the engine's decoder."""
        return self.route in ("chat/completions", "completions")

    @property
    def uses_lm_head(self) -> bool:
        """Whether its model's own output layer writes text: it brings no head of its own."""
        return self.peft_type in ("CAUSAL_LM", "SEQ_2_SEQ_LM")

    @property
    def needs_full_dataset(self) -> bool:
        """Whether ``prepare`` must have seen every example."""
        return type(self).prepare is not Task.prepare

    def with_options(self, train_on_inputs: bool) -> Task[R, E]:
        """The task as a job wants it."""
        return self

    def check_row(self, row: R) -> Iterator[RowIssue]:
        """What the schema cannot say."""
        raise NotImplementedError

    def load_processor(self, directory: Path) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(directory, local_files_only=True)

    def encode(self, rows: Sequence[R], processor: Any, max_length: int) -> list[E | RowIssue]:
        """One entry a row, in order."""
        raise NotImplementedError

    def prepare(self, examples: Sequence[E]) -> TaskState:
        """Raises ``TrainingError`` where the rows together cannot be trained on."""
        return {}

    def update_state(self, state: TaskState, examples: Sequence[E]) -> TaskState:
        """An earlier result's state, where a job goes on from it with these rows."""
        return state

    def check_example(self, example: E, state: TaskState) -> RowIssue | None:
        """What keeps a model of this state from being right about a row."""
        return None

    def load_base_state(self, directory: Path) -> TaskState:
        """The state of an untuned base. Raises ``TrainingError`` where it cannot answer untuned."""
        return {}

    def load_model(self, directory: Path, state: TaskState, dtype: torch.dtype) -> Any:
        """A model for this task from a base or a full result, on the CPU."""
        raise NotImplementedError

    def with_reference(self, examples: Sequence[E], model: Any, ctx: TaskContext) -> Sequence[E]:
        """The examples with what the model says of them before it is trained, where the loss needs that."""
        return examples

    def preview(self, example: E, state: TaskState) -> ExamplePreview:
        """What training makes of a row."""
        return ExamplePreview([TokenSegment("input", example.ids)] if isinstance(example, TextExample) else [])

    def count_targets(self, example: E) -> int:
        """How many targets a row has."""
        return 1

    def sum_weights(self, example: E, ctx: TaskContext) -> float:
        """Sum of the weights of a row's targets: what a mean loss divides by."""
        return 1.0

    def collate(self, examples: Sequence[E], ctx: TaskContext) -> Batch:
        """On the CPU; the loop moves its tensors to the model's device."""
        raise NotImplementedError

    def compute_loss(self, model: Any, batch: Batch, ctx: TaskContext) -> Loss:
        raise NotImplementedError

    def compute_metrics(
        self, examples: Sequence[E], outputs: Sequence[torch.Tensor], ctx: TaskContext
    ) -> dict[str, float]:
        """The figures named in ``measures``, from what the evaluation found of each example."""
        return {}

    def final_metrics(self, model: Any, examples: Sequence[E], ctx: TaskContext) -> dict[str, float]:
        """Figures too slow for every evaluation, such as those of written text: taken once, at the end."""
        return {}

    def write_extras(self, model: Any, directory: Path) -> None:
        """Write what others need beside a whole model that was saved into ``directory``."""

    def encode_inputs(self, inputs: Sequence[Any], processor: Any, max_length: int) -> list[E | RowIssue]:
        """Rows whose answer is asked for, parsed by ``input``. Not for tasks that are ``generative``."""
        raise NotImplementedError

    def answer(self, model: Any, examples: Sequence[E], ctx: TaskContext, top_k: int) -> list[dict[str, Any]]:
        """The fields of each answer. Rows answered together get what each would get alone."""
        raise NotImplementedError


AnyTask = Task[Any, Any]


def pad_right(rows: Sequence[array[int]], pad: int) -> torch.Tensor:
    """(B, T) int64."""
    import torch

    longest = max(map(len, rows))
    out = torch.full((len(rows), longest), pad, dtype=torch.long)
    for index, row in enumerate(rows):
        out[index, : len(row)] = torch.frombuffer(row, dtype=torch.int32)
    return out


def load_pretrained(auto_class: Any, directory: Path, dtype: torch.dtype, **config: Any) -> Any:
    """``from_pretrained`` as it is always called here: from disk, safetensors, no code of the model's own."""
    return auto_class.from_pretrained(directory, dtype=dtype, local_files_only=True, use_safetensors=True, **config)
