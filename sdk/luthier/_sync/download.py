# Made by `make sdk` from _async/download.py; change that one.
"""Bytes to disk, whole and verified or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import httpx

from luthier._concurrency import run_inline
from luthier._partial_file import open_partial_file
from luthier._sync.http import HTTP
from luthier.errors import CorruptDownloadError, LuthierError, to_error


def download(http: HTTP, url: str, params: Mapping[str, str], path: Path, filename: str) -> Path:
    """Where the file is: ``path``, or ``filename`` in it where it is a folder.

    Begun anew where it breaks off. Raises ``CorruptDownloadError`` where the bytes stay wrong.
    """
    # The name comes from the server: only its last part may choose a place.
    target = path / (Path(filename).name or "download") if path.is_dir() else path
    failed: LuthierError | None = None
    for _ in range(http.max_retries + 1):
        try:
            _fetch(http, url, params, target)
            return target
        except CorruptDownloadError as error:
            failed = error
        except httpx.TransportError as error:
            failed = to_error(error)
    assert failed is not None
    raise failed


def _fetch(http: HTTP, url: str, params: Mapping[str, str], target: Path) -> None:
    with http.stream("GET", url, params=params) as response:
        # A redirect to a bucket tells the hash; the bucket's own answer does not.
        answers = [*response.history, response]
        sha256 = next((found for answer in answers if (found := answer.headers.get("x-content-sha256"))), None)
        with open_partial_file(target) as out:
            for chunk in response.iter_bytes():
                run_inline(out.write, chunk)
            run_inline(out.commit, sha256)
