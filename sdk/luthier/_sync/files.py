# Made by `make sdk` from _async/files.py; change that one.
"""Files: the rows that jobs learn from, and what jobs and batches write."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from luthier._concurrency import map_in_threads, run_inline
from luthier._sync.download import download
from luthier._sync.http import HTTP, build_path, drop_none
from luthier._upload_source import ProgressCallback, UploadSource, build_upload_source
from luthier.errors import LuthierError
from luthier.types import File

MAX_SINGLE_UPLOAD_BYTES = 64 << 20
"""A file up to this size goes in one request, a larger one in parts."""
PART_BYTES = 32 << 20
MAX_CONCURRENT_PARTS = 4
"""Parts on their way at the same time."""


class Files:
    """``client.files``."""

    def __init__(self, http: HTTP) -> None:
        self._http = http

    def upload(
        self,
        content: str | os.PathLike[str] | bytes,
        purpose: str = "fine-tune",
        *,
        filename: str | None = None,
        expires_after: int | None = None,
        progress: ProgressCallback | None = None,
    ) -> File:
        """Upload a file from disk, or bytes.

        A large one goes in parts, several at once, each of them sent again where it fails; the whole is checked by its
        hash. ``expires_after``: seconds that the file lives; for ever where absent. ``progress`` is called with the
        bytes sent and the bytes in all.
        """
        source = run_inline(build_upload_source, content, filename)
        if source.size > MAX_SINGLE_UPLOAD_BYTES:
            return self._upload_in_parts(source, purpose, expires_after, progress)
        form = {"purpose": purpose}
        if expires_after is not None:
            form |= {"expires_after[anchor]": "created_at", "expires_after[seconds]": str(expires_after)}
        with source.open_reader(progress) as file:
            parts = {"file": (source.filename, file, "application/octet-stream")}
            return File.from_dict(self._http.request_json("POST", build_path("files"), data=form, files=parts))

    def list(self, *, purpose: str | None = None, order: Literal["asc", "desc"] | None = None) -> Iterator[File]:
        """The project's files, the newest first."""
        for item in self._http.iter_items(build_path("files"), purpose=purpose, order=order):
            yield File.from_dict(item)

    def retrieve(self, file_id: str) -> File:
        """One file's facts."""
        return File.from_dict(self._http.request_json("GET", build_path("files", file_id)))

    def delete(self, file_id: str) -> None:
        """Delete a file. Refused while a job that has not ended needs it."""
        self._http.request_json("DELETE", build_path("files", file_id))

    def download(self, file_id: str, path: str | os.PathLike[str]) -> Path:
        """Write a file's bytes to ``path``, a file or a folder; checked against the server's sha256."""
        facts = self.retrieve(file_id)
        return download(self._http, build_path("files", file_id, "content"), {}, Path(path), facts.filename)

    def _upload_in_parts(
        self, source: UploadSource, purpose: str, expires_after: int | None, progress: ProgressCallback | None
    ) -> File:
        declared = {
            "filename": source.filename,
            "bytes": source.size,
            "mime_type": "application/octet-stream",
            "purpose": purpose,
            "expires_after": None if expires_after is None else {"anchor": "created_at", "seconds": expires_after},
        }
        made = self._http.request_json("POST", build_path("uploads"), json=drop_none(declared))
        upload_id: str = made["id"]
        sent: list[int] = []

        def send(offset: int) -> str:
            data = run_inline(source.read_part, offset, PART_BYTES)
            answer = self._http.request_json("POST", build_path("uploads", upload_id, "parts"), files={"data": data})
            sent.append(len(data))
            if progress is not None:
                progress(sum(sent), source.size)
            part_id: str = answer["id"]
            return part_id

        try:
            ids = map_in_threads(send, range(0, source.size, PART_BYTES), MAX_CONCURRENT_PARTS)
            whole = {"part_ids": ids, "md5": run_inline(source.compute_md5)}
            upload = self._http.request_json("POST", build_path("uploads", upload_id, "complete"), json=whole)
        except LuthierError:
            # What arrived is of no use without the rest; the server would keep it for an hour.
            self._http.request_json("POST", build_path("uploads", upload_id, "cancel"))
            raise
        return File.from_dict(upload["file"])
