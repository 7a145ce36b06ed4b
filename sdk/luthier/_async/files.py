"""Files: training rows, and results of jobs and batches."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

from luthier._async.download import download
from luthier._async.http import AsyncHTTP, build_path, drop_none
from luthier._concurrency import gather_limited, run_in_thread
from luthier._upload_source import ProgressCallback, UploadSource, build_upload_source
from luthier.errors import LuthierError
from luthier.types import File

MAX_SINGLE_UPLOAD_BYTES = 64 << 20
"""Largest file sent in one request. A larger one is sent in parts."""
PART_BYTES = 32 << 20
MAX_CONCURRENT_PARTS = 4
"""Parts sent concurrently."""


class AsyncFiles:
    """Files of the project, available as ``client.files``."""

    def __init__(self, http: AsyncHTTP) -> None:
        self._http = http

    async def upload(
        self,
        content: str | os.PathLike[str] | bytes,
        purpose: str = "fine-tune",
        *,
        filename: str | None = None,
        expires_after: int | None = None,
        progress: ProgressCallback | None = None,
    ) -> File:
        """Upload a file from disk, or bytes.

        A file above 64 MiB is sent in parts, up to four concurrently. A failed part is retried, and
        the server verifies the assembled file by its hash.

        ``expires_after`` is the number of seconds until the server deletes the file; by default it
        keeps it. ``progress`` is called with the bytes sent and the total bytes.
        """
        source = await run_in_thread(build_upload_source, content, filename)
        if source.size > MAX_SINGLE_UPLOAD_BYTES:
            return await self._upload_in_parts(source, purpose, expires_after, progress)
        form = {"purpose": purpose}
        if expires_after is not None:
            form |= {"expires_after[anchor]": "created_at", "expires_after[seconds]": str(expires_after)}
        with source.open_reader(progress) as file:
            parts = {"file": (source.filename, file, "application/octet-stream")}
            return File.from_dict(await self._http.request_json("POST", build_path("files"), data=form, files=parts))

    async def list(
        self, *, purpose: str | None = None, order: Literal["asc", "desc"] | None = None
    ) -> AsyncIterator[File]:
        """List the project's files, newest first.

        ``purpose`` filters the list; ``order="asc"`` lists the oldest first.
        """
        async for item in self._http.iter_items(build_path("files"), purpose=purpose, order=order):
            yield File.from_dict(item)

    async def retrieve(self, file_id: str) -> File:
        """Return a file's metadata."""
        return File.from_dict(await self._http.request_json("GET", build_path("files", file_id)))

    async def delete(self, file_id: str) -> None:
        """Delete a file. The server rejects this while an unfinished job needs the file."""
        await self._http.request_json("DELETE", build_path("files", file_id))

    async def download(self, file_id: str, path: str | os.PathLike[str]) -> Path:
        """Download a file to ``path``, a file or a folder, and return the file's path.

        The bytes are verified against the server's SHA-256.
        """
        file = await self.retrieve(file_id)
        return await download(self._http, build_path("files", file_id, "content"), {}, Path(path), file.filename)

    async def _upload_in_parts(
        self, source: UploadSource, purpose: str, expires_after: int | None, progress: ProgressCallback | None
    ) -> File:
        upload_fields = {
            "filename": source.filename,
            "bytes": source.size,
            "mime_type": "application/octet-stream",
            "purpose": purpose,
            "expires_after": None if expires_after is None else {"anchor": "created_at", "seconds": expires_after},
        }
        upload = await self._http.request_json("POST", build_path("uploads"), json=drop_none(upload_fields))
        upload_id: str = upload["id"]
        sent: list[int] = []

        async def send(offset: int) -> str:
            data = await run_in_thread(source.read_part, offset, PART_BYTES)
            part = await self._http.request_json(
                "POST", build_path("uploads", upload_id, "parts"), files={"data": data}
            )
            sent.append(len(data))
            if progress is not None:
                progress(sum(sent), source.size)
            part_id: str = part["id"]
            return part_id

        try:
            ids = await gather_limited(send, range(0, source.size, PART_BYTES), MAX_CONCURRENT_PARTS)
            completion = {"part_ids": ids, "md5": await run_in_thread(source.compute_md5)}
            upload = await self._http.request_json(
                "POST", build_path("uploads", upload_id, "complete"), json=completion
            )
        except LuthierError:
            # The server would keep an incomplete upload for an hour.
            await self._http.request_json("POST", build_path("uploads", upload_id, "cancel"))
            raise
        return File.from_dict(upload["file"])
