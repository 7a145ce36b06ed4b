"""Key of an encoded file: a hash of everything that its examples depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from training.progress import Report
from training.tasks.base import AnyTask

FORMAT = 1
"""Version of the files. Increase it with a change to their layout."""
_LIBRARIES = ("jinja2", "tokenizers", "transformers")
_PACKAGE = Path(__file__).resolve().parent.parent
_CODE = ("data", "readers", "tasks")
"""Packages whose code decides how rows are encoded."""
_CHUNK_BYTES = 1 << 22


def compute_key(
    path: Path, columns: Mapping[str, str], task: AnyTask, tokenizer_hash: str, max_length: int, report: Report
) -> str:
    """Return the key of a data file as a run with these settings encodes it."""
    inputs = {
        "format": FORMAT,
        "file": _hash_file(path, report),
        "columns": dict(columns),
        "task": f"{type(task).__module__}.{type(task).__qualname__}",
        "options": asdict(task) if is_dataclass(task) and not isinstance(task, type) else {},
        "tokenizer": tokenizer_hash,
        "max_length": max_length,
        "code": _hash_files(sorted(file for name in _CODE for file in (_PACKAGE / name).rglob("*.py")), _PACKAGE),
        "libraries": {name: version(name) for name in _LIBRARIES},
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def compute_tokenizer_hash(tokenizer: Any) -> str:
    """Hash the files that a tokenizer is saved as, its chat template among them.

    Call it before the tokenizer is used: some settings of a call stay with it.
    """
    with TemporaryDirectory() as directory:
        tokenizer.save_pretrained(directory)
        folder = Path(directory)
        return _hash_files(sorted(file for file in folder.rglob("*") if file.is_file()), folder)


def _hash_file(path: Path, report: Report) -> str:
    digest, total, done = hashlib.sha256(), path.stat().st_size, 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            report(done, total)
    return digest.hexdigest()


def _hash_files(paths: Iterable[Path], root: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.relative_to(root).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
