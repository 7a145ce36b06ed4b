"""Contract tests for every blob store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from storage import blobs as stores
from storage.blobs import BlobDigest, Blobs
from storage.blobs.file import FileBlobs
from storage.blobs.s3 import S3Blobs
from storage.errors import BlobCorrupt, BlobExists, BlobNotFound, InvalidBlobKey, StorageUnavailable, UnknownUrl
from storage.folders import MANIFEST_FILE, delete_folder, get_folder, get_manifest, put_folder

pytestmark = pytest.mark.integration


@pytest.fixture
def blobs(blob_url: str) -> Blobs:
    return stores.connect(blob_url)


def corrupt_blob(blobs: Blobs, key: str, data: bytes) -> None:
    """Change a blob without going through the store."""
    if isinstance(blobs, FileBlobs):
        (blobs.root / key).write_bytes(data)
    else:
        assert isinstance(blobs, S3Blobs)
        blobs._client.put_object(Bucket=blobs._bucket, Key=blobs._prefix + key, Body=data)


def test_bytes_come_back_with_the_hash_recorded(blobs: Blobs) -> None:
    stored = blobs.put_bytes("a/b.bin", b"lute")
    assert stored.sha256 == hashlib.sha256(b"lute").hexdigest()
    assert stored.size == 4
    assert stores.read(blobs, "a/b.bin", stored.sha256) == b"lute"


def test_a_file_larger_than_one_part_comes_back(blobs: Blobs, tmp_path: Path) -> None:
    data = bytes(range(256)) * 2**12 * 33
    (tmp_path / "big").write_bytes(data)
    stored = blobs.put_file("big", tmp_path / "big")
    assert stored.size == len(data) > 2 * 16 * 2**20
    stores.get_file(blobs, "big", stored.sha256, tmp_path / "back" / "big")
    assert (tmp_path / "back" / "big").read_bytes() == data


def test_an_empty_file_is_a_blob_too(blobs: Blobs, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    stored = blobs.put_file("empty", tmp_path / "empty")
    assert stores.read(blobs, "empty", stored.sha256) == b""


@pytest.mark.parametrize("damage", [b"", b"lut", b"luTe", b"lute "])
def test_damage_is_found_at_every_read(blobs: Blobs, damage: bytes, tmp_path: Path) -> None:
    stored = blobs.put_bytes("k", b"lute")
    corrupt_blob(blobs, "k", damage)
    with pytest.raises(BlobCorrupt):
        stores.read(blobs, "k", stored.sha256)
    with pytest.raises(BlobCorrupt):
        stores.get_file(blobs, "k", stored.sha256, tmp_path / "k")
    assert list(tmp_path.glob("k*")) == []


def test_an_unknown_key_is_not_found_and_may_be_deleted(blobs: Blobs) -> None:
    with pytest.raises(BlobNotFound):
        stores.read(blobs, "missing", "0" * 64)
    blobs.delete("missing")


def test_delete_and_list(blobs: Blobs) -> None:
    for key in ("p/x", "p/q/y", "pq/z"):
        blobs.put_bytes(key, b"1")
    assert sorted(info.key for info in blobs.list("p")) == ["p/q/y", "p/x"]
    blobs.delete("p/x")
    assert [info.key for info in blobs.list("p")] == ["p/q/y"]
    assert list(blobs.list("none")) == []


def test_a_stream_becomes_a_blob(blobs: Blobs) -> None:
    data = bytes(range(256)) * 2**12 * 33
    chunks = [data[start : start + 777_777] for start in range(0, len(data), 777_777)]
    stored = blobs.put_stream("stream", iter(chunks))
    assert stored == BlobDigest(hashlib.sha256(data).hexdigest(), len(data))
    assert stores.read(blobs, "stream", stored.sha256) == data
    assert stores.read(blobs, "none", blobs.put_stream("none", []).sha256) == b""


@pytest.mark.parametrize("size", [1, 20 * 2**20, 40 * 2**20])
def test_a_stream_that_breaks_leaves_nothing(blobs: Blobs, size: int) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x" * size
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        blobs.put_stream("stream", broken())
    assert list(blobs.list("stream")) == []
    with pytest.raises(BlobNotFound):
        stores.read(blobs, "stream", "0" * 64)
    assert blobs.sweep(-1) == 0


def test_unfinished_writes_are_swept(blobs: Blobs) -> None:
    if isinstance(blobs, FileBlobs):
        (blobs.root / ".aside" / "left").write_bytes(b"x")
    else:
        assert isinstance(blobs, S3Blobs)
        target = {"Bucket": blobs._bucket, "Key": blobs._prefix + "left"}
        upload_id = blobs._client.create_multipart_upload(**target)["UploadId"]
        blobs._client.upload_part(**target, UploadId=upload_id, PartNumber=1, Body=b"x")
    stored = blobs.put_bytes("stored", b"1")
    assert blobs.sweep(60) == 0
    assert blobs.sweep(-1) == 1
    assert blobs.sweep(-1) == 0
    assert stores.read(blobs, "stored", stored.sha256) == b"1"


def test_an_exclusive_write_accepts_its_own_retry_and_no_other(blobs: Blobs) -> None:
    first = blobs.put_bytes("once", b"mine", exclusive=True)
    assert blobs.put_bytes("once", b"mine", exclusive=True) == first
    with pytest.raises(BlobExists):
        blobs.put_bytes("once", b"theirs", exclusive=True)
    assert stores.read(blobs, "once", first.sha256) == b"mine"


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/.b", "a/b/", "a\\b", "a\0b", "a b", "é", "x" * 1000, "."]
)
def test_invalid_keys_are_rejected(blobs: Blobs, key: str) -> None:
    with pytest.raises(InvalidBlobKey):
        blobs.put_bytes(key, b"x")
    with pytest.raises(InvalidBlobKey):
        list(blobs.stream(key, "0" * 64))


def test_a_presigned_url_serves_the_blob_if_supported(blobs: Blobs) -> None:
    blobs.put_bytes("w.zip", b"weights")
    url = blobs.presign("w.zip", "model.zip", 60)
    if isinstance(blobs, FileBlobs):
        assert url is None
    else:
        assert url is not None
        response = httpx.get(url)
        assert response.content == b"weights"
        assert "model.zip" in response.headers["content-disposition"]


def test_folders_store_and_verify_their_files(blobs: Blobs, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "model").mkdir(parents=True)
    (source / "state").mkdir()
    (source / "model" / "a.txt").write_text("A")
    (source / "state" / "b.txt").write_text("B")
    manifest = put_folder(blobs, "f/1", source)
    assert manifest.size == 2
    assert get_manifest(blobs, "f/1", manifest.sha256) == manifest

    get_folder(blobs, "f/1", manifest.sha256, tmp_path / "all")
    assert (tmp_path / "all/state/b.txt").read_text() == "B"
    get_folder(blobs, "f/1", manifest.sha256, tmp_path / "part", subfolder="model/")
    assert [path.name for path in (tmp_path / "part").rglob("*")] == ["a.txt"]

    assert put_folder(blobs, "f/1", source) == manifest
    (source / "model" / "a.txt").write_text("other")
    with pytest.raises(BlobExists):
        put_folder(blobs, "f/1", source)

    delete_folder(blobs, "f/1")
    assert list(blobs.list("f")) == []


def test_a_folder_with_one_damaged_file_does_not_arrive(blobs: Blobs, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "w").write_bytes(b"weights")
    manifest = put_folder(blobs, "f", source)
    corrupt_blob(blobs, "f/w", b"Weights")
    with pytest.raises(BlobCorrupt):
        get_folder(blobs, "f", manifest.sha256, tmp_path / "dest")
    corrupt_blob(blobs, f"f/{MANIFEST_FILE}", b"{}")
    with pytest.raises(BlobCorrupt):
        get_manifest(blobs, "f", manifest.sha256)


def test_a_request_that_fails_twice_is_retried(s3_url: str) -> None:
    store = stores.connect(s3_url)
    assert isinstance(store, S3Blobs)
    failures = iter([503, 500])

    def fail(request: Any, **_: Any) -> Any:
        status = next(failures, None)
        return None if status is None else _build_response(request.url, status)

    store._client.meta.events.register("before-send.s3.PutObject", fail)
    stored = store.put_bytes("retry", b"x")
    assert stores.read(store, "retry", stored.sha256) == b"x"
    assert next(failures, None) is None


def test_an_unreachable_bucket_is_unavailable(aws_credentials: None) -> None:
    store = stores.connect("s3://none?endpoint_url=http://127.0.0.1:9")
    with pytest.raises(StorageUnavailable):
        store.put_bytes("k", b"x")


def test_other_schemes_are_rejected() -> None:
    with pytest.raises(UnknownUrl, match="file:// or s3://"):
        stores.connect("ftp://host/x")


def _build_response(url: str, status: int) -> Any:
    from botocore.awsrequest import AWSResponse

    class Raw:
        def stream(self, **_: Any) -> Any:
            return iter([b""])

        def release_conn(self) -> None:
            return None

    return AWSResponse(url, status, {}, Raw())
