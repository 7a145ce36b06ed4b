"""Work on sections of a JSONL file in several processes, which end with this one.

The file is split at line boundaries. Each section but the last gets a child process that runs
``python -m MODULE FILE START END …``; this process works on the last one. Processes are used
because nearly all of the time is spent in Python code, which threads cannot run in parallel. A
child prints the bytes it has read, one number per line, and at last its result, a line of JSON.
"""

from __future__ import annotations

import errno
import gc
import io
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import TypeVar, cast

from training.progress import Report

MAX_PROCESSES = 8
"""More of them would wait for the disk."""
POLL_SECONDS = 0.2
PRINT_SECONDS = 1.0
REPOSITORY_ROOT = Path(__file__).resolve().parent.parent.parent
DISK_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""A child that cannot write to the disk ends with the errno as its exit code."""

T = TypeVar("T")


class FileSection(io.RawIOBase):
    """Byte range of a file that counts its bytes and lines while it is read."""

    def __init__(self, file: io.FileIO, start: int, end: int) -> None:
        file.seek(start)
        self._file = file
        self.total = end - start
        self.done = 0
        self.lines = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        chunk = self._file.read(min(len(buffer), self.total - self.done))
        buffer[: len(chunk)] = chunk
        self.done += len(chunk)
        self.lines += chunk.count(b"\n")
        return len(chunk)

    def buffered(self) -> io.BufferedReader:
        return io.BufferedReader(cast(io.RawIOBase, self), 1 << 18)


def find_boundaries(path: Path, start: int, sections: int) -> list[int]:
    """Return the start of each section, at the start of a line, and the end of the last one."""
    boundaries, size = [start], path.stat().st_size
    with path.open("rb") as file:
        for section in range(1, sections):
            file.seek(max(boundaries[-1], size * section // sections))
            while (chunk := file.readline(1 << 16)) and not chunk.endswith(b"\n"):
                pass
            boundaries.append(file.tell())
    return [*boundaries, size]


def run_sections(
    module: str,
    path: Path,
    boundaries: Sequence[int],
    arguments: Callable[[int], Sequence[str]],
    parse: Callable[[bytes], T],
    run_last: Callable[[int, int, Report], T],
    report: Report,
) -> Iterator[T]:
    """Yield the result of every section in order.

    ``arguments``: section number -> arguments of its child after START and END. ``run_last`` works
    on the last section, from its start to its end. All children end with the iterator.
    """
    total = boundaries[-1] - boundaries[0]
    with ExitStack() as stack:
        children = []
        for number, (start, end) in enumerate(list(pairwise(boundaries))[:-1]):
            command = [sys.executable, "-m", module, str(path), str(start), str(end), *arguments(number)]
            children.append(stack.enter_context(_Child(command)))

        def report_all(done: float, _: float) -> None:
            for child in children:
                child.poll()
            report(done + sum(child.done for child in children), total)

        last = run_last(boundaries[-2], boundaries[-1], report_all)
        for child in children:
            while not child.has_ended:
                child.wait()
                report_all(boundaries[-1] - boundaries[-2], total)
            yield parse(child.result)
        yield last


class _Child:
    """A child process and its output so far."""

    def __init__(self, command: Sequence[str]) -> None:
        # From the repository root, so that imports cannot resolve to files in the current
        # directory.
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY_ROOT)
        assert self._process.stdout
        self._stdout = self._process.stdout
        os.set_blocking(self._stdout.fileno(), False)
        self._output = bytearray()
        self.done = 0
        self.result = b""
        self.has_ended = False

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._stdout.close()

    def wait(self) -> None:
        """Wait for output, at most ``POLL_SECONDS``."""
        select.select([self._stdout], [], [], POLL_SECONDS)

    def poll(self) -> None:
        """Read the output that is there.

        Raises ``OSError`` if the child's disk is full, ``RuntimeError`` if it ended abnormally.
        """
        while not self.has_ended and (data := self._read()) is not None:
            self._output += data
            *lines, rest = bytes(self._output).split(b"\n")
            self._output = bytearray(rest)
            for line in lines:
                if line.isdigit():
                    self.done = int(line)
                else:
                    self.result = line
            if not data:
                self.has_ended = True
                self._raise_if_failed(self._process.wait())

    def _read(self) -> bytes | None:
        try:
            return os.read(self._stdout.fileno(), 1 << 16)
        except BlockingIOError:
            return None

    def _raise_if_failed(self, code: int) -> None:
        if code in DISK_ERRNOS:
            raise OSError(code, os.strerror(code))
        if code or not self.result:
            raise RuntimeError(f"a process that read a section of the data exited with code {code}")


def main(work: Callable[[list[str], Report], bytes]) -> None:
    """Run ``work`` on the arguments of a child process and print its result."""
    parent, printed_at = os.getppid(), 0.0
    # Imported modules stay, so the garbage collector need not visit them again and again.
    gc.freeze()

    def report(done: float, _: float) -> None:
        nonlocal printed_at
        if os.getppid() != parent:
            raise SystemExit("the parent process is gone")
        if time.monotonic() - printed_at >= PRINT_SECONDS:
            printed_at = time.monotonic()
            print(int(done), flush=True)

    try:
        result = work(sys.argv[1:], report)
    except OSError as error:
        if error.errno not in DISK_ERRNOS:
            raise
        sys.exit(error.errno)
    sys.stdout.buffer.write(result + b"\n")
