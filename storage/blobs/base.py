"""The protocol of a blob store, and what every store shares.

Every write records a sha256 and every read is checked against the one its caller kept in the database: a store's
own checksums are not relied on. Keys are made by the server. Calls block; run them in a thread.
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
    """What a write recorded."""

    sha256: str
    size: int


@dataclass(frozen=True)
class BlobInfo:
    key: str
    size: int
    modified_at: float


class Blobs(Protocol):
    """A store of immutable bytes. Raises ``BlobNotFound``, ``BlobCorrupt``, ``BlobExists``, ``StorageUnavailable``."""

    def put_file(self, key: str, path: Path) -> BlobDigest:
        """Store a file; the key shows either all of it or nothing."""

    def put_stream(self, key: str, chunks: Iterable[bytes]) -> BlobDigest:
        """Store what ``chunks`` give, a few megabytes at a time; where they raise, the key shows nothing."""

    def put_bytes(self, key: str, data: bytes, *, exclusive: bool = False) -> BlobDigest:
        """Store a few bytes. ``exclusive``: another writer's different bytes under the key raise ``BlobExists``."""

    def stream(self, key: str, sha256: str) -> Iterator[bytes]:
        """Chunks of the blob; ``BlobCorrupt`` after the last one where they are not the bytes written."""

    def delete(self, key: str) -> None:
        """Forget a blob; one that is not there is no error."""

    def list(self, prefix: str) -> Iterator[BlobInfo]:
        """What lies under a prefix, for cleaning up; nothing else depends on it."""

    def sweep(self, seconds: float) -> int:
        """Remove what killed writers left of blobs that never became one, untouched for ``seconds``. How many."""

    def presign(self, key: str, filename: str, seconds: int) -> str | None:
        """A URL from which anyone may fetch this one blob for a while; None where the store has none."""


def get_file(blobs: Blobs, key: str, sha256: str, dest: Path) -> None:
    """Fetch and verify a blob; ``dest`` appears only when it is whole. Raises ``BlobCorrupt``."""
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
    """A small blob, whole and verified."""
    return b"".join(blobs.stream(key, sha256))


def validate_key(key: str) -> str:
    """Raises ``InvalidBlobKey`` for what no server-made key looks like: empty parts, dots first, odd characters."""
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
    """Pass chunks through and raise ``BlobCorrupt`` at the end where their hash is another."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != sha256:
        raise BlobCorrupt(f"{key}: sha256 {digest.hexdigest()[:12]}… read, {sha256[:12]}… written")
