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

from training.data.row_validation import Checked, checked, chunks, fields_of
from training.readers import rows
from training.readers.rows import Bad, Entry, Record
from training.spec import TrainSpec
from training.tasks import METHODS
from training.tasks.base import AnyTask

FAULTS_KEPT = 100
MOST_PROCESSES = 8
"""Each takes some 50 MB, and beyond these one waits for the disk."""
POLL_SECONDS = 0.2
HOUSE = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Sample:
    """How a look reads a large file. Every row is checked, but a chat template and a tokenizer would take minutes: they
    are given some chunks and the longest rows, which show what is too long and what memory a batch takes. Training
    gives them all."""

    over: int = 16 << 20
    """Bytes of a file that is still encoded whole."""
    aim: int = 2 << 20
    """Bytes, about, of the chunks that are encoded."""
    longest: int = 64
    """Rows."""
    processes: int = 1
    """That check a file, of at most ``MOST_PROCESSES``."""

    def every(self, size: int) -> int:
        """Of so many chunks one is encoded, in a file of ``size`` bytes."""
        return max(1, size // self.aim)


@dataclass
class Survey:
    """What was found in a file, or in a part of it."""

    good: int
    """Rows."""
    lines: int
    """Of the part, where others follow it."""
    bad: list[Bad]
    """The first ``FAULTS_KEPT``."""
    bad_count: int
    sampled: list[Record]
    """Rows of every so manieth chunk."""
    longest: list[Record]
    """Of the other rows, as the file writes them; in its order."""


_AS_JSON = TypeAdapter(Survey)


@dataclass(frozen=True)
class _Reads:
    """How the rows of a part are read."""

    task: AnyTask
    columns: Mapping[str, str]
    every: int
    """Of so many chunks one is encoded."""
    longest: int
    heed: Callable[[], None]


def surveys(
    path: Path, columns: Mapping[str, str], task: AnyTask, sample: Sample, heed: Callable[[], None]
) -> Iterator[tuple[int, Survey]]:
    """Of each part, the lines before it and what was found."""
    size = path.stat().st_size
    start = rows.jsonl_start(path)
    reads = _Reads(task, columns, sample.every(size), sample.longest, heed)
    if sample.processes == 1 or start is None:
        yield 0, _survey(rows.read(path, columns, fields_of(task), task.file_field), reads)
        return
    before = 0
    for found in _apart(path, _cuts(path, start, size, min(sample.processes, MOST_PROCESSES)), reads):
        yield before, found
        before += found.lines


def _survey(entries: Iterator[Entry], reads: _Reads) -> Survey:
    """Lines are not counted: the rows do not say where the last one ends."""
    found = Survey(0, 0, [], 0, [], [])
    kept = _Longest(reads.longest)
    for number, chunk in enumerate(chunks(entries)):
        reads.heed()
        for outcome in checked(reads.task, chunk):
            if isinstance(outcome, Bad):
                found.bad_count += 1
                if len(found.bad) < FAULTS_KEPT:
                    found.bad.append(outcome)
            else:
                found.good += 1
                if number % reads.every == 0:
                    found.sampled.append(outcome[0])
                else:
                    kept.heed(outcome)
    found.longest = kept.records()
    return found


def _part(path: Path, start: int, end: int, reads: _Reads) -> Survey:
    """Of a JSONL file."""
    with path.open("rb", buffering=0) as file:
        section = _Section(file, start, end)
        entries = rows.read_jsonl(io.BufferedReader(cast(io.RawIOBase, section), 1 << 18), reads.columns)
        found = _survey(entries, reads)
    return replace(found, lines=section.lines)


def _cuts(path: Path, start: int, size: int, parts: int) -> list[int]:
    """Where the parts begin and the last ends: each at a line's start."""
    places = [start]
    with path.open("rb") as file:
        for part in range(1, parts):
            file.seek(max(places[-1], size * part // parts))
            while (piece := file.readline(1 << 16)) and not piece.endswith(b"\n"):
                pass
            places.append(file.tell())
    return [*places, size]


def _apart(path: Path, cuts: Sequence[int], reads: _Reads) -> Iterator[Survey]:
    """Each part by a process of its own, the last by this one; all end with it."""
    with ExitStack() as stack:
        processes = []
        for start, end in list(pairwise(cuts))[:-1]:
            asked = [str(number) for number in (start, end, reads.every, reads.longest)]
            command = [sys.executable, "-m", "training.data.scan", str(path), *asked]
            # From the house's root: what is imported is what this process is made of, not what lies beside the files.
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, cwd=HOUSE))
            stack.callback(process.kill)
            processes.append(process)
        last = _part(path, cuts[-2], cuts[-1], reads)
        for process in processes:
            yield _AS_JSON.validate_json(_output(process, reads.heed))
        yield last


def _output(process: subprocess.Popen[bytes], heed: Callable[[], None]) -> bytes:
    while True:
        heed()
        try:
            printed, _ = process.communicate(timeout=POLL_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        if process.returncode:
            raise RuntimeError(f"a process that checked rows ended with {process.returncode}")
        return printed


class _Longest:
    """The longest rows of a file, as it writes them."""

    def __init__(self, count: int) -> None:
        self._count = count
        # The number keeps rows of one size from being compared themselves.
        self._kept: list[tuple[int, int, Record]] = []
        self._number = 0

    def heed(self, row: Checked) -> None:
        record = row[0]
        self._number += 1
        if len(self._kept) < self._count:
            heappush(self._kept, (record.size, self._number, record))
        elif self._kept and record.size > self._kept[0][0]:
            heapreplace(self._kept, (record.size, self._number, record))

    def records(self) -> list[Record]:
        """In the file's order."""
        return [record for _, _, record in sorted(self._kept, key=lambda kept: kept[1])]


class _Section(io.RawIOBase):
    """The bytes of a file between two places, and how many lines they are."""

    def __init__(self, file: io.FileIO, start: int, end: int) -> None:
        file.seek(start)
        self._file = file
        self._left = end - start
        self.lines = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        piece = self._file.read(min(len(buffer), self._left))
        buffer[: len(piece)] = piece
        self._left -= len(piece)
        self.lines += piece.count(b"\n")
        return len(piece)


def main(path: Path, start: int, end: int, every: int, longest: int) -> None:
    spec = TrainSpec.read(path.parent)
    parent = os.getppid()
    gc.freeze()

    def heed() -> None:
        if os.getppid() != parent:
            raise SystemExit("the process that asked is gone")

    reads = _Reads(METHODS[spec.method][spec.task], spec.columns, every, longest, heed)
    sys.stdout.buffer.write(_AS_JSON.dump_json(_part(path, start, end, reads)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
