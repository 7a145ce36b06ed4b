"""Files of encoded rows: one with records, one with an index, both read through memory maps.

The index has four int64 per example: the end of its record, its size, its flags, and its line in
the data file, 0 for a row without a line. Memory stays flat, because the operating system keeps
only the pages in use.
"""

from __future__ import annotations

import hashlib
import mmap
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.data.records import build_codec
from training.tasks.base import Example
from training.tasks.examples import Column, LazySequence

RECORDS_FILE, INDEX_FILE = "records", "index"
FLUSH_BYTES = 1 << 20
_INDEX_WIDTH = 4
_END, _SIZE, _FLAGS, _LINE = range(_INDEX_WIDTH)
_FLAG_BITS: Mapping[Column, int] = {"truncated": 1, "continues": 2}


@dataclass(frozen=True)
class ExampleFileInfo:
    """Length and checksum of the files of a directory."""

    examples: int
    record_bytes: int
    sha256: Mapping[str, str]
    """By file name."""


class ExampleWriter:
    """Appends encoded rows to new files in a directory. Use it as a context manager."""

    def __init__(self, directory: Path, example_type: type[Example]) -> None:
        self._codec = build_codec(example_type)
        self._names = (RECORDS_FILE, INDEX_FILE)
        directory.mkdir(parents=True, exist_ok=True)
        self._files = [(directory / name).open("wb") for name in self._names]
        self._hashes = [hashlib.sha256() for _ in self._names]
        self._records, self._index = bytearray(), array("q")
        self._flushed_bytes = self._examples = 0

    def append(self, example: Example, line: int | None) -> None:
        self._codec.write(example, self._records)
        flags = sum(bit for name, bit in _FLAG_BITS.items() if getattr(example, name))
        self._index.extend((self._flushed_bytes + len(self._records), example.size, flags, line or 0))
        self._examples += 1
        if len(self._records) >= FLUSH_BYTES:
            self._flush()

    def close(self) -> ExampleFileInfo:
        """Write the rest. Raises ``OSError`` if the disk is full."""
        self._flush()
        for file in self._files:
            file.close()
        digests = {name: digest.hexdigest() for name, digest in zip(self._names, self._hashes, strict=True)}
        return ExampleFileInfo(self._examples, self._flushed_bytes, digests)

    def __enter__(self) -> ExampleWriter:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def _flush(self) -> None:
        for file, digest, data in zip(
            self._files, self._hashes, (bytes(self._records), self._index.tobytes()), strict=True
        ):
            file.write(data)
            digest.update(data)
        self._flushed_bytes += len(self._records)
        self._records, self._index = bytearray(), array("q")


class MappedExamples(LazySequence):
    """Encoded rows of a directory that ``ExampleWriter`` wrote.

    The files may be deleted while they are mapped.
    """

    def __init__(self, directory: Path, example_type: type[Example]) -> None:
        self._codec = build_codec(example_type)
        self._records = _map_file(directory / RECORDS_FILE)
        self._index: Sequence[int] = _map_file(directory / INDEX_FILE).cast("q")

    def __len__(self) -> int:
        return len(self._index) // _INDEX_WIDTH

    def build(self, row: int) -> Any:
        start = self._index[(row - 1) * _INDEX_WIDTH + _END] if row else 0
        return self._codec.read(self._records, start)[0]

    def read_column(self, name: Column) -> array[int]:
        if name == "size":
            return self._read_index(_SIZE)
        bit = _FLAG_BITS[name]
        return array("q", (int(flags & bit > 0) for flags in self._read_index(_FLAGS)))

    def read_lines(self, offset: int) -> array[int]:
        """Return the line of every row plus ``offset``; 0 for a row without a line."""
        return array("q", (line and line + offset for line in self._read_index(_LINE)))

    def _read_index(self, column: int) -> array[int]:
        return array("q", self._index[column::_INDEX_WIDTH])


def _map_file(path: Path) -> memoryview:
    with path.open("rb") as file:
        # An empty file cannot be mapped.
        is_empty = not path.stat().st_size
        return memoryview(b"") if is_empty else memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
