"""What is uploaded: a file on disk, or bytes."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

Report = Callable[[int, int], None]
"""Called with the bytes sent so far and all bytes."""

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Source:
    filename: str
    size: int
    _open: Callable[[], IO[bytes]]

    def part(self, offset: int, length: int) -> bytes:
        with self._open() as file:
            file.seek(offset)
            return file.read(length)

    def md5(self) -> str:
        """What the server compares the parts with."""
        digest = hashlib.md5(usedforsecurity=False)
        with self._open() as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        return digest.hexdigest()

    def reader(self, report: Report | None) -> IO[bytes]:
        """For one request; tells ``report`` how far it has been read."""
        return io.BufferedReader(_Reported(self._open(), self.size, report), _BLOCK)


class _Reported(io.RawIOBase):
    def __init__(self, file: IO[bytes], size: int, report: Report | None) -> None:
        self._file, self._size, self._report = file, size, report

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        if data and self._report is not None:
            self._report(self._file.tell(), self._size)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def source_of(content: str | os.PathLike[str] | bytes, filename: str | None) -> Source:
    """Raises ``OSError`` for a path that cannot be read."""
    if isinstance(content, bytes):
        return Source(filename or "upload", len(content), lambda: io.BytesIO(content))
    path = Path(content)
    return Source(filename or path.name, path.stat().st_size, lambda: path.open("rb"))
