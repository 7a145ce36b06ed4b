"""What a task is. The same ``encode`` runs in training and in the engine.

Shapes: B rows of a batch, T positions of its longest row, N targets of all its rows together.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

from pydantic import BaseModel

if TYPE_CHECKING:
    import torch

State = dict[str, Any]
"""What a task learns from the training file before training, as JSON: a classifier's labels."""

Batch = dict[str, "torch.Tensor"]


@dataclass(frozen=True, slots=True)
class Example:
    """An encoded row."""

    ids: array[int]
    """(T,) int32."""
    cut: bool
    """Whether the row was longer than max_length."""


class Flaw(NamedTuple):
    """What is wrong with a row: a fault that does not know its line yet."""

    code: str
    field: str | None
    message: str


class Loss(NamedTuple):
    """Sums over a batch, each a scalar tensor, so that batches add up."""

    total: torch.Tensor
    """Sum of the targets' losses times their weights, nats."""
    correct: torch.Tensor
    """Targets predicted right."""


R = TypeVar("R", bound=BaseModel)
E = TypeVar("E", bound=Example)


class Task(Generic[R, E]):
    """A subclass is a task; it has no state of its own."""

    name: ClassVar[str]
    title: ClassVar[str]
    row: type[R]
    """Schema of a row in a data file."""
    generative: ClassVar[bool]
    """Whether it answers with text that it writes itself."""
    peft_type: ClassVar[str]
    """A value of ``peft.TaskType``."""

    def check(self, row: R) -> Iterator[Flaw]:
        """What the schema cannot say."""
        raise NotImplementedError

    def encode(self, rows: Sequence[R], tokenizer: Any, max_length: int) -> list[E | Flaw]:
        """One entry a row, in order."""
        raise NotImplementedError

    def prepare(self, examples: Sequence[E]) -> State:
        """Raises ``TrainingError`` where the rows together cannot be trained on."""
        raise NotImplementedError

    def fits(self, example: E, state: State) -> Flaw | None:
        """Whether a validation row can be measured by a model of this state."""
        raise NotImplementedError

    def base_state(self, directory: Path) -> State:
        """The state of an untuned base. Raises ``TrainingError`` where it cannot answer untuned."""
        raise NotImplementedError

    def load_model(self, directory: Path, state: State, dtype: torch.dtype) -> Any:
        """A model for this task from a base or a full result, on the CPU."""
        raise NotImplementedError

    def targets(self, example: E) -> int:
        """How many targets a row has."""
        raise NotImplementedError

    def weight(self, example: E) -> float:
        """Sum of the weights of a row's targets: what a mean loss divides by."""
        raise NotImplementedError

    def collate(self, examples: Sequence[E], state: State, pad: int) -> Batch:
        """Padded on the right with the token ``pad``."""
        raise NotImplementedError

    def loss(self, model: Any, batch: Batch, label_smoothing: float) -> Loss:
        raise NotImplementedError

    def encode_inputs(self, inputs: Sequence[Any], tokenizer: Any, max_length: int) -> list[E]:
        """Rows whose answer is asked for. Only tasks that do not generate have this and ``answer``."""
        raise NotImplementedError

    def answer(self, model: Any, examples: Sequence[E], state: State, pad: int, top_k: int) -> list[dict[str, Any]]:
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


def load_auto(auto: Any, directory: Path, dtype: torch.dtype, **config: Any) -> Any:
    """``from_pretrained`` as it is always called here: from disk, safetensors, no code of the model's own."""
    return auto.from_pretrained(directory, dtype=dtype, local_files_only=True, use_safetensors=True, **config)
