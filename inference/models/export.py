"""Export of weights as a reproducible zip file: uncompressed, sorted names, fixed times."""

from __future__ import annotations

import zipfile
from pathlib import Path

_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
"""Earliest time that a zip file can store."""


def write_zip(folder: Path, target: Path) -> None:
    """Write all files of ``folder`` to a zip file. The same files produce the same bytes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in files:
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _ZIP_EPOCH)
            entry.external_attr = 0o644 << 16
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as member:
                while chunk := source.read(1 << 20):
                    member.write(chunk)
