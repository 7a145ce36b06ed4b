"""A worker's scratch folder: its own while it lives, swept away by the next worker once it is dead."""

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
    """A folder under ``work_dir``, gone when the context is left.

    A lock held on a file in it says that its owner lives; unlike a process id, that is true across containers too.
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
    """Remove what workers left that died without a chance to."""
    for file in work_dir.glob(f"*/{LOCK_FILE}"):
        with file.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(file.parent, ignore_errors=True)
            log.info("· removed the scratch folder of a dead worker")
