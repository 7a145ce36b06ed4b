"""Folders in a blob store: files under a prefix, and a manifest with their hashes, written last."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from storage.blobs import BlobDigest, Blobs, get_file, read

MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """The files of a folder."""

    files: dict[str, BlobDigest]
    """Keyed by the path in the folder."""
    sha256: str
    """Hash of the manifest itself; the only hash that a database row stores."""

    @property
    def size(self) -> int:
        return sum(stored.size for stored in self.files.values())


def put_folder(blobs: Blobs, prefix: str, directory: Path) -> Manifest:
    """Store every file of a folder, then its manifest. Equal folders have equal manifests.

    Raises ``BlobExists`` if another writer has stored a different folder under this prefix.
    """
    files: dict[str, BlobDigest] = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            name = path.relative_to(directory).as_posix()
            files[name] = blobs.put_file(f"{prefix}/{name}", path)
    listing = {name: {"sha256": stored.sha256, "size": stored.size} for name, stored in files.items()}
    data = json.dumps({"format": 1, "files": listing}, indent=1, sort_keys=True).encode()
    return Manifest(files, blobs.put_bytes(f"{prefix}/{MANIFEST_FILE}", data, exclusive=True).sha256)


def get_manifest(blobs: Blobs, prefix: str, sha256: str) -> Manifest:
    """Read a folder's manifest. Raises ``BlobNotFound`` and ``BlobCorrupt``."""
    listing = json.loads(read(blobs, f"{prefix}/{MANIFEST_FILE}", sha256))
    return Manifest({name: BlobDigest(**entry) for name, entry in listing["files"].items()}, sha256)


def get_folder(blobs: Blobs, prefix: str, sha256: str, dest: Path, subfolder: str = "") -> Manifest:
    """Fetch and verify a folder, or only its ``subfolder`` (``"model/"``).

    The name of the subfolder is dropped from the paths in ``dest``.
    """
    manifest = get_manifest(blobs, prefix, sha256)
    for name, stored in manifest.files.items():
        if name.startswith(subfolder):
            get_file(blobs, f"{prefix}/{name}", stored.sha256, dest / name.removeprefix(subfolder))
    return manifest


def delete_folder(blobs: Blobs, prefix: str) -> None:
    """Delete a folder, manifest first: a crash cannot leave a manifest with missing files."""
    blobs.delete(f"{prefix}/{MANIFEST_FILE}")
    for info in list(blobs.list(prefix)):
        blobs.delete(info.key)
