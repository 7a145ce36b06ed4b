"""Lines of a UTF-8 file, with their numbers. No torch.

Lines end only at ``\\n`` (``\\r\\n``): Unicode's other line separators may occur inside a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from training.readers.raw_rows import RowError

MAX_LINE_BYTES = 1 << 20
"""Per row."""


def iter_lines(file: BinaryIO) -> Iterator[tuple[int, str] | RowError]:
    """Yield number and text of every line, newline included, or an error for an invalid line."""
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
            yield RowError(
                number,
                "encoding",
                f"Byte {error.start + 1} is not UTF-8 ({error.reason}); save the file as UTF-8.",
            )
