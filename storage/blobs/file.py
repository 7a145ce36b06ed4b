"""Blob store in a local folder."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG
from urllib.parse import unquote, urlsplit

from storage.blobs.base import CHUNK_BYTES, BlobDigest, BlobInfo, hash_file, validate_key, verify_chunks
from storage.errors import BlobExists, BlobNotFound, StorageUnavailable


class FileBlobs:
    """Stores blobs as files.

    A blob is written to a temporary file, flushed to disk and renamed, so that writes are atomic.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        # validate_key rejects this name, so it cannot collide with a blob's.
        self._temporary_dir = root / ".aside"
        self._temporary_dir.mkdir(parents=True, exist_ok=True)

    @classmethod
    def connect(cls, url: str) -> FileBlobs:
        return cls(Path(unquote(urlsplit(url).path)))

    def put_file(self, key: str, path: Path) -> BlobDigest:
        target = self._resolve_path(key)
        with _translate_errors(), self._create_temporary_path() as part:
            shutil.copyfile(path, part)
            stored = hash_file(part)
            _sync_to_disk(part)
            target.parent.mkdir(parents=True, exist_ok=True)
            part.replace(target)
        return stored

    def put_stream(self, key: str, chunks: Iterable[bytes]) -> BlobDigest:
        target, digest, size = self._resolve_path(key), hashlib.sha256(), 0
        with _translate_errors(), self._create_temporary_path() as part:
            with part.open("wb") as out:
                for chunk in chunks:
                    digest.update(chunk)
                    size += out.write(chunk)
            _sync_to_disk(part)
            target.parent.mkdir(parents=True, exist_ok=True)
            part.replace(target)
        return BlobDigest(digest.hexdigest(), size)

    def put_bytes(self, key: str, data: bytes, *, exclusive: bool = False) -> BlobDigest:
        target = self._resolve_path(key)
        with _translate_errors(), self._create_temporary_path() as part:
            part.write_bytes(data)
            stored = hash_file(part)
            _sync_to_disk(part)
            target.parent.mkdir(parents=True, exist_ok=True)
            if exclusive:
                _link_exclusive(part, target, stored)
            else:
                part.replace(target)
        return stored

    def stream(self, key: str, sha256: str) -> Iterator[bytes]:
        return verify_chunks(key, sha256, _read_chunks(self._resolve_path(key), key))

    def delete(self, key: str) -> None:
        with _translate_errors():
            self._resolve_path(key).unlink(missing_ok=True)

    def list(self, prefix: str) -> Iterator[BlobInfo]:
        folder = self._resolve_path(prefix.rstrip("/"))
        for path in sorted(folder.rglob("*")):
            # Another process may be cleaning up too.
            with suppress(FileNotFoundError):
                stat = path.stat()
                if S_ISREG(stat.st_mode):
                    yield BlobInfo(path.relative_to(self.root).as_posix(), stat.st_size, stat.st_mtime)

    def sweep(self, seconds: float) -> int:
        swept = 0
        for path in self._temporary_dir.iterdir():
            # The writer may have finished in the meantime.
            with _translate_errors(), suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > seconds:
                    path.unlink()
                    swept += 1
        return swept

    def presign(self, key: str, filename: str, seconds: int) -> str | None:
        return None

    def _resolve_path(self, key: str) -> Path:
        return self.root / validate_key(key)

    @contextmanager
    def _create_temporary_path(self) -> Iterator[Path]:
        part = self._temporary_dir / secrets.token_hex(16)
        try:
            yield part
        finally:
            part.unlink(missing_ok=True)


def _link_exclusive(temporary: Path, target: Path, expected: BlobDigest) -> None:
    # link() refuses an existing name where rename() would overwrite it.
    try:
        os.link(temporary, target)
    except FileExistsError:
        if hash_file(target) != expected:
            raise BlobExists(f"{target.name} already exists with different bytes") from None


def _sync_to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _read_chunks(path: Path, key: str) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except FileNotFoundError:
        raise BlobNotFound(f"there is no blob {key}") from None


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageUnavailable(f"cannot read or write the blob folder: {error.strerror}") from error
