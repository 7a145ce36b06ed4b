"""Sequences of encoded rows that build an example when it is read.

An index into such a sequence costs a few microseconds and the sequence itself a few bytes per row,
so a data file may be larger than memory. Facts that all rows are needed for, such as their sizes,
are read as columns, without building examples.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, Literal, overload

Column = Literal["size", "truncated", "continues"]
"""Fields of ``Example`` that are numbers."""


class LazySequence(Sequence[Any]):
    """Base class. Equal to any sequence with equal items."""

    def build(self, row: int) -> Any:
        """Build the item of a row, 0 ≤ row < len."""
        raise NotImplementedError

    def read_column(self, name: Column) -> array[int]:
        """Return a field of every row, int64."""
        raise NotImplementedError

    @overload
    def __getitem__(self, key: int) -> Any: ...
    @overload
    def __getitem__(self, key: slice) -> list[Any]: ...
    def __getitem__(self, key: int | slice) -> Any:
        if isinstance(key, slice):
            return [self.build(row) for row in range(len(self))[key]]
        return self.build(range(len(self))[key])

    def __iter__(self) -> Iterator[Any]:
        return map(self.build, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return NotImplemented if not isinstance(other, Sequence) else False
        return all(left == right for left, right in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]


class ExampleView(LazySequence):
    """Rows of one or more sequences, one after the other, or some of them in any order."""

    def __init__(self, sources: Sequence[Sequence[Any]], rows: Sequence[int] | None = None) -> None:
        """``rows``: indices into the concatenated sources. None: all of them."""
        self._sources = sources
        self._starts = [0, *accumulate(map(len, sources))]
        self._rows = range(self._starts[-1]) if rows is None else array("q", rows)

    def __len__(self) -> int:
        return len(self._rows)

    def build(self, row: int) -> Any:
        source_row = self._rows[row]
        number = bisect_right(self._starts, source_row) - 1
        return self._sources[number][source_row - self._starts[number]]

    def read_column(self, name: Column) -> array[int]:
        column = array("q")
        for source in self._sources:
            column += read_column(source, name)
        return column if isinstance(self._rows, range) else array("q", (column[row] for row in self._rows))


def read_column(examples: Sequence[Any], name: Column) -> array[int]:
    """Return a field of every example, int64."""
    if isinstance(examples, LazySequence):
        return examples.read_column(name)
    return array("q", (getattr(example, name) for example in examples))
