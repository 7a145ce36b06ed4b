"""Reader that turns a data file into encoded examples and collects its errors."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from training.data.encoding import EncodedSection, RowEncoder, encode_file
from training.data.example_cache import ExampleCache, Part, get_part_directory
from training.data.example_files import MappedExamples
from training.data.row_validation import count_characters, iter_chunks
from training.data.scan import MAX_REPORTED_ERRORS, SamplingPlan, ScanResult, scan_file
from training.errors import InvalidDataset
from training.progress import Report
from training.readers.raw_rows import RawRow, RowError, RowResult
from training.run_reports import DatasetError
from training.tasks.base import TaskState
from training.tasks.examples import ExampleView, read_column

FileRole = Literal["training_file", "validation_file", "general_file"]


@dataclass
class Dataset:
    """Encoded examples in the file's order. Of a sampled file, only the sample is encoded.

    A row is one example, unless it is longer than ``max_length`` and the task splits it.
    """

    examples: Sequence[Any] = field(default_factory=list)
    lines: Sequence[int] = field(default_factory=lambda: array("q"))
    """Line of each example; 0 if the row has none."""
    errors: list[DatasetError] = field(default_factory=list)
    error_count: int = 0
    unencoded: int = 0
    """Valid rows that are not encoded."""
    longest_unencoded_tokens: int = 0
    """Tokens of the longest row that is not in ``examples``."""

    @property
    def num_rows(self) -> int:
        return len(self.examples) - sum(read_column(self.examples, "continues")) + self.unencoded

    @property
    def num_examples(self) -> int:
        """Examples of all rows. Estimated for a sampled file, like the counts below."""
        return self._extrapolate(len(self.examples))

    @property
    def num_tokens(self) -> int:
        """Tokens of all rows."""
        return self._extrapolate(sum(read_column(self.examples, "size")))

    @property
    def longest_row_tokens(self) -> int:
        return max(self.longest_unencoded_tokens, max(read_column(self.examples, "size"), default=0))

    @property
    def truncated_rows(self) -> int:
        return self._extrapolate(sum(read_column(self.examples, "truncated")))

    @property
    def split_rows(self) -> int:
        """Rows that are several examples."""
        return self._extrapolate(sum(len(group) > 1 for group in self.iter_rows()))

    @property
    def split_parts(self) -> int:
        """Examples that are a part of a row."""
        return self._extrapolate(sum(len(group) for group in self.iter_rows() if len(group) > 1))

    def iter_rows(self) -> Iterator[range]:
        """Yield the indices of each row's examples."""
        continues = read_column(self.examples, "continues")
        start = 0
        for index in range(1, len(continues) + 1):
            if index == len(continues) or not continues[index]:
                yield range(start, index)
                start = index

    def _extrapolate(self, sampled: int) -> int:
        if not self.unencoded:
            return sampled
        encoded = self.num_rows - self.unencoded
        return round(sampled * self.num_rows / encoded) if encoded else 0

    def select(self, indices: Sequence[int]) -> Dataset:
        """Return a dataset of the examples at ``indices``, in that order."""
        return Dataset(ExampleView([self.examples], indices), array("q", (self.lines[index] for index in indices)))

    def raise_if_invalid(self) -> None:
        if self.errors:
            raise InvalidDataset(self.errors, self.error_count)


@dataclass(frozen=True)
class DatasetReader:
    """Reader of the data files of one run."""

    encoder: RowEncoder
    report: Report
    """Called after each chunk; raises if the run must stop."""
    cache: ExampleCache | None = None
    """None: keep the examples in memory."""
    sampling: SamplingPlan | None = None
    """None: encode all rows. They are also all encoded if the task needs the full dataset."""
    processes: int = 1
    """Processes that encode a file."""

    def read(self, path: Path, role: FileRole) -> Dataset:
        """Read a file completely. Errors are collected, not raised."""
        cache, is_storable = self.cache, self.encoder.task.example_type is not None
        key = self.encoder.compute_key(path, self.report) if cache and is_storable else ""
        if cache and key and (parts := cache.load(key, self.report)) is not None:
            return self._map_parts(cache.get_entry(key), parts)
        data = Dataset()
        if self.sampling and self._may_sample(path, self.sampling):
            data = self._read_sample(path, role, self.sampling)
        elif cache and key:
            data = self._read_into_cache(path, role, cache, key)
        else:
            data = self._read_into_memory(path, role)
        if not data.num_rows and not data.errors:
            _add_error(data, role, RowError(None, "empty_file", "The file has no rows; add at least one."))
        return data

    def validate_against_state(self, data: Dataset, state: TaskState, role: FileRole) -> None:
        """Add an error for every row that a model with this state can never predict correctly."""
        for example, line in zip(data.examples, data.lines, strict=True):
            issue = self.encoder.task.check_example(example, state)
            if issue:
                _add_error(data, role, RowError(line or None, issue.code, issue.message, issue.field))

    def _may_sample(self, path: Path, sampling: SamplingPlan) -> bool:
        task = self.encoder.task
        needs_all_rows = task.needs_full_dataset or (sampling.count_examples and task.splits_rows)
        return not needs_all_rows and path.stat().st_size > sampling.min_file_bytes

    def _read_into_cache(self, path: Path, role: FileRole, cache: ExampleCache, key: str) -> Dataset:
        """Encode a file to disk, and publish the result in the cache if every row is valid."""
        with cache.stage() as staging:
            encoded: list[EncodedSection] = []
            parts: list[Part] = []
            for section in encode_file(
                path, self.encoder, self.processes, lambda number: get_part_directory(staging, number), self.report
            ):
                parts.append(Part(line_offset=sum(part.line_count for part in encoded), files=section.files))
                encoded.append(section)
            data = self._map_parts(staging, parts)
            for section, part in zip(encoded, parts, strict=True):
                _add_errors(data, role, section.errors, section.error_count, part.line_offset)
            if not data.error_count and data.examples:
                cache.commit(staging, key, parts)
        return data

    def _map_parts(self, entry: Path, parts: Sequence[Part]) -> Dataset:
        example_type = self.encoder.task.example_type
        assert example_type is not None
        mapped = [MappedExamples(get_part_directory(entry, number), example_type) for number in range(len(parts))]
        lines = array("q")
        for examples, part in zip(mapped, parts, strict=True):
            lines += examples.read_lines(part.line_offset)
        return Dataset(ExampleView(mapped), lines)

    def _read_into_memory(self, path: Path, role: FileRole) -> Dataset:
        builder, characters, size = _DatasetBuilder(self.encoder, role), 0, path.stat().st_size
        for chunk in iter_chunks(self.encoder.read_rows(path)):
            self.report(characters, size)
            characters += count_characters(chunk)
            builder.encode(chunk)
        return builder.data

    def _read_sample(self, path: Path, role: FileRole, sampling: SamplingPlan) -> Dataset:
        builder, sampled = _DatasetBuilder(self.encoder, role), 0
        task, columns = self.encoder.task, self.encoder.columns
        for line_offset, scan in scan_file(path, columns, task, sampling, self.report):
            _add_errors(builder.data, role, scan.errors, scan.error_count, line_offset)
            for chunk in iter_chunks(_shift_lines(scan.sampled_rows, line_offset)):
                self.report(sampled, sampling.target_bytes)
                sampled += count_characters(chunk)
                builder.encode(chunk)
            self._add_longest_rows(builder, scan, line_offset, role)
        return builder.data

    def _add_longest_rows(self, builder: _DatasetBuilder, scan: ScanResult, line_offset: int, role: FileRole) -> None:
        """Encode the longest rows outside the sample for their length and errors only."""
        longest, data = _DatasetBuilder(self.encoder, role), builder.data
        longest.encode(_shift_lines(scan.longest_rows, line_offset))
        data.longest_unencoded_tokens = max(data.longest_unencoded_tokens, longest.data.longest_row_tokens)
        data.unencoded += scan.valid_count - len(scan.sampled_rows) - longest.data.error_count
        data.errors = [*data.errors, *longest.data.errors][:MAX_REPORTED_ERRORS]
        data.error_count += longest.data.error_count


class _DatasetBuilder:
    """Dataset of chunks that are encoded in memory."""

    def __init__(self, encoder: RowEncoder, role: FileRole) -> None:
        self._encoder, self._role = encoder, role
        self._examples: list[Any] = []
        self._lines = array("q")
        self.data = Dataset(self._examples, self._lines)

    def encode(self, entries: Iterable[RowResult]) -> None:
        for result in self._encoder.encode(entries):
            if isinstance(result, RowError):
                _add_error(self.data, self._role, result)
            else:
                line, examples = result
                self._examples += examples
                self._lines.extend([line or 0] * len(examples))


def _shift_lines(raw_rows: Iterable[RawRow], offset: int) -> Iterator[RowResult]:
    return (replace(row, line=row.line and row.line + offset) for row in raw_rows)


def _add_errors(data: Dataset, role: FileRole, errors: Sequence[RowError], count: int, line_offset: int) -> None:
    """Add the first errors of a section, of ``count``, whose lines count from its start."""
    for error in errors:
        _add_error(data, role, replace(error, line=error.line and error.line + line_offset))
    data.error_count += count - len(errors)


def _add_error(data: Dataset, role: FileRole, error: RowError) -> None:
    data.error_count += 1
    if len(data.errors) < MAX_REPORTED_ERRORS:
        data.errors.append(
            DatasetError(code=error.code, line=error.line, field=error.field, message=error.message, file=role)
        )
