"""A file that is at its path whole, or not at all."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from luthier.errors import CorruptDownloadError


class PartialFile:
    """Bytes on their way to ``path``, kept beside it until they are known to be right."""

    def __init__(self, path: Path, temp_path: Path, file: IO[bytes]) -> None:
        self._path, self._temp_path, self._file, self._digest = path, temp_path, file, hashlib.sha256()

    def write(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self._file.write(chunk)

    def commit(self, sha256: str | None) -> None:
        """Put the bytes at the path. Raises ``CorruptDownloadError`` where their hash is not ``sha256``."""
        if self._digest.hexdigest() != sha256:
            raise CorruptDownloadError(f"{self._path} was not written: its bytes do not have the sha256 {sha256}.")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._temp_path.replace(self._path)


@contextmanager
def open_partial_file(path: Path) -> Iterator[PartialFile]:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with beside.open("xb") as out:
            yield PartialFile(path, beside, out)
    finally:
        beside.unlink(missing_ok=True)
