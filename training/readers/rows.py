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

from training.readers.archive import Archive, shown
from training.readers.json_array import read_array
from training.readers.strict_json import Refused, decode

LINE_BYTES = 1 << 20
"""Of one row."""
_BLANK = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"
COMPRESSED = {
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
class Record:
    """A row as it stands in the file."""

    line: int | None
    """None where the row is a file in a labelled folder."""
    value: dict[str, Any]
    file: str = ""
    """The file in a zip that the row names."""
    size: int = 0
    """Characters of its text, about; 0 where it is a file."""


@dataclass(frozen=True, slots=True)
class Bad:
    """What is wrong on a line."""

    line: int | None
    code: str
    message: str
    field: str | None = None


Entry = Record | Bad


def read(
    path: Path, columns: Mapping[str, str], wanted: Mapping[str, bool], file_field: str | None = None
) -> Iterator[Entry]:
    """The file's rows, ``columns`` (row field -> name in the file) applied.

    ``wanted``: the fields of a row, and whether each must be there. ``file_field``: the one that can name a file inside
    a zip; its value is then a ``training.readers.archive.Content``. None: a zip is refused.
    """
    with path.open("rb") as file:
        if file_field and COMPRESSED.get(file.read(4)) == "zip":
            yield from _read_zip(path, columns, wanted, file_field)
        else:
            file.seek(0)
            yield from _read_text(file, columns, wanted)


def jsonl_start(path: Path) -> int | None:
    """Where the first row begins, or blanks before it; None where ``read`` takes the file for something else."""
    with path.open("rb") as file:
        head = file.read(4096)
        start = len(_BOM) if head.startswith(_BOM) else 0
        file.seek(start)
        return start if _refused_whole(head) is None and _first_byte(file) == b"{" else None


def read_jsonl(file: BinaryIO, columns: Mapping[str, str]) -> Iterator[Entry]:
    """Rows of a part of such a file, their lines counted from the part's first."""
    return _with_columns(_read_jsonl(file), columns)


def _read_text(file: BinaryIO, columns: Mapping[str, str], wanted: Mapping[str, bool]) -> Iterator[Entry]:
    head = file.read(4096)
    file.seek(len(_BOM) if head.startswith(_BOM) else 0)
    refusal = _refused_whole(head)
    if refusal:
        yield refusal
        return
    first = _first_byte(file)
    if first is None:
        yield Bad(None, "empty_file", "The file has no rows.")
        return
    if first in _READERS:
        yield from _with_columns(_READERS[first](file), columns)
    else:
        yield from _read_csv(file, columns, wanted)


def _read_zip(path: Path, columns: Mapping[str, str], wanted: Mapping[str, bool], file_field: str) -> Iterator[Entry]:
    try:
        archive = Archive(path)
        if archive.manifest:
            with archive.open_manifest() as manifest:
                for entry in _read_text(manifest, columns, wanted):
                    yield _with_file(entry, archive, file_field)
        else:
            for name, label in archive.labelled():
                row = _in_folder(name, label, file_field, wanted)
                entry = _renamed(row, columns) if isinstance(row, Record) else row
                yield _with_file(entry, archive, file_field)
    except Refused as error:
        yield Bad(None, error.code, error.message)


def _in_folder(name: str, label: str | None, file_field: str, wanted: Mapping[str, bool]) -> Entry:
    if label is not None and "label" in wanted:
        return Record(None, {file_field: name, "label": label}, name)
    return Bad(
        None,
        "archive",
        f"'{shown(name)}' stands in no label's folder, and the zip has no rows (.jsonl, .json or .csv at its top).",
    )


def _with_file(entry: Entry, archive: Archive, file_field: str) -> Entry:
    name = entry.value.get(file_field) if isinstance(entry, Record) else None
    if isinstance(entry, Bad) or not isinstance(name, str) or name.startswith("data:"):
        return entry
    try:
        return replace(entry, value=entry.value | {file_field: archive.file(name)}, file=shown(name))
    except Refused as error:
        return Bad(entry.line, error.code, error.message, file_field)


def _refused_whole(head: bytes) -> Bad | None:
    for magic, kind in COMPRESSED.items():
        if head.startswith(magic):
            return Bad(1, "compressed", f"The file is {kind}; upload it unpacked, as JSONL or CSV.")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return Bad(1, "encoding", "The file is UTF-16; save it as UTF-8.")
    return None


def _first_byte(file: BinaryIO) -> bytes | None:
    """Leaves the file where it was."""
    start = file.tell()
    while chunk := file.read(1 << 16):
        if text := chunk.lstrip(_BLANK):
            file.seek(start)
            return text[:1]
    return None


def _lines(file: BinaryIO) -> Iterator[tuple[int, str] | Bad]:
    """Number and text of every line that is not blank; the newline is left on."""
    number = 0
    while raw := file.readline(LINE_BYTES + 1):
        number += 1
        if len(raw) > LINE_BYTES and not raw.endswith(b"\n"):
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(LINE_BYTES)
            yield Bad(number, "line_too_long", f"The line is longer than {LINE_BYTES:,} bytes; split the row.")
            continue
        try:
            yield number, raw.decode("utf-8")
        except UnicodeDecodeError as error:
            yield Bad(number, "encoding", f"Byte {error.start + 1} is not UTF-8 ({error.reason}); save as UTF-8.")


def _read_jsonl(file: BinaryIO) -> Iterator[Entry]:
    for line in _lines(file):
        if isinstance(line, Bad):
            yield line
            continue
        number, text = line
        if text.strip(" \t\r\n"):
            yield _row(number, text)


def _row(number: int, text: str) -> Entry:
    if text.rstrip("\r\n").find("\r") >= 0:
        return Bad(number, "line_ending", "Lines end in a lone carriage return; end them in \\n or \\r\\n.")
    if text.startswith("\ufeff"):
        return Bad(number, "bom", "A byte order mark inside the file; remove it.")
    try:
        value = decode(text)
    except Refused as error:
        return Bad(number, error.code, error.message, error.field)
    if not isinstance(value, dict):
        return Bad(number, "not_object", 'The line is not a JSON object; write one object a line, {"…": …}.')
    return Record(number, value, size=len(text))


def _read_array(file: BinaryIO) -> Iterator[Entry]:
    for number, value, size in read_array(file, LINE_BYTES):
        if isinstance(value, Refused):
            yield Bad(number, value.code, value.message, value.field)
        elif isinstance(value, dict):
            yield Record(number, value, size=size)
        else:
            yield Bad(number, "not_object", 'An element of the array is not an object; write {"…": …}.')


_READERS: dict[bytes, Callable[[BinaryIO], Iterator[Entry]]] = {b"{": _read_jsonl, b"[": _read_array}


def _with_columns(entries: Iterator[Entry], columns: Mapping[str, str]) -> Iterator[Entry]:
    for entry in entries:
        yield _renamed(entry, columns) if isinstance(entry, Record) else entry


def _renamed(record: Record, columns: Mapping[str, str]) -> Entry:
    if not columns:
        return record
    sources = set(columns.values())
    value = {key: inner for key, inner in record.value.items() if key not in sources and key not in columns}
    for field, source in columns.items():
        if source not in record.value:
            return Bad(record.line, "missing_field", f"The key '{source}', named in columns, is not there.", source)
        value[field] = record.value[source]
    return replace(record, value=value)


def _read_csv(file: BinaryIO, columns: Mapping[str, str], wanted: Mapping[str, bool]) -> Iterator[Entry]:
    csv.field_size_limit(LINE_BYTES)
    stopped: list[Bad] = []
    reader = csv.reader(_texts(file, stopped), strict=True)
    line = 1
    try:
        header = next(reader)
        refusal = _refused_header(header, columns, wanted)
        if refusal:
            yield refusal
            return
        while True:
            line = reader.line_num + 1
            cells = next(reader)
            if cells:
                yield _csv_row(line, cells, header, columns, wanted)
    except StopIteration:
        yield from stopped
    except csv.Error as error:
        # What follows a broken quote cannot be told apart into rows.
        yield Bad(line, *_csv_error(str(error)))


def _texts(file: BinaryIO, stopped: list[Bad]) -> Iterator[str]:
    """Lines for the CSV reader, which cannot be told of a bad one in their midst: reading ends there."""
    for line in _lines(file):
        if isinstance(line, Bad):
            stopped.append(line)
            return
        if "\0" in line[1]:
            stopped.append(Bad(line[0], "nul", "A NUL byte; remove it."))
            return
        yield line[1]


def _csv_error(text: str) -> tuple[str, str]:
    if "new-line character" in text:
        return "line_ending", "A lone carriage return; end lines in \\n or \\r\\n, and quote cells that hold one."
    if "field limit" in text:
        return "line_too_long", f"A cell is longer than {LINE_BYTES:,} bytes, or its quote is never closed."
    return "csv", f"Not well-formed CSV from here on ({text}); is a quote left open, or not doubled inside a cell?"


def _refused_header(header: list[str], columns: Mapping[str, str], wanted: Mapping[str, bool]) -> Bad | None:
    for name in header:
        if header.count(name) > 1:
            return Bad(1, "duplicate_column", f"Two columns are named '{name[:80]}'; rename one.", name[:80])
    for field, needed in wanted.items():
        name = columns.get(field, field)
        if name not in header and (needed or field in columns):
            hint = f'; name the column that holds it: "columns": {{"{field}": …}}' if name == field else ""
            found = ", ".join(header)[:200]
            return Bad(1, "missing_column", f"The header has no column '{name}' (it has: {found}){hint}.", name)
    return None


def _csv_row(
    line: int, cells: list[str], header: list[str], columns: Mapping[str, str], wanted: Mapping[str, bool]
) -> Entry:
    if len(cells) != len(header):
        code = "missing_cells" if len(cells) < len(header) else "extra_cells"
        return Bad(line, code, f"The row has {len(cells)} cells, the header {len(header)}; quote cells with commas.")
    named = dict(zip(header, cells, strict=True))
    value = {field: named[columns.get(field, field)] for field in wanted if columns.get(field, field) in named}
    kept = {field: cell for field, cell in value.items() if cell or wanted[field]}
    return Record(line, kept, size=sum(map(len, cells)))
