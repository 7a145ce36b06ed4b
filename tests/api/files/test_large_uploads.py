"""Uploads of hundreds of megabytes to an API in its own process: memory use and sudden death."""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from openai import OpenAI

from storage import blobs as blob_stores
from storage.blobs import Blobs
from storage.blobs.file import FileBlobs
from storage.blobs.s3 import S3Blobs
from tests.services import wait_for
from tests.stack import Stack, build_settings

pytestmark = pytest.mark.slow

MB = 2**20


@pytest.fixture(params=["file", "s3"])
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="luthier-") as home:
        url = ""
        if request.param == "s3":
            url = request.getfixturevalue("s3_url").replace("/here?", f"/{Path(home).name}?")
        with Stack(build_settings(Path(home), blob_url=url)) as stack:
            stack.prepare()
            yield stack


@contextmanager
def _run_api(stack: Stack) -> Iterator[OpenAI]:
    """Run the API without an engine and without Redis: an upload needs neither."""
    stack.start("api")
    url = f"http://127.0.0.1:{stack.ports['api']}"

    def is_alive() -> bool:
        stack.check_alive()
        with suppress(httpx.TransportError):
            return httpx.get(f"{url}/healthz").status_code == 200
        return False

    wait_for(is_alive, 240)
    with OpenAI(base_url=f"{url}/v1", api_key=stack.key, max_retries=0) as client:
        yield client


def _measure_resident_bytes(stack: Stack) -> int:
    process = psutil.Process(stack.processes["api"].pid)
    return sum(member.memory_info().rss for member in [process, *process.children(recursive=True)])


@dataclass
class _PeakMemory:
    bytes: int = 0


@contextmanager
def _measure_peak_growth(stack: Stack) -> Iterator[_PeakMemory]:
    before, peak, stopped = _measure_resident_bytes(stack), _PeakMemory(), threading.Event()

    def sample() -> None:
        while not stopped.wait(0.01):
            peak.bytes = max(peak.bytes, _measure_resident_bytes(stack) - before)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peak
    finally:
        stopped.set()
        thread.join()


def _write_large_file(path: Path, megabytes: int) -> str:
    """Write a file whose megabytes all differ, and return its md5."""
    digest = hashlib.md5()
    with path.open("wb") as out:
        for number in range(megabytes):
            chunk = number.to_bytes(4, "big") * (MB // 4)
            digest.update(chunk)
            out.write(chunk)
    return digest.hexdigest()


def _hash_content(client: OpenAI, file_id: str) -> str:
    digest = hashlib.md5()
    with client.files.with_streaming_response.content(file_id) as content:
        for chunk in content.iter_bytes():
            digest.update(chunk)
    return digest.hexdigest()


def test_two_hundred_megabytes_take_little_memory(stack: Stack, tmp_path: Path) -> None:
    path = tmp_path / "large"
    md5 = _write_large_file(path, 200)
    with _run_api(stack) as client:
        client.uploads.upload_file_chunked(
            file=b"warm", filename="a", bytes=4, mime_type="text/plain", purpose="fine-tune"
        )
        with _measure_peak_growth(stack) as peak:
            completed = client.uploads.upload_file_chunked(
                file=path, mime_type="text/plain", purpose="fine-tune", md5=md5
            )
        print(f"peak growth {peak.bytes / MB:.0f} MB")
        assert peak.bytes < 100 * MB
        assert completed.file is not None
        assert completed.file.bytes == 200 * MB
        assert _hash_content(client, completed.file.id) == md5


def test_killed_while_it_completes(stack: Stack) -> None:
    """The upload remains for another attempt, and the partially written file is not a blob."""
    parts = [bytes([number]) * 32 * MB for number in range(6)]
    md5 = hashlib.md5(b"".join(parts)).hexdigest()
    with _run_api(stack) as client, ThreadPoolExecutor(1) as pool:
        upload = client.uploads.create(bytes=len(parts) * 32 * MB, filename="a", mime_type="b", purpose="user_data")
        ids = [client.uploads.parts.create(upload.id, data=part).id for part in parts]
        completing = pool.submit(client.uploads.complete, upload.id, part_ids=ids, md5=md5)
        blobs = blob_stores.connect(stack.settings.blob_url)
        wait_for(lambda: _count_partial_blobs(blobs) > 0, 30, 0.005)
        stack.kill("api")
        assert completing.exception() is not None
    assert not [blob for blob in blobs.list("projects") if "/files/" in blob.key]
    with _run_api(stack) as client:
        completed = client.uploads.complete(upload.id, part_ids=ids, md5=md5)
        assert completed.file is not None
        assert _hash_content(client, completed.file.id) == md5
        assert [file.id for file in client.files.list()] == [completed.file.id]
    assert len(list(blobs.list("projects"))) == 1
    assert blobs.sweep(-1) == 1


def _count_partial_blobs(blobs: Blobs) -> int:
    """Return the number of blobs that are being written."""
    if isinstance(blobs, FileBlobs):
        return len(list(blobs._temporary_dir.iterdir()))
    assert isinstance(blobs, S3Blobs)
    return len(blobs._client.list_multipart_uploads(Bucket=blobs._bucket, Prefix=blobs._prefix).get("Uploads", []))
