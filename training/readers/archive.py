"""Zip archive of files and of the rows that name them, read without unpacking to disk. No torch.

The top level, or the only folder at the top level, has one manifest (``.jsonl``, ``.json`` or
``.csv``). Its rows name files relative to it: ``{"image": "cats/1.png", …}``. Without a manifest,
the files are in folders named by their label: ``cat/1.png``. Files of the operating system
(``.DS_Store``, ``__MACOSX``) are ignored.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Protocol, cast, runtime_checkable

from training.readers.strict_json import InvalidInput

MANIFEST_SUFFIXES = (".jsonl", ".json", ".csv")
MAX_FILE_BYTES = 32 << 20
"""Per file that a row names."""
MAX_TOTAL_BYTES = 16 << 30
"""Total of all files, unpacked."""
MAX_COMPRESSION_RATIO = 100
"""Unpacked to packed bytes. A zip beyond it, and beyond ``RATIO_EXEMPT_BYTES``, is rejected as a
zip bomb."""
RATIO_EXEMPT_BYTES = 64 << 20
"""Unpacked bytes for which any ratio is accepted."""
MAX_FILES = 1_000_000

COMPRESSION_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED_FLAG = 0x1
"""Bit in the flags of an entry."""

_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError)
_ZIP_DIRECTORY_ERRORS = (*_ZIP_ERRORS, ValueError, OverflowError)
"""Exceptions of Python's reader for a damaged zip. A name flagged as UTF-8 that is not UTF-8 raises
ValueError."""


@runtime_checkable
class Content(Protocol):
    """Bytes that are read on demand, because an image dataset may be larger than memory."""

    def read(self) -> bytes:
        """Return the bytes. Raises ``InvalidInput`` if they cannot be read."""


@dataclass(frozen=True, slots=True)
class BytesContent:
    """Bytes in memory."""

    data: bytes

    def read(self) -> bytes:
        return self.data


@dataclass(frozen=True, slots=True)
class ZipContent:
    """File inside a zip."""

    archive: zipfile.ZipFile
    entry: zipfile.ZipInfo

    def read(self) -> bytes:
        try:
            return self.archive.read(self.entry)
        except _ZIP_ERRORS as error:
            raise _build_damaged_error() from error


class Archive:
    """Open zip. It stays open while a ``ZipContent`` refers to it."""

    def __init__(self, path: Path) -> None:
        """Open a zip. Raises ``InvalidInput`` (archive) if the zip as a whole is invalid."""
        try:
            self._zip = zipfile.ZipFile(path)
        except _ZIP_DIRECTORY_ERRORS as error:
            raise _build_damaged_error() from error
        entries = [entry for entry in self._zip.infolist() if not entry.is_dir()]
        for find_invalid, message in _ARCHIVE_CHECKS:
            name = find_invalid(entries, path.stat().st_size)
            if name is not None:
                raise InvalidInput("archive", message.format(name=sanitize_name(name)))
        files = {entry.filename: entry for entry in entries if not _is_system_file(entry.filename)}
        root = _find_root_folder(list(files))
        self._files = {name.removeprefix(root): entry for name, entry in files.items()}
        self.manifest = self._find_manifest()
        """Name of the manifest, or None."""

    def open_manifest(self) -> BinaryIO:
        """Open the manifest. Reading it may raise ``InvalidInput`` (archive)."""
        assert self.manifest
        try:
            stream = self._zip.open(self._files[self.manifest])
        except _ZIP_ERRORS as error:
            raise _build_damaged_error() from error
        return cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, _ManifestStream(stream)), 1 << 16))

    def get_file(self, name: str) -> ZipContent:
        """Return a file by its name relative to the manifest's folder.

        Raises ``InvalidInput`` (missing_file, file_too_big).
        """
        entry = self._files.get(name.removeprefix("./"))
        if entry is None:
            raise InvalidInput(
                "missing_file",
                f"The zip has no file '{sanitize_name(name)}'; write names relative to the manifest, in the same case.",
            )
        if entry.file_size > MAX_FILE_BYTES:
            raise InvalidInput(
                "file_too_big",
                f"'{sanitize_name(name)}' has {entry.file_size:,} bytes, more than {MAX_FILE_BYTES:,}; "
                "make it smaller.",
            )
        return ZipContent(self._zip, entry)

    def iter_labeled_files(self) -> Iterator[tuple[str, str | None]]:
        """Yield name and label of every file, sorted by name.

        The label is the name of the file's folder, or None at the top level.
        """
        for name in sorted(self._files):
            folder, slash, _ = name.partition("/")
            yield name, folder if slash else None

    def _find_manifest(self) -> str | None:
        manifests = sorted(name for name in self._files if "/" not in name and name.lower().endswith(MANIFEST_SUFFIXES))
        if len(manifests) > 1:
            names = ", ".join(sanitize_name(name) for name in manifests[:5])
            raise InvalidInput("archive", f"The zip has several possible manifests ({names}); keep one.")
        return manifests[0] if manifests else None


def _build_damaged_error() -> InvalidInput:
    return InvalidInput("archive", "The zip is damaged; create it again.")


class _ManifestStream(io.RawIOBase):
    """Stream inside a zip that raises ``InvalidInput`` for damaged data."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        try:
            chunk = self._stream.read(len(buffer))
        except _ZIP_ERRORS as error:
            raise _build_damaged_error() from error
        buffer[: len(chunk)] = chunk
        return len(chunk)


def sanitize_name(name: str) -> str:
    """Make a name from an untrusted zip safe for a message: printable and short."""
    return "".join(letter if letter.isprintable() else "?" for letter in name[:120])


def _is_system_file(name: str) -> bool:
    return any(part.startswith(".") or part in ("__MACOSX", "Thumbs.db") for part in name.split("/"))


def _find_root_folder(names: list[str]) -> str:
    """Return the only top-level folder with its slash, or an empty string."""
    folders = {name.partition("/")[:2] for name in names}
    if len(folders) != 1:
        return ""
    [(folder, slash)] = folders
    return folder + slash if slash else ""


ZipEntries = list[zipfile.ZipInfo]


def _find_first(predicate: Callable[[zipfile.ZipInfo], bool]) -> Callable[[ZipEntries, int], str | None]:
    return lambda entries, packed: next((entry.filename for entry in entries if predicate(entry)), None)


def _is_unsafe_path(entry: zipfile.ZipInfo) -> bool:
    parts = re.split(r"[/\\]", entry.filename)
    return ".." in parts or parts[0] == "" or parts[0].endswith(":")


def _find_duplicate(entries: ZipEntries, archive_bytes: int) -> str | None:
    seen: set[str] = set()
    return next((entry.filename for entry in entries if entry.filename in seen or seen.add(entry.filename)), None)  # type: ignore[func-returns-value]


def _find_excess_file(entries: ZipEntries, archive_bytes: int) -> str | None:
    return entries[MAX_FILES].filename if len(entries) > MAX_FILES else None


def _find_bomb_file(entries: ZipEntries, archive_bytes: int) -> str | None:
    total = sum(entry.file_size for entry in entries)
    limit = min(MAX_TOTAL_BYTES, max(RATIO_EXEMPT_BYTES, MAX_COMPRESSION_RATIO * archive_bytes))
    return max(entries, key=lambda entry: entry.file_size).filename if total > limit else None


_ARCHIVE_CHECKS: tuple[tuple[Callable[[ZipEntries, int], str | None], str], ...] = (
    (_find_excess_file, f"The zip has more than {MAX_FILES:,} files ('{{name}}' is the first beyond); remove some."),
    (
        _find_first(lambda entry: bool(entry.flag_bits & ENCRYPTED_FLAG)),
        "'{name}' is encrypted; zip it without a password.",
    ),
    (
        _find_first(lambda entry: entry.compress_type not in COMPRESSION_METHODS),
        "'{name}' is compressed by a method other than deflate; create the zip with deflate.",
    ),
    (
        _find_first(_is_unsafe_path),
        "'{name}' is outside the zip's folder; use names without '..' or a leading slash.",
    ),
    (
        _find_first(lambda entry: "\\" in entry.filename),
        "'{name}' has a backslash in its name; separate folders by '/'.",
    ),
    (_find_first(lambda entry: entry.header_offset < 0), "The zip is damaged at '{name}'; create it again."),
    (_find_duplicate, "Two files are named '{name}'; rename one."),
    (
        _find_bomb_file,
        f"The unpacked files exceed {MAX_TOTAL_BYTES >> 30} GiB or {MAX_COMPRESSION_RATIO} times the size of the zip "
        "('{name}' is the largest); remove some or make them smaller.",
    ),
)
"""Pairs of a function that returns the name of an invalid file or None, and the error message."""
