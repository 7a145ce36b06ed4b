"""A zip of files and of the rows that name them, read in place: nothing is unpacked to disk.

Its top level, or the only folder there, has one manifest (``.jsonl``, ``.json`` or ``.csv``), whose rows name files
beside it or below: ``{"image": "cats/1.png", …}``. Without a manifest the files stand in folders named by their label:
``cat/1.png``. What file systems leave behind (``.DS_Store``, ``__MACOSX``) is passed over. No torch.
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
"""Of a file that a row names."""
MAX_TOTAL_BYTES = 16 << 30
"""Of all files, unpacked."""
MAX_COMPRESSION_RATIO = 100
"""Unpacked to packed bytes; beyond it, and beyond ``RATIO_FREE`` bytes, a zip is made to fill a machine."""
RATIO_EXEMPT_BYTES = 64 << 20
MAX_FILES = 1_000_000

COMPRESSION_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED_FLAG = 0x1
"""Bit of an entry's flags."""

_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError)
_ZIP_DIRECTORY_ERRORS = (*_ZIP_ERRORS, ValueError, OverflowError)
"""What Python's reader raises for bytes that are no sound zip; a name that is not the UTF-8 it says is a ValueError."""


@runtime_checkable
class Content(Protocol):
    """Bytes that are read when they are needed: a data set of pictures may be larger than memory."""

    def read(self) -> bytes:
        """Raises ``Refused`` where they cannot be."""


@dataclass(frozen=True, slots=True)
class BytesContent:
    """Bytes at hand."""

    data: bytes

    def read(self) -> bytes:
        return self.data


@dataclass(frozen=True, slots=True)
class ZipContent:
    """A file inside a zip."""

    archive: zipfile.ZipFile
    entry: zipfile.ZipInfo

    def read(self) -> bytes:
        try:
            return self.archive.read(self.entry)
        except _ZIP_ERRORS as error:
            raise _build_damaged_error() from error


class Archive:
    """An open zip. It stays open for as long as a file of it is held."""

    def __init__(self, path: Path) -> None:
        """Raises ``Refused`` (archive) where the whole of it is unsound."""
        try:
            self._zip = zipfile.ZipFile(path)
        except _ZIP_DIRECTORY_ERRORS as error:
            raise _build_damaged_error() from error
        entries = [entry for entry in self._zip.infolist() if not entry.is_dir()]
        for at_fault, message in _ARCHIVE_CHECKS:
            found = at_fault(entries, path.stat().st_size)
            if found is not None:
                raise InvalidInput("archive", message.format(name=sanitize_name(found)))
        kept = {entry.filename: entry for entry in entries if not _is_system_file(entry.filename)}
        root = _find_root_folder(list(kept))
        self._files = {name.removeprefix(root): entry for name, entry in kept.items()}
        self.manifest = self._find_manifest()
        """Its name; None where there is none."""

    def open_manifest(self) -> BinaryIO:
        """Reading it may raise ``Refused`` (archive)."""
        assert self.manifest
        try:
            stream = self._zip.open(self._files[self.manifest])
        except _ZIP_ERRORS as error:
            raise _build_damaged_error() from error
        return cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, _ManifestStream(stream)), 1 << 16))

    def get_file(self, name: str) -> ZipContent:
        """By its name, relative to the manifest's folder. Raises ``Refused`` (missing_file, file_too_big)."""
        entry = self._files.get(name.removeprefix("./"))
        if entry is None:
            raise InvalidInput(
                "missing_file",
                f"The zip has no file '{sanitize_name(name)}' beside its manifest; names count from there, and case counts.",
            )
        if entry.file_size > MAX_FILE_BYTES:
            raise InvalidInput(
                "file_too_big",
                f"'{sanitize_name(name)}' has {entry.file_size:,} bytes, more than {MAX_FILE_BYTES:,}; make it smaller.",
            )
        return ZipContent(self._zip, entry)

    def iter_labeled_files(self) -> Iterator[tuple[str, str | None]]:
        """Name and label of every file, by name; the label is the folder it is in, None at the top."""
        for name in sorted(self._files):
            folder, slash, _ = name.partition("/")
            yield name, folder if slash else None

    def _find_manifest(self) -> str | None:
        found = sorted(name for name in self._files if "/" not in name and name.lower().endswith(MANIFEST_SUFFIXES))
        if len(found) > 1:
            names = ", ".join(sanitize_name(name) for name in found[:5])
            raise InvalidInput("archive", f"The zip has several files that could hold the rows ({names}); keep one.")
        return found[0] if found else None


def _build_damaged_error() -> InvalidInput:
    return InvalidInput("archive", "The zip is damaged; make it anew.")


class _ManifestStream(io.RawIOBase):
    """A stream inside a zip whose faults are ours."""

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
            found = self._stream.read(len(buffer))
        except _ZIP_ERRORS as error:
            raise _build_damaged_error() from error
        buffer[: len(found)] = found
        return len(found)


def sanitize_name(name: str) -> str:
    """A name from a stranger's zip, fit for a message."""
    return "".join(letter if letter.isprintable() else "?" for letter in name[:120])


def _is_system_file(name: str) -> bool:
    return any(part.startswith(".") or part in ("__MACOSX", "Thumbs.db") for part in name.split("/"))


def _find_root_folder(names: list[str]) -> str:
    """With its slash; empty where files stand at the top or in several folders."""
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
    most = min(MAX_TOTAL_BYTES, max(RATIO_EXEMPT_BYTES, MAX_COMPRESSION_RATIO * archive_bytes))
    return max(entries, key=lambda entry: entry.file_size).filename if total > most else None


_ARCHIVE_CHECKS: tuple[tuple[Callable[[ZipEntries, int], str | None], str], ...] = (
    (_find_excess_file, f"The zip has more than {MAX_FILES:,} files ('{{name}}' is one too many); leave some out."),
    (
        _find_first(lambda entry: bool(entry.flag_bits & ENCRYPTED_FLAG)),
        "'{name}' is encrypted; zip it without a password.",
    ),
    (
        _find_first(lambda entry: entry.compress_type not in COMPRESSION_METHODS),
        "'{name}' is packed by a method other than deflate; make the zip with the usual one.",
    ),
    (
        _find_first(_is_unsafe_path),
        "'{name}' would lie outside the zip's folder; give files names without '..' or a leading slash.",
    ),
    (
        _find_first(lambda entry: "\\" in entry.filename),
        "'{name}' has a backslash in its name; part folders by '/', as zip has it.",
    ),
    (_find_first(lambda entry: entry.header_offset < 0), "The zip is damaged at '{name}'; make it anew."),
    (_find_duplicate, "Two files are named '{name}'; rename one."),
    (
        _find_bomb_file,
        f"Unpacked, the files are more than {MAX_TOTAL_BYTES >> 30} GiB or {MAX_COMPRESSION_RATIO} times the zip ('{{name}}' is the "
        "largest); leave some out or make them smaller.",
    ),
)
"""What gives the name of a file at fault, or None; and what to say."""
