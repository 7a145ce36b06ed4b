"""Scratch folders of workers. The next worker deletes those of dead workers."""

from __future__ import annotations

import fcntl
import logging
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger("luthier.scratch")

LOCK_FILE = "lock"


@contextmanager
def create_scratch_folder(work_dir: Path) -> Iterator[Path]:
    """Create a folder under ``work_dir`` and delete it when the context exits.

    A lock on a file in it shows that its owner is alive. Unlike a process id, this also works
    across containers.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    sweep(work_dir)
    folder = work_dir / secrets.token_hex(6)
    folder.mkdir()
    with (folder / LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def sweep(work_dir: Path) -> None:
    """Delete the scratch folders of dead workers."""
    for file in work_dir.glob(f"*/{LOCK_FILE}"):
        with file.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(file.parent, ignore_errors=True)
            log.info("· deleted the scratch folder of a dead worker")
