"""Scan of a large file: validates every row and encodes none.

JSONL is split at line boundaries between several processes: ``python -m training.data.scan FILE
START END INTERVAL LONGEST_ROWS`` validates a range of bytes and prints a ``ScanResult``. Processes
are used because nearly all of the time is spent in Python code, which threads cannot run in
parallel.
"""

from __future__ import annotations

import gc
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from heapq import heappush, heapreplace
from itertools import pairwise
from pathlib import Path
from typing import cast

from pydantic import TypeAdapter

from training.data.row_validation import ValidRow, get_row_fields, iter_chunks, validate_rows
from training.readers import rows
from training.readers.raw_rows import RawRow, RowError, RowResult
from training.spec import TrainSpec
from training.tasks import TASKS_BY_METHOD
from training.tasks.base import AnyTask

MAX_REPORTED_ERRORS = 100
MAX_PROCESSES = 8
"""Each takes about 50 MB. More of them would wait for the disk."""
POLL_SECONDS = 0.2
REPOSITORY_ROOT = Path(__file__).resolve().parent.parent.parent


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
    """Processes that validate a file, at most ``MAX_PROCESSES``."""

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
    raise_if_stopped: Callable[[], None]


def scan_file(
    path: Path, columns: Mapping[str, str], task: AnyTask, sampling: SamplingPlan, raise_if_stopped: Callable[[], None]
) -> Iterator[tuple[int, ScanResult]]:
    """Yield for each section the number of lines before it and its result."""
    size = path.stat().st_size
    start = rows.find_jsonl_start(path)
    options = _ScanOptions(task, columns, sampling.compute_interval(size), sampling.longest_rows, raise_if_stopped)
    if sampling.processes == 1 or start is None:
        yield 0, _scan_rows(rows.read_rows(path, columns, get_row_fields(task), task.file_field), options)
        return
    line_offset = 0
    boundaries = _find_boundaries(path, start, size, min(sampling.processes, MAX_PROCESSES))
    for result in _scan_in_processes(path, boundaries, options):
        yield line_offset, result
        line_offset += result.line_count


def _scan_rows(entries: Iterator[RowResult], options: _ScanOptions) -> ScanResult:
    """Scan rows. Lines are not counted, because rows do not record their last line."""
    result = ScanResult(0, 0, [], 0, [], [])
    longest = _LongestRows(options.longest_rows)
    for number, chunk in enumerate(iter_chunks(entries)):
        options.raise_if_stopped()
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


def _scan_section(path: Path, start: int, end: int, options: _ScanOptions) -> ScanResult:
    """Scan a byte range of a JSONL file."""
    with path.open("rb", buffering=0) as file:
        section = _Section(file, start, end)
        entries = rows.read_jsonl(io.BufferedReader(cast(io.RawIOBase, section), 1 << 18), options.columns)
        result = _scan_rows(entries, options)
    return replace(result, line_count=section.lines)


def _find_boundaries(path: Path, start: int, size: int, sections: int) -> list[int]:
    """Return the start of each section, at the start of a line, and the end of the last one."""
    boundaries = [start]
    with path.open("rb") as file:
        for section in range(1, sections):
            file.seek(max(boundaries[-1], size * section // sections))
            while (chunk := file.readline(1 << 16)) and not chunk.endswith(b"\n"):
                pass
            boundaries.append(file.tell())
    return [*boundaries, size]


def _scan_in_processes(path: Path, boundaries: Sequence[int], options: _ScanOptions) -> Iterator[ScanResult]:
    """Scan each section in its own process, the last one in this process. All child processes end
    with it."""
    with ExitStack() as stack:
        processes = []
        for start, end in list(pairwise(boundaries))[:-1]:
            arguments = [str(number) for number in (start, end, options.interval, options.longest_rows)]
            command = [sys.executable, "-m", "training.data.scan", str(path), *arguments]
            # From the repository root, so that imports cannot resolve to files in the current
            # directory.
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY_ROOT))
            stack.callback(process.kill)
            processes.append(process)
        last = _scan_section(path, boundaries[-2], boundaries[-1], options)
        for process in processes:
            yield _RESULT_ADAPTER.validate_json(_wait_for_output(process, options.raise_if_stopped))
        yield last


def _wait_for_output(process: subprocess.Popen[bytes], raise_if_stopped: Callable[[], None]) -> bytes:
    while True:
        raise_if_stopped()
        try:
            output, _ = process.communicate(timeout=POLL_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        if process.returncode:
            raise RuntimeError(f"a row-validation process exited with code {process.returncode}")
        return output


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


class _Section(io.RawIOBase):
    """Byte range of a file that counts its lines while it is read."""

    def __init__(self, file: io.FileIO, start: int, end: int) -> None:
        file.seek(start)
        self._file = file
        self._remaining = end - start
        self.lines = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        chunk = self._file.read(min(len(buffer), self._remaining))
        buffer[: len(chunk)] = chunk
        self._remaining -= len(chunk)
        self.lines += chunk.count(b"\n")
        return len(chunk)


def main(path: Path, start: int, end: int, interval: int, longest_rows: int) -> None:
    spec = TrainSpec.read(path.parent)
    parent = os.getppid()
    gc.freeze()

    def raise_if_orphaned() -> None:
        if os.getppid() != parent:
            raise SystemExit("the parent process is gone")

    options = _ScanOptions(
        TASKS_BY_METHOD[spec.method][spec.task], spec.columns, interval, longest_rows, raise_if_orphaned
    )
    sys.stdout.buffer.write(_RESULT_ADAPTER.dump_json(_scan_section(path, start, end, options)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
