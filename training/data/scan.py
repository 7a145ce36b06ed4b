"""A large file, every row checked and none encoded. JSONL is cut at its lines and given to several processes:
``python -m training.data.scan FILE START END EVERY LONGEST`` checks a range of bytes and prints a ``Survey``.

Nearly all of a row's time is Python's own work on objects, which threads cannot share.
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
from training.readers.rows import RawRow, RowError, RowResult
from training.spec import TrainSpec
from training.tasks import METHODS
from training.tasks.base import AnyTask

MAX_REPORTED_ERRORS = 100
MAX_PROCESSES = 8
"""Each takes some 50 MB, and beyond these one waits for the disk."""
POLL_SECONDS = 0.2
REPOSITORY_ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class SamplingPlan:
    """How a look reads a large file. Every row is checked, but a chat template and a tokenizer would take minutes: they
    are given some chunks and the longest rows, which show what is too long and what memory a batch takes. Training
    gives them all."""

    min_file_bytes: int = 16 << 20
    """Bytes of a file that is still encoded whole."""
    target_bytes: int = 2 << 20
    """Bytes, about, of the chunks that are encoded."""
    longest_rows: int = 64
    """Rows."""
    processes: int = 1
    """That check a file, of at most ``MOST_PROCESSES``."""

    def compute_interval(self, file_bytes: int) -> int:
        """Of so many chunks one is encoded, in a file of ``size`` bytes."""
        return max(1, file_bytes // self.target_bytes)


@dataclass
class ScanResult:
    """What was found in a file, or in a part of it."""

    valid_count: int
    """Rows."""
    line_count: int
    """Of the part, where others follow it."""
    errors: list[RowError]
    """The first ``FAULTS_KEPT``."""
    error_count: int
    sampled_rows: list[RawRow]
    """Rows of every so manieth chunk."""
    longest_rows: list[RawRow]
    """Of the other rows, as the file writes them; in its order."""


_RESULT_ADAPTER = TypeAdapter(ScanResult)


@dataclass(frozen=True)
class _ScanOptions:
    """How the rows of a part are read."""

    task: AnyTask
    columns: Mapping[str, str]
    interval: int
    """Of so many chunks one is encoded."""
    longest_rows: int
    raise_if_stopped: Callable[[], None]


def scan_file(
    path: Path, columns: Mapping[str, str], task: AnyTask, sampling: SamplingPlan, raise_if_stopped: Callable[[], None]
) -> Iterator[tuple[int, ScanResult]]:
    """Of each part, the lines before it and what was found."""
    size = path.stat().st_size
    start = rows.find_jsonl_start(path)
    reads = _ScanOptions(task, columns, sampling.compute_interval(size), sampling.longest_rows, raise_if_stopped)
    if sampling.processes == 1 or start is None:
        yield 0, _scan_rows(rows.read_rows(path, columns, get_row_fields(task), task.file_field), reads)
        return
    before = 0
    for found in _scan_in_processes(
        path, _find_boundaries(path, start, size, min(sampling.processes, MAX_PROCESSES)), reads
    ):
        yield before, found
        before += found.line_count


def _scan_rows(entries: Iterator[RowResult], options: _ScanOptions) -> ScanResult:
    """Lines are not counted: the rows do not say where the last one ends."""
    found = ScanResult(0, 0, [], 0, [], [])
    kept = _LongestRows(options.longest_rows)
    for number, chunk in enumerate(iter_chunks(entries)):
        options.raise_if_stopped()
        for outcome in validate_rows(options.task, chunk):
            if isinstance(outcome, RowError):
                found.error_count += 1
                if len(found.errors) < MAX_REPORTED_ERRORS:
                    found.errors.append(outcome)
            else:
                found.valid_count += 1
                if number % options.interval == 0:
                    found.sampled_rows.append(outcome[0])
                else:
                    kept.add(outcome)
    found.longest_rows = kept.to_list()
    return found


def _scan_section(path: Path, start: int, end: int, options: _ScanOptions) -> ScanResult:
    """Of a JSONL file."""
    with path.open("rb", buffering=0) as file:
        section = _Section(file, start, end)
        entries = rows.read_jsonl(io.BufferedReader(cast(io.RawIOBase, section), 1 << 18), options.columns)
        found = _scan_rows(entries, options)
    return replace(found, line_count=section.lines)


def _find_boundaries(path: Path, start: int, size: int, sections: int) -> list[int]:
    """Where the parts begin and the last ends: each at a line's start."""
    places = [start]
    with path.open("rb") as file:
        for part in range(1, sections):
            file.seek(max(places[-1], size * part // sections))
            while (piece := file.readline(1 << 16)) and not piece.endswith(b"\n"):
                pass
            places.append(file.tell())
    return [*places, size]


def _scan_in_processes(path: Path, boundaries: Sequence[int], options: _ScanOptions) -> Iterator[ScanResult]:
    """Each part by a process of its own, the last by this one; all end with it."""
    with ExitStack() as stack:
        processes = []
        for start, end in list(pairwise(boundaries))[:-1]:
            asked = [str(number) for number in (start, end, options.interval, options.longest_rows)]
            command = [sys.executable, "-m", "training.data.scan", str(path), *asked]
            # From the house's root: what is imported is what this process is made of, not what lies beside the files.
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
            printed, _ = process.communicate(timeout=POLL_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        if process.returncode:
            raise RuntimeError(f"a process that checked rows ended with {process.returncode}")
        return printed


class _LongestRows:
    """The longest rows of a file, as it writes them."""

    def __init__(self, count: int) -> None:
        self._count = count
        # The number keeps rows of one size from being compared themselves.
        self._heap: list[tuple[int, int, RawRow]] = []
        self._number = 0

    def add(self, row: ValidRow) -> None:
        record = row[0]
        self._number += 1
        if len(self._heap) < self._count:
            heappush(self._heap, (record.size, self._number, record))
        elif self._heap and record.size > self._heap[0][0]:
            heapreplace(self._heap, (record.size, self._number, record))

    def to_list(self) -> list[RawRow]:
        """In the file's order."""
        return [record for _, _, record in sorted(self._heap, key=lambda kept: kept[1])]


class _Section(io.RawIOBase):
    """The bytes of a file between two places, and how many lines they are."""

    def __init__(self, file: io.FileIO, start: int, end: int) -> None:
        file.seek(start)
        self._file = file
        self._remaining = end - start
        self.lines = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        piece = self._file.read(min(len(buffer), self._remaining))
        buffer[: len(piece)] = piece
        self._remaining -= len(piece)
        self.lines += piece.count(b"\n")
        return len(piece)


def main(path: Path, start: int, end: int, interval: int, longest_rows: int) -> None:
    spec = TrainSpec.read(path.parent)
    parent = os.getppid()
    gc.freeze()

    def raise_if_orphaned() -> None:
        if os.getppid() != parent:
            raise SystemExit("the process that asked is gone")

    reads = _ScanOptions(METHODS[spec.method][spec.task], spec.columns, interval, longest_rows, raise_if_orphaned)
    sys.stdout.buffer.write(_RESULT_ADAPTER.dump_json(_scan_section(path, start, end, reads)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
