"""Base class of tasks and the types that tasks exchange with trainer and engine.

Training and the inference engine encode rows and inputs with the same code.

Shapes: B rows of a batch, T positions of its longest row, N targets of all its rows, L labels.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

from pydantic import BaseModel

from training.progress import Report

if TYPE_CHECKING:
    import torch

TaskState = dict[str, Any]
"""Facts that a task derives from the training file before training, as JSON, e.g. the labels."""

Batch = dict[str, Any]
"""Tensors by name. Values that are not tensors are lists of numbers."""

Route = Literal["chat/completions", "completions", "embeddings", "predictions"]
"""Path under ``/v1`` that serves a model of the task."""

Family = Literal["generative", "seq2seq", "discriminative", "embedding", "preference", "vision"]
"""Selects the rules that resolve ``auto`` hyperparameters."""

MAX_LENGTH = 1_000_000
"""Maximum tokens of a row, also for bases that define no maximum length."""


@dataclass(frozen=True, slots=True)
class Example:
    """An encoded row."""

    size: int
    """Cost in tokens."""
    truncated: bool
    """True if the row was longer than ``max_length``."""
    continues: bool = field(default=False, kw_only=True)
    """True if the previous example is the part of the same row before this one."""


@dataclass(frozen=True, slots=True)
class TextExample(Example):
    """An encoded row that is one sequence of tokens."""

    ids: array[int]
    """(T,) int32."""


@dataclass(frozen=True)
class LossSettings:
    """Settings of the loss that a job chooses."""

    label_smoothing: float = 0.0
    class_weights: str | Mapping[str, float] = "none"
    """``none``, ``balanced`` (equal total weight of all labels), or a weight for each label."""
    beta: float = 0.1
    """Preference: strength of the penalty for moving away from the reference model."""
    loss: str = "sigmoid"
    """Preference: ``sigmoid`` or ``ipo``."""


@dataclass(frozen=True)
class TaskContext:
    """Inputs of a task besides the rows and the model."""

    processor: Any
    """Tokenizer or image processor."""
    state: TaskState = field(default_factory=dict)
    objective: LossSettings = LossSettings()
    packed: bool = False
    """Concatenate the rows of a batch, for a model whose attention separates them."""
    logprob_fn: Callable[..., Any] | None = None
    """A function of ``training.models.logprobs``, injected to keep torch out of tasks."""

    @property
    def pad_token_id(self) -> int:
        """Padding token, or 0 if the tokenizer has none.

        Padding is masked or follows every target, so any token works.
        """
        token = getattr(self.processor, "pad_token_id", None)
        return 0 if token is None else int(token)


class RowIssue(NamedTuple):
    """An error in a row whose line number is not known yet."""

    code: str
    field: str | None
    message: str


class TokenSegment(NamedTuple):
    """Consecutive tokens of a row that are read as context or trained as targets."""

    name: str
    ids: Sequence[int]
    weights: Sequence[float] = ()
    """Weight of each token as a target. Empty if no token is a target."""


class ExamplePreview(NamedTuple):
    """Encoded row in a form that people can inspect."""

    segments: list[TokenSegment]
    target: dict[str, Any] | None = None
    """Target of the row as a whole, as JSON."""


class Loss(NamedTuple):
    """Sums over a batch as scalar tensors, so that the results of batches can be added."""

    total: torch.Tensor
    """Sum of the targets' weighted losses in nats. Training minimizes its mean."""
    correct: torch.Tensor
    """Number of targets predicted correctly."""
    outputs: torch.Tensor | None = None
    """(B, …), detached: the outputs that ``compute_metrics`` receives for each example."""


R = TypeVar("R", bound=BaseModel)
E = TypeVar("E", bound=Example)


class Task(Generic[R, E]):
    """Base class of tasks. A task has no mutable state."""

    name: ClassVar[str]
    title: ClassVar[str]
    row_schema: type[R]
    """Schema of a row of a data file."""
    example_type: ClassVar[type[Example] | None] = None
    """Type of its examples if they can be stored, see ``training.data.records``; else None."""
    route: ClassVar[Route]
    family: ClassVar[Family]
    peft_task_type: ClassVar[str | None] = None
    """Value of ``peft.TaskType``, or None if PEFT has none for the task."""
    auto_class: ClassVar[str | None] = None
    """Class of transformers that loads the task's models. None: any base can be loaded."""
    input_schema: ClassVar[type[BaseModel] | None] = None
    """Schema of an input of ``/v1/predictions``, or None if the task is served elsewhere."""
    default_field: ClassVar[str] = "text"
    """Field of ``input_schema`` that receives an input given as a plain value."""
    file_field: ClassVar[str | None] = None
    """Row field that can name a file in a zip, which is read as ``readers.archive.Content``."""
    splits_rows: ClassVar[bool] = False
    """True if a row longer than ``max_length`` is encoded in parts."""
    needs_chat_template: ClassVar[bool] = False
    """True if the base model must have a chat template."""
    supports_micro_batches: ClassVar[bool] = True
    """True if a loss sums over rows, so that a batch can be split into micro-batches."""
    supports_feature_cache: ClassVar[bool] = True
    """True if a loss runs the model once per batch, so frozen blocks' outputs can be cached."""
    updates: ClassVar[frozenset[str]] = frozenset({"lora", "full", "head", "layers"})
    """Supported update types. ``head`` needs a head that belongs to the task."""
    has_accuracy: ClassVar[bool] = True
    """True if each prediction is either correct or incorrect."""
    options: ClassVar[frozenset[str]] = frozenset()
    """Hyperparameters in addition to those that all tasks share."""
    metrics: ClassVar[Mapping[str, str]] = {}
    """Metrics of ``compute_metrics`` with their descriptions; loss and accuracy are not listed."""

    @property
    def generative(self) -> bool:
        """True if the engine generates text token by token with the model."""
        return self.route in ("chat/completions", "completions")

    @property
    def uses_lm_head(self) -> bool:
        """True if the model uses its language-model head and gets no head for the task."""
        return self.peft_task_type in ("CAUSAL_LM", "SEQ_2_SEQ_LM")

    @property
    def needs_full_dataset(self) -> bool:
        """True if ``prepare`` needs every example."""
        return type(self).prepare is not Task.prepare

    def with_options(self, train_on_inputs: bool, train_on_reasoning: bool = True) -> Task[R, E]:
        """Return the task configured for a job."""
        return self

    def check_row(self, row: R) -> Iterator[RowIssue]:
        """Yield the issues that the schema cannot express."""
        raise NotImplementedError

    def load_processor(self, directory: Path) -> Any:
        """Load the tokenizer or image processor from disk."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(directory, local_files_only=True)

    def encode(self, rows: Sequence[R], processor: Any, max_length: int) -> Sequence[E | list[E] | RowIssue]:
        """Encode rows in order. Each gives an example, an issue, or a list of several examples."""
        raise NotImplementedError

    def prepare(self, examples: Sequence[E]) -> TaskState:
        """Derive the task's state from all examples.

        Raises ``TrainingError`` if no model can be trained on them.
        """
        return {}

    def update_state(self, state: TaskState, examples: Sequence[E]) -> TaskState:
        """Return the state for a job that continues an earlier result with these rows."""
        return state

    def check_example(self, example: E, state: TaskState) -> RowIssue | None:
        """Return the reason why a model of this state cannot predict a row, or None."""
        return None

    def load_base_state(self, directory: Path) -> TaskState:
        """Return the state of an untuned base.

        Raises ``TrainingError`` if the base cannot serve the task without fine-tuning.
        """
        return {}

    def load_model(self, directory: Path, state: TaskState, dtype: torch.dtype) -> Any:
        """Load a model for this task from a base or a full result, on the CPU."""
        raise NotImplementedError

    def with_reference(self, examples: Sequence[E], model: Any, ctx: TaskContext, report: Report) -> Sequence[E]:
        """Add the untrained model's log-probabilities to the examples, if the loss needs them."""
        return examples

    def preview(self, example: E, state: TaskState) -> ExamplePreview:
        """Return a readable view of an encoded row."""
        return ExamplePreview([TokenSegment("input", example.ids)] if isinstance(example, TextExample) else [])

    def count_targets(self, example: E) -> int:
        """Return the number of targets of a row."""
        return 1

    def sum_weights(self, example: E, ctx: TaskContext) -> float:
        """Return the sum of the weights of a row's targets, the denominator of the mean loss."""
        return 1.0

    def collate(self, examples: Sequence[E], ctx: TaskContext) -> Batch:
        """Build a batch on the CPU. The training loop moves its tensors to the model's device."""
        raise NotImplementedError

    def compute_loss(self, model: Any, batch: Batch, ctx: TaskContext) -> Loss:
        """Return the loss and the number of correct predictions of a batch."""
        raise NotImplementedError

    def compute_metrics(
        self, examples: Sequence[E], outputs: Sequence[torch.Tensor], ctx: TaskContext
    ) -> dict[str, float]:
        """Compute the metrics named in ``metrics`` from the ``outputs`` of each example."""
        return {}

    def final_metrics(self, model: Any, examples: Sequence[E], ctx: TaskContext, report: Report) -> dict[str, float]:
        """Compute metrics at the end of training that are too slow for every evaluation."""
        return {}

    def write_library_files(self, model: Any, directory: Path) -> None:
        """Write files that other libraries need next to a full model in ``directory``."""

    def encode_inputs(self, inputs: Sequence[Any], processor: Any, max_length: int) -> list[E | RowIssue]:
        """Encode inputs of ``input_schema``. Tasks that are ``generative`` do not use it."""
        raise NotImplementedError

    def answer(self, model: Any, examples: Sequence[E], ctx: TaskContext, top_k: int) -> list[dict[str, Any]]:
        """Return the fields of each prediction.

        A row's prediction does not depend on the other rows of the batch.
        """
        raise NotImplementedError


AnyTask = Task[Any, Any]


def pad_right(rows: Sequence[array[int]], pad: int) -> torch.Tensor:
    """Pad rows on the right with ``pad``: (B, T) int64."""
    import torch

    longest = max(map(len, rows))
    out = torch.full((len(rows), longest), pad, dtype=torch.long)
    for index, row in enumerate(rows):
        out[index, : len(row)] = torch.frombuffer(row, dtype=torch.int32)
    return out


def load_pretrained(auto_class: Any, directory: Path, dtype: torch.dtype, **config: Any) -> Any:
    """Call ``from_pretrained`` for local safetensors files, without running code of the model."""
    return auto_class.from_pretrained(directory, dtype=dtype, local_files_only=True, use_safetensors=True, **config)
