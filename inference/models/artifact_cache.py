"""Local cache of blob store folders.

Folders are fetched once, verified before every use and evicted by age.
"""

from __future__ import annotations

import os
import secrets
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inference.protocol.errors import EngineError, EngineUnavailable
from inference.protocol.model_ref import ModelRef
from storage.blobs import Blobs, hash_file
from storage.errors import BlobCorrupt, BlobNotFound, StorageUnavailable
from storage.folders import Manifest, get_folder, get_manifest

MAX_CACHE_BYTES = 50 * 2**30
"""Maximum size of the cache, not counting folders in use."""

_STAGING_PREFIX = ".aside-"


class ArtifactCache:
    """Local cache of model folders. Thread-safe; calls block, so run them in a thread."""

    def __init__(self, blobs: Blobs, root: Path, max_bytes: int = MAX_CACHE_BYTES) -> None:
        self._blobs = blobs
        self._root = root
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._folder_locks: dict[str, threading.Lock] = {}
        self._use_counts: Counter[str] = Counter()
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for leftover in root.glob(f"{_STAGING_PREFIX}*"):
            shutil.rmtree(leftover)

    @contextmanager
    def acquire_folder(self, ref: ModelRef) -> Iterator[Path]:
        """Yield the verified folder of a result. It is not evicted within the context.

        Raises ``EngineError`` with ``storage_corrupt`` or ``model_not_found``, and
        ``EngineUnavailable`` with ``storage_unavailable``.
        """
        assert ref.prefix is not None
        assert ref.manifest_sha256 is not None
        name = ref.manifest_sha256 + ref.part.replace("/", "")
        with self._lock:
            lock = self._folder_locks.setdefault(name, threading.Lock())
            self._use_counts[name] += 1
        try:
            with lock, _translate_storage_errors(ref):
                path = self._fetch(name, ref.prefix, ref.manifest_sha256, ref.part)
            yield path
        finally:
            with self._lock:
                self._use_counts[name] -= 1
                self._evict()

    def _fetch(self, name: str, prefix: str, sha256: str, part: str) -> Path:
        path, manifest = self._root / name, get_manifest(self._blobs, prefix, sha256)
        if not _is_intact(path, manifest, part):
            staging = self._root / f"{_STAGING_PREFIX}{secrets.token_hex(8)}"
            try:
                get_folder(self._blobs, prefix, sha256, staging, part)
                shutil.rmtree(path, ignore_errors=True)
                staging.rename(path)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
        os.utime(path)
        return path

    def _evict(self) -> None:
        idle = [
            path
            for path in self._root.iterdir()
            if not path.name.startswith(_STAGING_PREFIX) and not self._use_counts[path.name]
        ]
        sizes = {path: sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) for path in idle}
        total = sum(sizes.values())
        for path in sorted(idle, key=lambda path: path.stat().st_mtime):
            if total <= self._max_bytes:
                return
            shutil.rmtree(path)
            total -= sizes[path]


def _is_intact(path: Path, manifest: Manifest, part: str) -> bool:
    """True if the cached folder exists and its files match the manifest's hashes."""
    expected = {name.removeprefix(part): stored for name, stored in manifest.files.items() if name.startswith(part)}
    present = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    return (
        bool(expected)
        and expected.keys() == present.keys()
        and all(hash_file(file) == expected[name] for name, file in present.items())
    )


@contextmanager
def _translate_storage_errors(ref: ModelRef) -> Iterator[None]:
    try:
        yield
    except BlobCorrupt as error:
        raise EngineError(
            "storage_corrupt", f"The stored weights of '{ref.id}' are damaged: {error}. Train the model again."
        ) from error
    except BlobNotFound as error:
        raise EngineError(
            "model_not_found", f"The weights of '{ref.id}' are no longer stored; use another model."
        ) from error
    except StorageUnavailable as error:
        raise EngineUnavailable(
            f"The blob store does not respond: {error}; try again.", "storage_unavailable"
        ) from error
