"""The rows of a data file, with the physical line each begins on.

What a file is, its first byte that is no blank says: ``{`` JSONL, ``[`` a JSON array, anything else CSV with a header.
For tasks whose rows can name files it may be a zip of such a file and of those that its rows name.
Lines end at ``\\n`` (``\\r\\n``) and nowhere else: Unicode's other line separators may stand inside a row. No torch.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from training.readers.archive import Archive, sanitize_name
from training.readers.json_array import read_array
from training.readers.strict_json import InvalidInput, decode

MAX_LINE_BYTES = 1 << 20
"""Of one row."""
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
"""First bytes of what is no text."""


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as it stands in the file."""

    line: int | None
    """None where the row is a file in a labelled folder."""
    value: dict[str, Any]
    file: str = ""
    """The file in a zip that the row names."""
    size: int = 0
    """Characters of its text, about; 0 where it is a file."""


@dataclass(frozen=True, slots=True)
class RowError:
    """What is wrong on a line."""

    line: int | None
    code: str
    message: str
    field: str | None = None


RowResult = RawRow | RowError


def read_rows(
    path: Path, columns: Mapping[str, str], fields: Mapping[str, bool], file_field: str | None = None
) -> Iterator[RowResult]:
    """The file's rows, ``columns`` (row field -> name in the file) applied.

    ``wanted``: the fields of a row, and whether each must be there. ``file_field``: the one that can name a file inside
    a zip; its value is then a ``training.readers.archive.Content``. None: a zip is refused.
    """
    with path.open("rb") as file:
        if file_field and MAGIC_BYTES.get(file.read(4)) == "zip":
            yield from _read_zip(path, columns, fields, file_field)
        else:
            file.seek(0)
            yield from _read_text(file, columns, fields)


def find_jsonl_start(path: Path) -> int | None:
    """Where the first row begins, or blanks before it; None where ``read`` takes the file for something else."""
    with path.open("rb") as file:
        head = file.read(4096)
        start = len(_BOM) if head.startswith(_BOM) else 0
        file.seek(start)
        return start if _check_file_format(head) is None and _peek_first_byte(file) == b"{" else None


def read_jsonl(file: BinaryIO, columns: Mapping[str, str]) -> Iterator[RowResult]:
    """Rows of a part of such a file, their lines counted from the part's first."""
    return _apply_columns(_read_jsonl(file), columns)


def _read_text(file: BinaryIO, columns: Mapping[str, str], fields: Mapping[str, bool]) -> Iterator[RowResult]:
    head = file.read(4096)
    file.seek(len(_BOM) if head.startswith(_BOM) else 0)
    refusal = _check_file_format(head)
    if refusal:
        yield refusal
        return
    first = _peek_first_byte(file)
    if first is None:
        yield RowError(None, "empty_file", "The file has no rows.")
        return
    if first in _READERS:
        yield from _apply_columns(_READERS[first](file), columns)
    else:
        yield from _read_csv(file, columns, fields)


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
        f"'{sanitize_name(name)}' stands in no label's folder, and the zip has no rows (.jsonl, .json or .csv at its top).",
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
            return RowError(1, "compressed", f"The file is {kind}; upload it unpacked, as JSONL or CSV.")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return RowError(1, "encoding", "The file is UTF-16; save it as UTF-8.")
    return None


def _peek_first_byte(file: BinaryIO) -> bytes | None:
    """Leaves the file where it was."""
    start = file.tell()
    while chunk := file.read(1 << 16):
        if text := chunk.lstrip(_WHITESPACE):
            file.seek(start)
            return text[:1]
    return None


def _iter_lines(file: BinaryIO) -> Iterator[tuple[int, str] | RowError]:
    """Number and text of every line that is not blank; the newline is left on."""
    number = 0
    while raw := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(raw) > MAX_LINE_BYTES and not raw.endswith(b"\n"):
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(MAX_LINE_BYTES)
            yield RowError(number, "line_too_long", f"The line is longer than {MAX_LINE_BYTES:,} bytes; split the row.")
            continue
        try:
            yield number, raw.decode("utf-8")
        except UnicodeDecodeError as error:
            yield RowError(number, "encoding", f"Byte {error.start + 1} is not UTF-8 ({error.reason}); save as UTF-8.")


def _read_jsonl(file: BinaryIO) -> Iterator[RowResult]:
    for line in _iter_lines(file):
        if isinstance(line, RowError):
            yield line
            continue
        number, text = line
        if text.strip(" \t\r\n"):
            yield _parse_row(number, text)


def _parse_row(number: int, text: str) -> RowResult:
    if text.rstrip("\r\n").find("\r") >= 0:
        return RowError(number, "line_ending", "Lines end in a lone carriage return; end them in \\n or \\r\\n.")
    if text.startswith("\ufeff"):
        return RowError(number, "bom", "A byte order mark inside the file; remove it.")
    try:
        value = decode(text)
    except InvalidInput as error:
        return RowError(number, error.code, error.message, error.field)
    if not isinstance(value, dict):
        return RowError(number, "not_object", 'The line is not a JSON object; write one object a line, {"…": …}.')
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
            return RowError(row.line, "missing_field", f"The key '{source}', named in columns, is not there.", source)
        value[field] = row.value[source]
    return replace(row, value=value)


def _read_csv(file: BinaryIO, columns: Mapping[str, str], fields: Mapping[str, bool]) -> Iterator[RowResult]:
    csv.field_size_limit(MAX_LINE_BYTES)
    stopped: list[RowError] = []
    reader = csv.reader(_iter_csv_lines(file, stopped), strict=True)
    line = 1
    try:
        header = next(reader)
        refusal = _check_header(header, columns, fields)
        if refusal:
            yield refusal
            return
        while True:
            line = reader.line_num + 1
            cells = next(reader)
            if cells:
                yield _parse_csv_row(line, cells, header, columns, fields)
    except StopIteration:
        yield from stopped
    except csv.Error as error:
        # What follows a broken quote cannot be told apart into rows.
        yield RowError(line, *_describe_csv_error(str(error)))


def _iter_csv_lines(file: BinaryIO, errors: list[RowError]) -> Iterator[str]:
    """Lines for the CSV reader, which cannot be told of a bad one in their midst: reading ends there."""
    for line in _iter_lines(file):
        if isinstance(line, RowError):
            errors.append(line)
            return
        if "\0" in line[1]:
            errors.append(RowError(line[0], "nul", "A NUL byte; remove it."))
            return
        yield line[1]


def _describe_csv_error(text: str) -> tuple[str, str]:
    if "new-line character" in text:
        return "line_ending", "A lone carriage return; end lines in \\n or \\r\\n, and quote cells that hold one."
    if "field limit" in text:
        return "line_too_long", f"A cell is longer than {MAX_LINE_BYTES:,} bytes, or its quote is never closed."
    return "csv", f"Not well-formed CSV from here on ({text}); is a quote left open, or not doubled inside a cell?"


def _check_header(header: list[str], columns: Mapping[str, str], fields: Mapping[str, bool]) -> RowError | None:
    for name in header:
        if header.count(name) > 1:
            return RowError(1, "duplicate_column", f"Two columns are named '{name[:80]}'; rename one.", name[:80])
    for field, needed in fields.items():
        name = columns.get(field, field)
        if name not in header and (needed or field in columns):
            hint = f'; name the column that holds it: "columns": {{"{field}": …}}' if name == field else ""
            found = ", ".join(header)[:200]
            return RowError(1, "missing_column", f"The header has no column '{name}' (it has: {found}){hint}.", name)
    return None


def _parse_csv_row(
    line: int, cells: list[str], header: list[str], columns: Mapping[str, str], fields: Mapping[str, bool]
) -> RowResult:
    if len(cells) != len(header):
        code = "missing_cells" if len(cells) < len(header) else "extra_cells"
        return RowError(
            line, code, f"The row has {len(cells)} cells, the header {len(header)}; quote cells with commas."
        )
    named = dict(zip(header, cells, strict=True))
    value = {field: named[columns.get(field, field)] for field in fields if columns.get(field, field) in named}
    kept = {field: cell for field, cell in value.items() if cell or fields[field]}
    return RawRow(line, kept, size=sum(map(len, cells)))
