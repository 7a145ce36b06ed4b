"""Reader that turns a data file into encoded examples and collects its errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from training.data.row_validation import ValidRow, get_row_fields, iter_chunks, to_row_error, validate_rows
from training.data.scan import MAX_REPORTED_ERRORS, SamplingPlan, ScanResult, scan_file
from training.errors import InvalidDataset
from training.readers import rows
from training.readers.raw_rows import RawRow, RowError, RowResult
from training.run_events import DatasetError
from training.tasks.base import AnyTask, RowIssue, TaskState

FileRole = Literal["training_file", "validation_file", "general_file"]


@dataclass
class Dataset:
    """Encoded examples in the file's order. Of a sampled file, only the sample is encoded."""

    examples: list[Any] = field(default_factory=list)
    lines: list[int | None] = field(default_factory=list)
    errors: list[DatasetError] = field(default_factory=list)
    error_count: int = 0
    unencoded: int = 0
    """Valid rows that are not encoded."""
    longest_unencoded_tokens: int = 0
    """Tokens of the longest row that is not in ``examples``."""

    @property
    def num_rows(self) -> int:
        return len(self.examples) + self.unencoded

    @property
    def num_tokens(self) -> int:
        """Tokens of all rows. Estimated for a sampled file, like ``truncated_rows``."""
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
        """Return a dataset of the rows at ``indices``, in that order."""
        return Dataset([self.examples[row] for row in indices], [self.lines[row] for row in indices])

    def raise_if_invalid(self) -> None:
        if self.errors:
            raise InvalidDataset(self.errors, self.error_count)


@dataclass(frozen=True)
class DatasetReader:
    """Reader of the data files of one run."""

    task: AnyTask
    tokenizer: Any
    columns: Mapping[str, str]
    max_length: int
    raise_if_stopped: Callable[[], None]
    """Called between chunks; raises if the run must stop."""
    sampling: SamplingPlan | None = None
    """None: encode all rows. They are also all encoded if the task needs the full dataset."""

    def read(self, path: Path, role: FileRole) -> Dataset:
        """Read a file completely. Errors are collected, not raised."""
        data = Dataset()
        if self.sampling and path.stat().st_size > self.sampling.min_file_bytes and not self.task.needs_full_dataset:
            for line_offset, scan in scan_file(path, self.columns, self.task, self.sampling, self.raise_if_stopped):
                self._add_scan(scan, line_offset, data, role)
        else:
            for chunk in iter_chunks(
                rows.read_rows(path, self.columns, get_row_fields(self.task), self.task.file_field)
            ):
                self.raise_if_stopped()
                self._encode(chunk, data, role)
        if not data.num_rows and not data.errors:
            _add_error(data, role, RowError(None, "empty_file", "The file has no rows; add at least one."))
        return data

    def validate_against_state(self, data: Dataset, state: TaskState, role: FileRole) -> None:
        """Add an error for every row that a model with this state can never predict correctly."""
        for example, line in zip(data.examples, data.lines, strict=True):
            issue = self.task.check_example(example, state)
            if issue:
                _add_error(data, role, RowError(line, issue.code, issue.message, issue.field))

    def _encode(self, entries: Iterable[RowResult], data: Dataset, role: FileRole) -> None:
        valid_rows: list[ValidRow] = []
        for result in validate_rows(self.task, entries):
            if isinstance(result, RowError):
                _add_error(data, role, result)
            else:
                valid_rows.append(result)
        if not valid_rows:
            return
        encoded = self.task.encode([row for _, row in valid_rows], self.tokenizer, self.max_length)
        for (raw_row, _), example in zip(valid_rows, encoded, strict=True):
            if isinstance(example, RowIssue):
                _add_error(data, role, to_row_error(raw_row, example))
            else:
                parts = example if isinstance(example, list) else [example]
                data.examples += parts
                data.lines += [raw_row.line] * len(parts)

    def _add_scan(self, scan: ScanResult, line_offset: int, data: Dataset, role: FileRole) -> None:
        """Add the scan of a section that has ``line_offset`` lines of the file before it."""
        for error in scan.errors:
            _add_error(data, role, replace(error, line=error.line and error.line + line_offset))
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
    return (replace(row, line=row.line and row.line + offset) for row in raw_rows)


def _add_error(data: Dataset, role: FileRole, error: RowError) -> None:
    data.error_count += 1
    if len(data.errors) < MAX_REPORTED_ERRORS:
        data.errors.append(
            DatasetError(code=error.code, line=error.line, field=error.field, message=error.message, file=role)
        )
