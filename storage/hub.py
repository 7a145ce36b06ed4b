"""Download of base models from the hub, and verification against their lock files.

The entry's repository is resolved to a commit. The lock file holds the commit, or the sha256 of the
GGUF file that the model was converted from, and the sha256 of every file. Only safetensors, JSON
and text files are downloaded: no pickle, no Python.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError

from storage.blobs import BlobDigest, hash_file
from storage.errors import StorageError
from storage.registry import LOCK_FILE, BaseModelEntry

ALLOWED_PATTERNS = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "LICENSE*", "README.md"]
_ALLOWED_SUFFIXES = {".safetensors", ".json", ".txt", ".model", ".jinja", ".md", ""}


class UnsafeModel(StorageError, ValueError):
    """The directory contains a file that must never be loaded. The message names it."""


class HubUnavailable(StorageError):
    """The hub does not respond, has no such repository or revision, or requires an account.

    The message gives the reason.
    """


class ChangedModel(StorageError):
    """A file differs from the lock file. Pull the model again."""


def pull(entry: BaseModelEntry, models_dir: Path, revision: str = "main") -> Path:
    """Download, scan and lock a model. Raises ``UnsafeModel`` and ``HubUnavailable``."""
    assert entry.hub is not None
    part = models_dir / f"{entry.id}.part"
    try:
        commit = HfApi().model_info(entry.hub, revision=revision).sha
        snapshot_download(entry.hub, revision=commit, local_dir=part, allow_patterns=ALLOWED_PATTERNS)
    except (HfHubHTTPError, httpx2.HTTPError, OSError) as error:
        raise HubUnavailable(f"cannot download {entry.hub} from the hub: {error}") from error
    shutil.rmtree(part / ".cache", ignore_errors=True)
    return install(part, models_dir / entry.id, {"repository": entry.hub, "commit": commit})


def install(part: Path, final: Path, source: Mapping[str, str | None]) -> Path:
    """Scan and lock a complete model, and move it to its place. Raises ``UnsafeModel``."""
    scan(part)
    write_lock_file(part, source)
    shutil.rmtree(final, ignore_errors=True)
    return part.replace(final)


def write_lock_file(directory: Path, source: Mapping[str, str | None]) -> None:
    """Write the lock file of a directory: ``source`` and the hash of every file."""
    files = {name: {"sha256": stored.sha256, "size": stored.size} for name, stored in _hash_files(directory).items()}
    content = {"format": 1, **source, "files": files}
    (directory / LOCK_FILE).write_text(json.dumps(content, indent=1, sort_keys=True))


def read_lock_file(directory: Path) -> dict[str, Any]:
    """Return the content of a directory's lock file."""
    content: dict[str, Any] = json.loads((directory / LOCK_FILE).read_text())
    return content


def verify(directory: Path) -> int:
    """Scan a directory, compare its hashes with the lock file if there is one, and count the files.

    Raises ``UnsafeModel`` and ``ChangedModel``.
    """
    scan(directory)
    digests = _hash_files(directory)
    if (directory / LOCK_FILE).exists():
        locked = read_lock_file(directory)["files"]
        for name in sorted(locked.keys() | digests.keys()):
            if name not in digests or name not in locked or digests[name].sha256 != locked[name]["sha256"]:
                raise ChangedModel(f"{name} differs from the pulled file; pull the model again")
    return len(digests)


def scan(directory: Path) -> None:
    """Raise ``UnsafeModel`` for Python, pickles, links out of the directory, and ``auto_map``.

    A config's ``auto_map`` makes transformers run code of the model.
    """
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if "__pycache__" in path.parts or path.is_dir():
            continue
        if not path.resolve().is_relative_to(directory.resolve()):
            raise UnsafeModel(f"{name} is a link to outside the model's directory; replace it by the file")
        if path.suffix not in _ALLOWED_SUFFIXES:
            raise UnsafeModel(f"{name}: only safetensors, JSON and text files may be in a model's directory")
        if path.suffix == ".json" and '"auto_map"' in path.read_text(encoding="utf-8", errors="replace"):
            raise UnsafeModel(f"{name} has an auto_map, but Luthier runs no code of a model; use a model without it")


def _hash_files(directory: Path) -> dict[str, BlobDigest]:
    paths = [path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != LOCK_FILE]
    return {path.relative_to(directory).as_posix(): hash_file(path) for path in paths}
