"""Scan of a large file: validates every row and encodes none.

JSONL is scanned in several processes: see ``training.data.sections``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from heapq import heappush, heapreplace
from pathlib import Path

from pydantic import TypeAdapter

from training.data import sections
from training.data.row_validation import ValidRow, count_characters, get_row_fields, iter_chunks, validate_rows
from training.data.sections import FileSection
from training.progress import Report
from training.readers import rows
from training.readers.raw_rows import RawRow, RowError, RowResult
from training.spec import TrainSpec
from training.tasks.base import AnyTask

MAX_REPORTED_ERRORS = 100


@dataclass(frozen=True)
class SamplingPlan:
    """Plan for encoding only a sample of a large file before training.

    Every row is validated. Rendering and tokenizing all rows would take minutes, so only some
    chunks and the longest rows are encoded. These show which rows are too long and how much memory
    a batch takes. Training encodes all rows.
    """

    min_file_bytes: int = 16 << 20
    """Size from which on only a sample is encoded, in bytes."""
    target_bytes: int = 2 << 20
    """Approximate size of the encoded chunks, bytes."""
    longest_rows: int = 64
    """Number of longest rows to encode."""
    processes: int = 1
    """Processes that validate a file, at most ``sections.MAX_PROCESSES``."""
    count_examples: bool = False
    """Encode all rows of a task that may split them, because their number of parts decides the
    number of steps."""

    def compute_interval(self, file_bytes: int) -> int:
        """Return n such that every nth chunk of a file of ``file_bytes`` is encoded."""
        return max(1, file_bytes // self.target_bytes)


@dataclass
class ScanResult:
    """Result of scanning a file or a section of it."""

    valid_count: int
    """Valid rows."""
    line_count: int
    """Lines of a section; 0 for a file scanned as a whole."""
    errors: list[RowError]
    """The first ``MAX_REPORTED_ERRORS``."""
    error_count: int
    sampled_rows: list[RawRow]
    """Rows of the sampled chunks."""
    longest_rows: list[RawRow]
    """The longest of the other rows, measured by their text in the file, in the file's order."""


_RESULT_ADAPTER = TypeAdapter(ScanResult)


@dataclass(frozen=True)
class _ScanOptions:
    """Options for scanning a section."""

    task: AnyTask
    columns: Mapping[str, str]
    interval: int
    """Every nth chunk is sampled."""
    longest_rows: int


def scan_file(
    path: Path, columns: Mapping[str, str], task: AnyTask, sampling: SamplingPlan, report: Report
) -> Iterator[tuple[int, ScanResult]]:
    """Yield for each section the number of lines before it and its result."""
    size = path.stat().st_size
    start = rows.find_jsonl_start(path)
    options = _ScanOptions(task, columns, sampling.compute_interval(size), sampling.longest_rows)
    if sampling.processes == 1 or start is None:
        entries = rows.read_rows(path, columns, get_row_fields(task), task.file_field)
        yield 0, _scan_rows(entries, options, lambda characters: report(characters, size))
        return
    line_offset = 0
    for result in sections.run_sections(
        "training.data.scan",
        path,
        sections.find_boundaries(path, start, min(sampling.processes, sections.MAX_PROCESSES)),
        lambda number: [str(options.interval), str(options.longest_rows)],
        _RESULT_ADAPTER.validate_json,
        lambda start, end, report: _scan_section(path, start, end, options, report),
        report,
    ):
        yield line_offset, result
        line_offset += result.line_count


def _scan_rows(entries: Iterator[RowResult], options: _ScanOptions, report: Callable[[int], None]) -> ScanResult:
    """Scan rows. Lines are not counted, because rows do not record their last line.

    ``report`` receives the characters of the rows so far.
    """
    result = ScanResult(0, 0, [], 0, [], [])
    longest, characters = _LongestRows(options.longest_rows), 0
    for number, chunk in enumerate(iter_chunks(entries)):
        report(characters)
        characters += count_characters(chunk)
        for row in validate_rows(options.task, chunk):
            if isinstance(row, RowError):
                result.error_count += 1
                if len(result.errors) < MAX_REPORTED_ERRORS:
                    result.errors.append(row)
            else:
                result.valid_count += 1
                if number % options.interval == 0:
                    result.sampled_rows.append(row[0])
                else:
                    longest.add(row)
    result.longest_rows = longest.to_list()
    return result


def _scan_section(path: Path, start: int, end: int, options: _ScanOptions, report: Report) -> ScanResult:
    """Scan a byte range of a JSONL file."""
    with path.open("rb", buffering=0) as file:
        section = FileSection(file, start, end)
        entries = rows.read_jsonl(section.buffered(), options.columns)
        result = _scan_rows(entries, options, lambda _: report(section.done, section.total))
    return replace(result, line_count=section.lines)


class _LongestRows:
    """The longest rows of a file, by the size of their text."""

    def __init__(self, count: int) -> None:
        self._count = count
        # The number breaks ties, because rows are not comparable.
        self._heap: list[tuple[int, int, RawRow]] = []
        self._number = 0

    def add(self, row: ValidRow) -> None:
        raw_row = row[0]
        self._number += 1
        if len(self._heap) < self._count:
            heappush(self._heap, (raw_row.size, self._number, raw_row))
        elif self._heap and raw_row.size > self._heap[0][0]:
            heapreplace(self._heap, (raw_row.size, self._number, raw_row))

    def to_list(self) -> list[RawRow]:
        """Return the rows in the file's order."""
        return [raw_row for _, _, raw_row in sorted(self._heap, key=lambda entry: entry[1])]


def _work(arguments: list[str], report: Report) -> bytes:
    path, (start, end, interval, longest_rows) = Path(arguments[0]), map(int, arguments[1:])
    spec = TrainSpec.read(path.parent)
    options = _ScanOptions(spec.create_task(), spec.columns, interval, longest_rows)
    return _RESULT_ADAPTER.dump_json(_scan_section(path, start, end, options, report))


if __name__ == "__main__":
    sections.main(_work)
