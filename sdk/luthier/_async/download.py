"""Verified download to disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import httpx

from luthier._async.http import AsyncHTTP
from luthier._concurrency import run_in_thread
from luthier._partial_file import open_partial_file
from luthier.errors import CorruptDownloadError, LuthierError, to_error


async def download(http: AsyncHTTP, url: str, params: Mapping[str, str], path: Path, filename: str) -> Path:
    """Download to ``path``, or to ``filename`` in it if it is a folder, and return the file's path.

    An interrupted download starts again from the beginning. Raises ``CorruptDownloadError`` if the
    bytes do not match the server's hash on any attempt.
    """
    # The name comes from the server, so only its last component is used.
    target = path / (Path(filename).name or "download") if path.is_dir() else path
    last_error: LuthierError | None = None
    for _ in range(http.max_retries + 1):
        try:
            await _fetch(http, url, params, target)
            return target
        except CorruptDownloadError as error:
            last_error = error
        except httpx.TransportError as error:
            last_error = to_error(error)
    assert last_error is not None
    raise last_error


async def _fetch(http: AsyncHTTP, url: str, params: Mapping[str, str], target: Path) -> None:
    async with http.stream("GET", url, params=params) as response:
        # A redirect to a bucket has the hash in its headers. The bucket's own response does not.
        hashes = (hop.headers.get("x-content-sha256") for hop in [*response.history, response])
        sha256 = next(filter(None, hashes), None)
        with open_partial_file(target) as out:
            async for chunk in response.aiter_bytes():
                await run_in_thread(out.write, chunk)
            await run_in_thread(out.commit, sha256)
