"""Protocol of a blob store, and functions that all stores share.

Every write returns a sha256, and every read is verified against the one stored in the database. The
store's own checksums are not relied on. The server creates all keys. Calls block; run them in a
thread.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from storage.errors import BlobCorrupt, InvalidBlobKey

CHUNK_BYTES = 1 << 20
_KEY_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*(/[A-Za-z0-9][A-Za-z0-9._:-]*)*")


@dataclass(frozen=True)
class BlobDigest:
    """Hash and size of written bytes."""

    sha256: str
    size: int


@dataclass(frozen=True)
class BlobInfo:
    key: str
    size: int
    modified_at: float


class Blobs(Protocol):
    """A store of immutable bytes.

    Raises ``BlobNotFound``, ``BlobCorrupt``, ``BlobExists`` and ``StorageUnavailable``.
    """

    def put_file(self, key: str, path: Path) -> BlobDigest:
        """Store a file atomically."""

    def put_stream(self, key: str, chunks: Iterable[bytes]) -> BlobDigest:
        """Store a stream with a few megabytes in memory.

        If ``chunks`` raises, nothing is stored.
        """

    def put_bytes(self, key: str, data: bytes, *, exclusive: bool = False) -> BlobDigest:
        """Store a few bytes.

        With ``exclusive``, raises ``BlobExists`` if the key already has different bytes.
        """

    def stream(self, key: str, sha256: str) -> Iterator[bytes]:
        """Yield the blob's chunks.

        Raises ``BlobCorrupt`` after the last one if the hash differs.
        """

    def delete(self, key: str) -> None:
        """Delete a blob. A missing blob is not an error."""

    def list(self, prefix: str) -> Iterator[BlobInfo]:
        """Yield the blobs under a prefix. Used for cleanup only."""

    def sweep(self, seconds: float) -> int:
        """Delete unfinished writes that were not touched for ``seconds``. Return their number."""

    def presign(self, key: str, filename: str, seconds: int) -> str | None:
        """Return a public URL of the blob that is valid for ``seconds``, or None if unsupported."""


def get_file(blobs: Blobs, key: str, sha256: str, dest: Path) -> None:
    """Fetch and verify a blob.

    ``dest`` appears only when it is complete. Raises ``BlobCorrupt``.
    """
    dest.parent.mkdir(parents=True, exist_ok=True)
    part = dest.with_name(dest.name + ".part")
    try:
        with part.open("wb") as out:
            for chunk in blobs.stream(key, sha256):
                out.write(chunk)
        part.replace(dest)
    finally:
        part.unlink(missing_ok=True)


def read(blobs: Blobs, key: str, sha256: str) -> bytes:
    """Return a small blob, verified."""
    return b"".join(blobs.stream(key, sha256))


def validate_key(key: str) -> str:
    """Return ``key``. Raises ``InvalidBlobKey`` for empty parts, leading dots and other characters.

    No key that the server creates has these.
    """
    if len(key) > 900 or not _KEY_PATTERN.fullmatch(key):
        raise InvalidBlobKey(f"not a blob key: {key[:80]!r}")
    return key


def hash_file(path: Path) -> BlobDigest:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return BlobDigest(digest.hexdigest(), size)


def verify_chunks(key: str, sha256: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Pass chunks through. Raises ``BlobCorrupt`` at the end if their hash differs."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != sha256:
        raise BlobCorrupt(f"{key}: sha256 {digest.hexdigest()[:12]}… read, {sha256[:12]}… written")
