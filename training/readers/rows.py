"""Reader of data files: raw rows with the physical line on which each begins. No torch.

The first non-blank byte determines the format: ``{`` is JSONL, ``[`` a JSON array, anything else
CSV with a header. If the rows of a task can name files, the data file may be a zip that holds the
rows and these files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from training.readers.archive import Archive, sanitize_name
from training.readers.csv_rows import read_csv
from training.readers.json_array import read_array
from training.readers.raw_rows import RawRow, RowError, RowResult
from training.readers.strict_json import InvalidInput, decode
from training.readers.text_lines import MAX_LINE_BYTES, iter_lines

_WHITESPACE = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"
MAGIC_BYTES = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstandard",
    b"7z\xbc\xaf": "7-zip",
    b"PAR1": "Parquet",
}
"""First bytes of binary formats -> name of the format."""


def read_rows(
    path: Path, columns: Mapping[str, str], fields: Mapping[str, bool], file_field: str | None = None
) -> Iterator[RowResult]:
    """Yield the rows of a file, with ``columns`` (row field -> name in the file) applied.

    ``fields`` maps each field of a row to True if it is required. ``file_field`` is the field that
    can name a file inside a zip; its value becomes a ``training.readers.archive.Content``. If it is
    None, a zip is rejected.
    """
    with path.open("rb") as file:
        if file_field and MAGIC_BYTES.get(file.read(4)) == "zip":
            yield from _read_zip(path, columns, fields, file_field)
        else:
            file.seek(0)
            yield from _read_text(file, columns, fields)


def find_jsonl_start(path: Path) -> int | None:
    """Return the offset after the byte order mark, or None if the file is not read as JSONL."""
    with path.open("rb") as file:
        head = file.read(4096)
        start = len(_BOM) if head.startswith(_BOM) else 0
        file.seek(start)
        return start if _check_file_format(head) is None and _peek_first_byte(file) == b"{" else None


def read_jsonl(file: BinaryIO, columns: Mapping[str, str]) -> Iterator[RowResult]:
    """Yield the rows of a section of a JSONL file. Line numbers count from its start."""
    return _apply_columns(_read_jsonl(file), columns)


def _read_text(file: BinaryIO, columns: Mapping[str, str], fields: Mapping[str, bool]) -> Iterator[RowResult]:
    head = file.read(4096)
    file.seek(len(_BOM) if head.startswith(_BOM) else 0)
    format_error = _check_file_format(head)
    if format_error:
        yield format_error
        return
    first = _peek_first_byte(file)
    if first is None:
        yield RowError(None, "empty_file", "The file has no rows; add at least one.")
        return
    if first in _READERS:
        yield from _apply_columns(_READERS[first](file), columns)
    else:
        yield from read_csv(file, columns, fields)


def _read_zip(
    path: Path, columns: Mapping[str, str], fields: Mapping[str, bool], file_field: str
) -> Iterator[RowResult]:
    try:
        archive = Archive(path)
        if archive.manifest:
            with archive.open_manifest() as manifest:
                for entry in _read_text(manifest, columns, fields):
                    yield _attach_file(entry, archive, file_field)
        else:
            for name, label in archive.iter_labeled_files():
                row = _row_from_folder(name, label, file_field, fields)
                entry = _rename_columns(row, columns) if isinstance(row, RawRow) else row
                yield _attach_file(entry, archive, file_field)
    except InvalidInput as error:
        yield RowError(None, error.code, error.message)


def _row_from_folder(name: str, label: str | None, file_field: str, fields: Mapping[str, bool]) -> RowResult:
    if label is not None and "label" in fields:
        return RawRow(None, {file_field: name, "label": label}, name)
    return RowError(
        None,
        "archive",
        f"'{sanitize_name(name)}' is not in a label's folder, and the zip has no manifest; put files into folders "
        "named by label, or add a .jsonl, .json or .csv file at the top level.",
    )


def _attach_file(entry: RowResult, archive: Archive, file_field: str) -> RowResult:
    name = entry.value.get(file_field) if isinstance(entry, RawRow) else None
    if isinstance(entry, RowError) or not isinstance(name, str) or name.startswith("data:"):
        return entry
    try:
        return replace(entry, value=entry.value | {file_field: archive.get_file(name)}, file=sanitize_name(name))
    except InvalidInput as error:
        return RowError(entry.line, error.code, error.message, file_field)


def _check_file_format(head: bytes) -> RowError | None:
    for magic, kind in MAGIC_BYTES.items():
        if head.startswith(magic):
            return RowError(1, "compressed", f"The file is {kind}; upload it uncompressed, as JSONL or CSV.")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return RowError(1, "encoding", "The file is UTF-16; save it as UTF-8.")
    return None


def _peek_first_byte(file: BinaryIO) -> bytes | None:
    """Return the first non-blank byte, or None, without changing the file's position."""
    start = file.tell()
    while chunk := file.read(1 << 16):
        if text := chunk.lstrip(_WHITESPACE):
            file.seek(start)
            return text[:1]
    return None


def _read_jsonl(file: BinaryIO) -> Iterator[RowResult]:
    for line in iter_lines(file):
        if isinstance(line, RowError):
            yield line
            continue
        number, text = line
        if text.strip(" \t\r\n"):
            yield _parse_row(number, text)


def _parse_row(number: int, text: str) -> RowResult:
    if text.rstrip("\r\n").find("\r") >= 0:
        return RowError(number, "line_ending", "Lines end with a lone carriage return; end them with \\n or \\r\\n.")
    if text.startswith("\ufeff"):
        return RowError(number, "bom", "The line starts with a byte order mark inside the file; remove it.")
    try:
        value = decode(text)
    except InvalidInput as error:
        return RowError(number, error.code, error.message, error.field)
    if not isinstance(value, dict):
        return RowError(number, "not_object", 'The line is not a JSON object; write one object per line, {"…": …}.')
    return RawRow(number, value, size=len(text))


def _read_array(file: BinaryIO) -> Iterator[RowResult]:
    for number, value, size in read_array(file, MAX_LINE_BYTES):
        if isinstance(value, InvalidInput):
            yield RowError(number, value.code, value.message, value.field)
        elif isinstance(value, dict):
            yield RawRow(number, value, size=size)
        else:
            yield RowError(number, "not_object", 'An element of the array is not an object; write {"…": …}.')


_READERS: dict[bytes, Callable[[BinaryIO], Iterator[RowResult]]] = {b"{": _read_jsonl, b"[": _read_array}


def _apply_columns(entries: Iterator[RowResult], columns: Mapping[str, str]) -> Iterator[RowResult]:
    for entry in entries:
        yield _rename_columns(entry, columns) if isinstance(entry, RawRow) else entry


def _rename_columns(row: RawRow, columns: Mapping[str, str]) -> RowResult:
    if not columns:
        return row
    sources = set(columns.values())
    value = {key: inner for key, inner in row.value.items() if key not in sources and key not in columns}
    for field, source in columns.items():
        if source not in row.value:
            message = f"The key '{source}', named in columns, is missing; add it or change columns."
            return RowError(row.line, "missing_field", message, source)
        value[field] = row.value[source]
    return replace(row, value=value)
