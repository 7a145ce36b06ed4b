"""Atomic download: a file appears at its path complete and verified, or not at all."""

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
    """Temporary file next to ``path`` that replaces it after verification."""

    def __init__(self, path: Path, temp_path: Path, file: IO[bytes]) -> None:
        self._path, self._temp_path, self._file, self._digest = path, temp_path, file, hashlib.sha256()

    def write(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self._file.write(chunk)

    def commit(self, sha256: str | None) -> None:
        """Move the file to its path.

        Raises ``CorruptDownloadError`` if its hash is not ``sha256``.
        """
        if self._digest.hexdigest() != sha256:
            raise CorruptDownloadError(
                f"{self._path} was not written: the downloaded bytes do not match the sha256 {sha256}. Try again."
            )
        self._file.flush()
        os.fsync(self._file.fileno())
        self._temp_path.replace(self._path)


@contextmanager
def open_partial_file(path: Path) -> Iterator[PartialFile]:
    """Open a temporary file for ``path`` and delete it at the end, unless it was committed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temp_path = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temp_path.open("xb") as out:
            yield PartialFile(path, temp_path, out)
    finally:
        temp_path.unlink(missing_ok=True)
