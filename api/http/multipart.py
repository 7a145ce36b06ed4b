"""``multipart/form-data`` bodies, streamed to disk: one file of any size and a few short fields."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from api.errors import ContentTooLarge, InvalidRequest

MULTIPART_OVERHEAD_BYTES = 1 << 20
"""Allowed bytes of a multipart body besides the file."""
_MAX_PARTS = 16
_MAX_FIELD_BYTES = 4096
MAX_FILENAME_LENGTH = 255
_BUFFER_BYTES = 1 << 20
_NESTED_FIELD = re.compile(r"([^\[\]]+)\[([^\[\]]+)\]")


@dataclass(frozen=True)
class UploadedFile:
    """A received file, which exists at ``path`` until the context exits."""

    path: Path
    filename: str
    size: int
    fields: dict[str, str]


@dataclass
class _Part:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    name: str = ""
    filename: str | None = None
    data: bytearray = field(default_factory=bytearray)


@asynccontextmanager
async def receive_file(request: Request, folder: Path, file_field: str, limit: int) -> AsyncIterator[UploadedFile]:
    """Receive the request's only file, of at most ``limit`` bytes, and its fields.

    Raises ``InvalidRequest``, ``ContentTooLarge``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder) as out:
        form = _FormParser(_parse_boundary(request), file_field)
        size = 0
        async for chunk in request.stream():
            form.write(chunk)
            if len(form.file.data) >= _BUFFER_BYTES:
                size += await _drain(form.file, out)
                if size > limit:
                    raise ContentTooLarge(limit)
        size += await _drain(form.file, out)
        if size > limit:
            raise ContentTooLarge(limit)
        form.finish()
        await asyncio.to_thread(out.flush)
        yield UploadedFile(Path(out.name), form.file.filename or "", size, form.fields)


def nest_fields(fields: Mapping[str, str]) -> dict[str, Any]:
    """Convert ``{"a[b]": "x"}``, the notation of forms for objects, to ``{"a": {"b": "x"}}``."""
    plain = {name: value for name, value in fields.items() if not _NESTED_FIELD.fullmatch(name)}
    objects: dict[str, dict[str, str]] = {}
    for name, value in fields.items():
        if match := _NESTED_FIELD.fullmatch(name):
            objects.setdefault(match[1], {})[match[2]] = value
    return objects | plain


async def _drain(part: _Part, out: IO[bytes]) -> int:
    data, part.data = part.data, bytearray()
    return await asyncio.to_thread(out.write, data)


def _parse_boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise InvalidRequest("Send the file as multipart/form-data, with a boundary.")
    return options[b"boundary"]


class _FormParser:
    """Incremental form parser. The caller drains the file's bytes from ``file.data``."""

    def __init__(self, boundary: bytes, file_field: str) -> None:
        self.file = _Part()
        self.fields: dict[str, str] = {}
        self._file_field = file_field
        self._part = _Part()
        self._part_count = 0
        self._header: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._ended = False
        callbacks: dict[str, Callable[..., None]] = {
            "on_part_begin": self._on_part_begin,
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        except FormParserError as error:
            raise InvalidRequest(f"The multipart body cannot be read: {error}.") from None

    def write(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise InvalidRequest(f"The multipart body cannot be read: {error}.") from None

    def finish(self) -> None:
        if not self._ended:
            raise InvalidRequest("The multipart body ends before its closing boundary; send the complete body.")
        if self.file.filename is None:
            raise InvalidRequest(
                f"Missing required parameter: '{self._file_field}', a file with a file name.",
                param=self._file_field,
                code="missing_required_parameter",
            )

    def _on_part_begin(self) -> None:
        self._part = _Part()
        self._part_count += 1
        if self._part_count > _MAX_PARTS:
            raise InvalidRequest(f"The multipart body has more than {_MAX_PARTS} parts; send fewer.")

    def _on_header_end(self) -> None:
        name, value = self._header
        self._part.headers[bytes(name).lower()] = bytes(value)
        self._header = (bytearray(), bytearray())

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._part.headers.get(b"content-disposition"))
        self._part.name = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" in options:
            self._part.filename = _parse_filename(options[b"filename"], self._part.name)
        if self._part.name != self._file_field or self._part.filename is None:
            return
        if self.file.filename is not None:
            raise InvalidRequest(f"Send one '{self._file_field}' per request.", param=self._file_field)
        self.file = self._part

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._part.data.extend(memoryview(data)[start:end])
        if self._part is not self.file and len(self._part.data) > _MAX_FIELD_BYTES:
            raise InvalidRequest(
                f"The field is longer than {_MAX_FIELD_BYTES} bytes; send a shorter value.",
                param=self._part.name[:256] or None,
            )

    def _on_part_end(self) -> None:
        part = self._part
        if part is self.file:
            return
        if part.name == self._file_field or part.filename is not None:
            raise InvalidRequest(
                f"Send the only file in the field '{self._file_field}', with a file name.", param=self._file_field
            )
        if part.name in self.fields:
            raise InvalidRequest("The field is repeated; send it once.", param=part.name[:256])
        self.fields[part.name] = part.data.decode("utf-8", "replace")

    def _on_end(self) -> None:
        self._ended = True


def _parse_filename(raw: bytes, param: str) -> str:
    name = raw.decode("utf-8", "replace")
    if not 1 <= len(name) <= MAX_FILENAME_LENGTH or not name.isprintable():
        raise InvalidRequest(
            f"A file name must have 1 to {MAX_FILENAME_LENGTH} characters and no control characters.",
            param=param[:256] or None,
        )
    return name
