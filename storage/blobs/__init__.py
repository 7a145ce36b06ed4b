"""Blob stores: one protocol with several backends. Only :func:`connect` opens a store."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from storage.blobs.base import BlobDigest, BlobInfo, Blobs, get_file, hash_file, read
from storage.blobs.file import FileBlobs
from storage.blobs.s3 import S3Blobs
from storage.errors import UnknownUrl

__all__ = ["BlobDigest", "BlobInfo", "Blobs", "connect", "get_file", "hash_file", "read"]

_BACKENDS: dict[str, Callable[[str], Blobs]] = {"file": FileBlobs.connect, "s3": S3Blobs.connect}


def connect(url: str) -> Blobs:
    """Open ``file:///folder`` or ``s3://bucket/prefix?endpoint_url=…&region=…``.

    Raises ``UnknownUrl`` for others.
    """
    scheme = urlsplit(url).scheme
    if scheme not in _BACKENDS:
        raise UnknownUrl(f"LUTHIER_BLOB_URL starts with {scheme!r}; use file:// or s3://")
    return _BACKENDS[scheme](url)
