"""Source of an upload: a file on disk, or bytes."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ProgressCallback = Callable[[int, int], None]
"""Function called with the bytes sent so far and the total bytes."""

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class UploadSource:
    """Name, size and content of an upload."""

    filename: str
    size: int
    _open: Callable[[], IO[bytes]]

    def read_part(self, offset: int, length: int) -> bytes:
        with self._open() as file:
            file.seek(offset)
            return file.read(length)

    def compute_md5(self) -> str:
        """Return the MD5 that the server compares with the assembled parts."""
        digest = hashlib.md5(usedforsecurity=False)
        with self._open() as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
        return digest.hexdigest()

    def open_reader(self, progress: ProgressCallback | None) -> IO[bytes]:
        """Open a reader for one request. It calls ``progress`` as it is read."""
        return io.BufferedReader(_ProgressReader(self._open(), self.size, progress), _BLOCK_BYTES)


class _ProgressReader(io.RawIOBase):
    def __init__(self, file: IO[bytes], size: int, progress: ProgressCallback | None) -> None:
        self._file, self._size, self._progress = file, size, progress

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
        if data and self._progress is not None:
            self._progress(self._file.tell(), self._size)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def build_upload_source(content: str | os.PathLike[str] | bytes, filename: str | None) -> UploadSource:
    """Build the source of a path or bytes. Raises ``OSError`` if the path cannot be read."""
    if isinstance(content, bytes):
        return UploadSource(filename or "upload", len(content), lambda: io.BytesIO(content))
    path = Path(content)
    return UploadSource(filename or path.name, path.stat().st_size, lambda: path.open("rb"))
