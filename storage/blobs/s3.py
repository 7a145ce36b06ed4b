"""Blob store in an S3-compatible bucket."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from storage.blobs.base import CHUNK_BYTES, BlobDigest, BlobInfo, hash_file, validate_key, verify_chunks
from storage.errors import BlobExists, BlobNotFound, StorageUnavailable

_TRANSFER_CONFIG = TransferConfig(multipart_threshold=16 * 2**20, multipart_chunksize=16 * 2**20, max_concurrency=4)

# With threads, boto3 reads a stream ahead into memory. Without them it holds one part at a time.
_STREAM_CONFIG = TransferConfig(multipart_threshold=8 * 2**20, multipart_chunksize=8 * 2**20, use_threads=False)

_CLIENT_CONFIG = Config(
    retries={"mode": "standard", "max_attempts": 5},
    signature_version="s3v4",
    connect_timeout=5,
    read_timeout=60,
    # Not every S3-compatible store knows the newer checksum headers. We check our own sha256.
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)


class S3Blobs:
    """Stores blobs as objects.

    Large files are uploaded in parts. boto3 aborts the upload if a part fails, and an object
    appears only when it is complete.
    """

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix

    @classmethod
    def connect(cls, url: str) -> S3Blobs:
        """Open ``s3://bucket/prefix?endpoint_url=http://…&region=…``.

        boto3 finds the credentials.
        """
        parsed = urlsplit(url)
        query = {name: values[0] for name, values in parse_qs(parsed.query).items()}
        client = boto3.client(
            "s3",
            endpoint_url=query.get("endpoint_url"),
            region_name=query.get("region", "us-east-1"),
            config=_CLIENT_CONFIG,
        )
        prefix = parsed.path.strip("/")
        return cls(client, parsed.netloc, f"{prefix}/" if prefix else "")

    def put_file(self, key: str, path: Path) -> BlobDigest:
        name, stored = self._to_object_key(key), hash_file(path)
        with _translate_errors(key):
            self._client.upload_file(str(path), self._bucket, name, Config=_TRANSFER_CONFIG)
        return stored

    def put_stream(self, key: str, chunks: Iterable[bytes]) -> BlobDigest:
        name, source = self._to_object_key(key), _ChunkReader(chunks)
        with _translate_errors(key):
            self._client.upload_fileobj(source, self._bucket, name, Config=_STREAM_CONFIG)
        return BlobDigest(source.digest.hexdigest(), source.size)

    def put_bytes(self, key: str, data: bytes, *, exclusive: bool = False) -> BlobDigest:
        name, digest = self._to_object_key(key), hashlib.sha256(data)
        condition = {"IfNoneMatch": "*"} if exclusive else {}
        md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        try:
            with _translate_errors(key):
                self._client.put_object(Bucket=self._bucket, Key=name, Body=data, ContentMD5=md5, **condition)
        except BlobExists:
            # A retried request may find its own bytes, if the first try arrived after all.
            if b"".join(self._stream_object(key)) != data:
                raise
        return BlobDigest(digest.hexdigest(), len(data))

    def stream(self, key: str, sha256: str) -> Iterator[bytes]:
        return verify_chunks(key, sha256, self._stream_object(key))

    def delete(self, key: str) -> None:
        with _translate_errors(key):
            self._client.delete_object(Bucket=self._bucket, Key=self._to_object_key(key))

    def list(self, prefix: str) -> Iterator[BlobInfo]:
        name = self._prefix + validate_key(prefix.rstrip("/")) + "/"
        with _translate_errors(prefix):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=name):
                for item in page.get("Contents", []):
                    key = item["Key"].removeprefix(self._prefix)
                    yield BlobInfo(key, item["Size"], item["LastModified"].timestamp())

    def sweep(self, seconds: float) -> int:
        swept, bucket = 0, {"Bucket": self._bucket}
        with _translate_errors(self._prefix):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(**bucket, Prefix=self._prefix)
            for upload in (upload for page in pages for upload in page.get("Uploads", [])):
                target = {**bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
                parts = [
                    part["LastModified"]
                    for page in self._client.get_paginator("list_parts").paginate(**target)
                    for part in page.get("Parts", [])
                ]
                # The age of the newest part, since a slow upload is still in progress.
                if time.time() - max([upload["Initiated"], *parts]).timestamp() > seconds:
                    self._client.abort_multipart_upload(**target)
                    swept += 1
        return swept

    def presign(self, key: str, filename: str, seconds: int) -> str | None:
        params = {
            "Bucket": self._bucket,
            "Key": self._to_object_key(key),
            "ResponseContentDisposition": f'attachment; filename="{filename}"',
        }
        url: str = self._client.generate_presigned_url("get_object", Params=params, ExpiresIn=seconds)
        return url

    def _to_object_key(self, key: str) -> str:
        return self._prefix + validate_key(key)

    def _stream_object(self, key: str) -> Iterator[bytes]:
        with _translate_errors(key):
            body = self._client.get_object(Bucket=self._bucket, Key=self._to_object_key(key))["Body"]
            with body:
                yield from body.iter_chunks(CHUNK_BYTES)


class _ChunkReader:
    """File-like reader of chunks for boto3. It hashes and counts the bytes that it returns."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._buffer = bytearray()
        self.digest = hashlib.sha256()
        self.size = 0

    def read(self, size: int = -1) -> bytes:
        """Return at most ``size`` bytes, or all remaining bytes if it is negative.

        boto3 reads all bytes of a stream that is shorter than one part.
        """
        while (size < 0 or len(self._buffer) < size) and (chunk := next(self._chunks, None)) is not None:
            self._buffer += chunk
        end = len(self._buffer) if size < 0 else size
        data = bytes(self._buffer[:end])
        del self._buffer[:end]
        self.digest.update(data)
        self.size += len(data)
        return data


_ERRORS_BY_CODE: dict[str, type[Exception]] = {
    "NoSuchKey": BlobNotFound,
    "404": BlobNotFound,
    "PreconditionFailed": BlobExists,
}


@contextmanager
def _translate_errors(key: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        raise _ERRORS_BY_CODE.get(code, StorageUnavailable)(f"{key}: the bucket responded {code}") from error
    except (BotoCoreError, S3UploadFailedError) as error:
        raise StorageUnavailable(f"{key}: the bucket does not respond ({type(error).__name__})") from error
