"""Cache of encoded data files on a worker's disk, shared by runs.

An entry is a directory named by its key. It is written under a temporary name and renamed, so it is
complete, and its checksums are verified before it is used, so a crash of the machine or a damaged
disk costs one encoding. Writers do not wait for each other: the first of two equal entries stays.
Entries that were not used for longest are deleted first; a run that has mapped one keeps its pages.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict, ValidationError

from training.data.example_files import INDEX_FILE, RECORDS_FILE, ExampleFileInfo
from training.progress import Report

HEADER_FILE, LOCK_FILE = "header.json", "lock"
STAGING_PREFIX = ".new-"
_CHUNK_BYTES = 1 << 22


class Part(BaseModel):
    """Examples of one section of the data file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    line_offset: int
    """Lines of the data file before the section."""
    files: ExampleFileInfo


class Header(BaseModel):
    """Parts of an entry in order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    parts: list[Part]


def get_part_directory(entry: Path, number: int) -> Path:
    """Return the directory of a part's example files."""
    return entry / f"part-{number}"


@dataclass(frozen=True)
class ExampleCache:
    """Cache in a directory. Processes may share it."""

    directory: Path
    max_bytes: int | None = None

    def get_entry(self, key: str) -> Path:
        return self.directory / key

    def load(self, key: str, report: Report) -> list[Part] | None:
        """Return the parts of a complete and undamaged entry, or None.

        A damaged entry is deleted.
        """
        entry = self.get_entry(key)
        try:
            header = Header.model_validate_json((entry / HEADER_FILE).read_bytes())
            if header.key == key and _is_intact(entry, header.parts, report):
                # Marks the entry as used.
                os.utime(entry)
                return header.parts
        except FileNotFoundError:
            # Never written, or just evicted.
            pass
        except ValidationError:
            pass
        _delete(entry)
        return None

    @contextmanager
    def stage(self) -> Iterator[Path]:
        """Create a directory for a new entry. It is deleted at the end unless it was committed.

        A lock shows that its writer is alive, so that those of dead writers can be deleted.
        """
        staging, lock = self._create_staging()
        with lock:
            try:
                yield staging
            finally:
                shutil.rmtree(staging, ignore_errors=True)

    def commit(self, staging: Path, key: str, parts: Sequence[Part]) -> None:
        """Publish a staged entry, then shrink the cache to its limit."""
        (staging / HEADER_FILE).write_text(Header(key=key, parts=list(parts)).model_dump_json())
        # Fails if another run has published the same entry.
        with suppress(OSError):
            staging.rename(self.get_entry(key))
        self.evict()

    def evict(self) -> None:
        """Delete what dead writers left, then entries until the rest fits in ``max_bytes``."""
        for staging in self.directory.glob(f"{STAGING_PREFIX}*"):
            _delete_if_abandoned(staging)
        if self.max_bytes is None:
            return
        entries = [entry for path in self.directory.iterdir() if (entry := _measure(path))]
        total = sum(entry.size for entry in entries)
        for entry in sorted(entries, key=lambda entry: entry.used_at):
            if total <= self.max_bytes:
                return
            _delete(entry.path)
            total -= entry.size

    def _create_staging(self) -> tuple[Path, IO[str]]:
        """Create a staging directory and return it with its locked file."""
        while True:
            staging = self.directory / f"{STAGING_PREFIX}{secrets.token_hex(8)}"
            staging.mkdir(parents=True)
            lock = (staging / LOCK_FILE).open("w")
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (staging / LOCK_FILE).exists():
                return staging, lock
            # An evicting run took it for abandoned before it was locked.
            lock.close()


@dataclass(frozen=True)
class _Entry:
    path: Path
    size: int
    used_at: float


def _measure(path: Path) -> _Entry | None:
    """Return size and last use of an entry, or None if it is not one or was just deleted."""
    if path.name.startswith("."):
        return None
    with suppress(FileNotFoundError):
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        return _Entry(path, size, path.stat().st_mtime)
    return None


def _is_intact(entry: Path, parts: Sequence[Part], report: Report) -> bool:
    files = [
        (get_part_directory(entry, number) / name, part.files.sha256[name])
        for number, part in enumerate(parts)
        for name in (RECORDS_FILE, INDEX_FILE)
    ]
    total, done = sum(path.stat().st_size for path, _ in files), 0
    for path, expected in files:
        digest = hashlib.sha256()
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                done += len(chunk)
                report(done, total)
        if digest.hexdigest() != expected:
            return False
    return True


def _delete_if_abandoned(staging: Path) -> None:
    """Delete a staged entry if no process holds its lock."""
    # Missing: its writer is just creating or publishing it.
    with suppress(BlockingIOError, FileNotFoundError), (staging / LOCK_FILE).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(staging, ignore_errors=True)


def _delete(entry: Path) -> None:
    """Delete an entry under another name, so that no run reads a part of it."""
    hidden = entry.with_name(f"{STAGING_PREFIX}{secrets.token_hex(8)}")
    with suppress(FileNotFoundError):
        entry.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)
