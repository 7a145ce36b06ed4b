"""CSV reader: raw rows from a CSV file with a header. No torch."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from training.readers.raw_rows import RawRow, RowError, RowResult
from training.readers.text_lines import MAX_LINE_BYTES, iter_lines


def read_csv(file: BinaryIO, columns: Mapping[str, str], fields: Mapping[str, bool]) -> Iterator[RowResult]:
    """Yield the rows of a CSV file, with ``columns`` (row field -> column) applied.

    ``fields`` maps each field of a row to True if it is required. Reading ends at the first line
    that cannot be parsed.
    """
    csv.field_size_limit(MAX_LINE_BYTES)
    errors: list[RowError] = []
    reader = csv.reader(_iter_csv_lines(file, errors), strict=True)
    line = 1
    try:
        header = next(reader)
        header_error = _check_header(header, columns, fields)
        if header_error:
            yield header_error
            return
        while True:
            line = reader.line_num + 1
            cells = next(reader)
            if cells:
                yield _parse_csv_row(line, cells, header, columns, fields)
    except StopIteration:
        yield from errors
    except csv.Error as error:
        # The text after a broken quote cannot be split into rows.
        yield RowError(line, *_describe_csv_error(str(error)))


def _iter_csv_lines(file: BinaryIO, errors: list[RowError]) -> Iterator[str]:
    """Yield lines for the CSV reader. It cannot skip an invalid line, so reading ends there."""
    for line in iter_lines(file):
        if isinstance(line, RowError):
            errors.append(line)
            return
        if "\0" in line[1]:
            errors.append(RowError(line[0], "nul", "The line has a NUL byte; remove it."))
            return
        yield line[1]


def _describe_csv_error(text: str) -> tuple[str, str]:
    if "new-line character" in text:
        return (
            "line_ending",
            "The file has a lone carriage return; end lines with \\n or \\r\\n, and quote cells that contain one.",
        )
    if "field limit" in text:
        return "line_too_long", f"A cell is longer than {MAX_LINE_BYTES:,} bytes; shorten it, or close its quote."
    return (
        "csv",
        f"The CSV is malformed from this line on ({text}); close every quote, and double quotes inside a cell.",
    )


def _check_header(header: list[str], columns: Mapping[str, str], fields: Mapping[str, bool]) -> RowError | None:
    for name in header:
        if header.count(name) > 1:
            return RowError(1, "duplicate_column", f"Two columns are named '{name[:80]}'; rename one.", name[:80])
    for field, is_required in fields.items():
        name = columns.get(field, field)
        if name not in header and (is_required or field in columns):
            hint = f', or name the column that holds it: "columns": {{"{field}": …}}' if name == field else ""
            present = ", ".join(header)[:200]
            message = f"The header has no column '{name}' (it has: {present}); add it{hint}."
            return RowError(1, "missing_column", message, name)
    return None


def _parse_csv_row(
    line: int, cells: list[str], header: list[str], columns: Mapping[str, str], fields: Mapping[str, bool]
) -> RowResult:
    if len(cells) != len(header):
        code = "missing_cells" if len(cells) < len(header) else "extra_cells"
        return RowError(
            line,
            code,
            f"The row has {len(cells)} cells and the header has {len(header)}; quote cells that contain commas.",
        )
    cell_by_column = dict(zip(header, cells, strict=True))
    cell_by_field = {
        field: cell_by_column[columns.get(field, field)]
        for field in fields
        if columns.get(field, field) in cell_by_column
    }
    value = {field: cell for field, cell in cell_by_field.items() if cell or fields[field]}
    return RawRow(line, value, size=sum(map(len, cells)))
