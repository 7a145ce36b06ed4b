"""From a data file to encoded examples, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from training.data.row_validation import ValidRow, get_row_fields, iter_chunks, to_row_error, validate_rows
from training.data.scan import MAX_REPORTED_ERRORS, SamplingPlan, ScanResult, scan_file
from training.errors import InvalidDataset
from training.readers import rows
from training.readers.rows import RawRow, RowError, RowResult
from training.run_events import DatasetError
from training.tasks.base import AnyTask, RowIssue, TaskState

FileRole = Literal["training_file", "validation_file", "general_file"]


@dataclass
class Dataset:
    """Examples in the file's order: of a sampled file those of the sample, which stand for the others."""

    examples: list[Any] = field(default_factory=list)
    lines: list[int | None] = field(default_factory=list)
    errors: list[DatasetError] = field(default_factory=list)
    error_count: int = 0
    unencoded: int = 0
    """Good rows that are not among the examples."""
    longest_unencoded_tokens: int = 0
    """Tokens of the longest of them."""

    @property
    def num_rows(self) -> int:
        return len(self.examples) + self.unencoded

    @property
    def num_tokens(self) -> int:
        """Of a sampled file an estimate, as is ``cut``."""
        return self._extrapolate(sum(example.size for example in self.examples))

    @property
    def longest_row_tokens(self) -> int:
        encoded: Iterator[int] = (example.size for example in self.examples)
        return max(self.longest_unencoded_tokens, max(encoded, default=0))

    @property
    def truncated_rows(self) -> int:
        return self._extrapolate(sum(example.truncated for example in self.examples))

    def _extrapolate(self, sampled: int) -> int:
        return round(sampled * self.num_rows / len(self.examples)) if self.examples else 0

    def select(self, indices: Sequence[int]) -> Dataset:
        """Some of the rows, in the order given."""
        return Dataset([self.examples[row] for row in indices], [self.lines[row] for row in indices])

    def raise_if_invalid(self) -> None:
        if self.errors:
            raise InvalidDataset(self.errors, self.error_count)


@dataclass(frozen=True)
class DatasetReader:
    """How files of one run are read."""

    task: AnyTask
    tokenizer: Any
    columns: Mapping[str, str]
    max_length: int
    raise_if_stopped: Callable[[], None]
    """Called between chunks; raises where the run was asked to leave."""
    sampling: SamplingPlan | None = None
    """None: all is encoded, as it also is where the task must see every example."""

    def read(self, path: Path, role: FileRole) -> Dataset:
        """All of it; faults are collected, not raised."""
        data = Dataset()
        if self.sampling and path.stat().st_size > self.sampling.min_file_bytes and not self.task.needs_full_dataset:
            for before, found in scan_file(path, self.columns, self.task, self.sampling, self.raise_if_stopped):
                self._add_scan(found, before, data, role)
        else:
            for chunk in iter_chunks(
                rows.read_rows(path, self.columns, get_row_fields(self.task), self.task.file_field)
            ):
                self.raise_if_stopped()
                self._encode(chunk, data, role)
        if not data.num_rows and not data.errors:
            _add_error(data, role, RowError(None, "empty_file", "The file has no rows."))
        return data

    def validate_against_state(self, data: Dataset, state: TaskState, role: FileRole) -> None:
        """Rows that a model of ``state`` could never get right are faults."""
        for example, line in zip(data.examples, data.lines, strict=True):
            flaw = self.task.check_example(example, state)
            if flaw:
                _add_error(data, role, RowError(line, flaw.code, flaw.message, flaw.field))

    def _encode(self, entries: Iterable[RowResult], data: Dataset, role: FileRole) -> None:
        good: list[ValidRow] = []
        for outcome in validate_rows(self.task, entries):
            if isinstance(outcome, RowError):
                _add_error(data, role, outcome)
            else:
                good.append(outcome)
        if not good:
            return
        encoded = self.task.encode([row for _, row in good], self.tokenizer, self.max_length)
        for (record, _), one in zip(good, encoded, strict=True):
            if isinstance(one, RowIssue):
                _add_error(data, role, to_row_error(record, one))
            else:
                data.examples.append(one)
                data.lines.append(record.line)

    def _add_scan(self, scan: ScanResult, line_offset: int, data: Dataset, role: FileRole) -> None:
        """``before``: lines of the file that stand before the part."""
        for one in scan.errors:
            _add_error(data, role, replace(one, line=one.line and one.line + line_offset))
        data.error_count += scan.error_count - len(scan.errors)
        for chunk in iter_chunks(_shift_lines(scan.sampled_rows, line_offset)):
            self.raise_if_stopped()
            self._encode(chunk, data, role)
        data.unencoded += scan.valid_count - len(scan.sampled_rows)
        longest = Dataset()
        self._encode(_shift_lines(scan.longest_rows, line_offset), longest, role)
        data.longest_unencoded_tokens = max(data.longest_unencoded_tokens, longest.longest_row_tokens)
        data.unencoded -= longest.error_count
        data.errors = [*data.errors, *longest.errors][:MAX_REPORTED_ERRORS]
        data.error_count += longest.error_count


def _shift_lines(raw_rows: Iterable[RawRow], offset: int) -> Iterator[RowResult]:
    return (replace(record, line=record.line and record.line + offset) for record in raw_rows)


def _add_error(data: Dataset, role: FileRole, error: RowError) -> None:
    data.error_count += 1
    if len(data.errors) < MAX_REPORTED_ERRORS:
        data.errors.append(
            DatasetError(code=error.code, line=error.line, field=error.field, message=error.message, file=role)
        )
