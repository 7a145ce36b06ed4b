"""Artifact cache: complete folders, verified at every use, bounded in size."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from inference.models.artifact_cache import ArtifactCache
from inference.protocol.errors import EngineError
from inference.protocol.model_ref import ModelRef
from storage.blobs import Blobs, connect
from storage.folders import put_folder


class CountingBlobs:
    """Blob store that records all reads."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self.reads: list[str] = []

    def stream(self, key: str, sha256: str) -> Iterator[bytes]:
        self.reads.append(key)
        return self._blobs.stream(key, sha256)

    def __getattr__(self, name: str) -> object:
        return getattr(self._blobs, name)


@pytest.fixture
def blobs(tmp_path: Path) -> CountingBlobs:
    return CountingBlobs(connect(f"file://{tmp_path}/blobs"))


@pytest.fixture
def cache(blobs: CountingBlobs, tmp_path: Path) -> ArtifactCache:
    return ArtifactCache(blobs, tmp_path / "cache")  # type: ignore[arg-type]


def store_result(blobs: CountingBlobs, tmp_path: Path, name: str, size: int = 10) -> ModelRef:
    folder = tmp_path / "results" / name
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "weights.safetensors").write_bytes(name.encode() * size)
    (folder / "state.json").write_text(name)
    manifest = put_folder(blobs, f"results/{name}", folder)  # type: ignore[arg-type]
    return ModelRef(
        id=name, base="b", task="chat", update="lora", prefix=f"results/{name}", manifest_sha256=manifest.sha256
    )


def list_files(path: Path) -> set[str]:
    return {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}


def test_a_folder_is_fetched_once(blobs: CountingBlobs, cache: ArtifactCache, tmp_path: Path) -> None:
    ref = store_result(blobs, tmp_path, "a")
    for _ in range(2):
        with cache.acquire_folder(ref) as path:
            assert list_files(path) == {"model/weights.safetensors", "state.json"}
    assert sorted(blobs.reads) == [
        "results/a/manifest.json",
        "results/a/manifest.json",
        "results/a/manifest.json",
        "results/a/model/weights.safetensors",
        "results/a/state.json",
    ]


def test_only_the_part_that_is_the_model_is_fetched(blobs: CountingBlobs, cache: ArtifactCache, tmp_path: Path) -> None:
    ref = store_result(blobs, tmp_path, "a").model_copy(update={"part": "model/"})
    with cache.acquire_folder(ref) as path:
        assert list_files(path) == {"weights.safetensors"}
    assert "results/a/state.json" not in blobs.reads


def test_concurrent_requests_share_one_fetch(blobs: CountingBlobs, cache: ArtifactCache, tmp_path: Path) -> None:
    ref, listings = store_result(blobs, tmp_path, "a", 10**6), list[set[str]]()

    def use() -> None:
        with cache.acquire_folder(ref) as path:
            listings.append(list_files(path))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert listings == [{"model/weights.safetensors", "state.json"}] * 8
    assert blobs.reads.count("results/a/state.json") == 1


def test_damage_in_the_store_is_detected_and_nothing_is_cached(
    blobs: CountingBlobs, cache: ArtifactCache, tmp_path: Path
) -> None:
    ref = store_result(blobs, tmp_path, "a")
    (tmp_path / "blobs/results/a/model/weights.safetensors").write_bytes(b"other")
    with pytest.raises(EngineError) as caught, cache.acquire_folder(ref):
        pass
    assert (caught.value.code, caught.value.status) == ("storage_corrupt", 502)
    assert list((tmp_path / "cache").iterdir()) == []


def test_another_models_bytes_under_the_key_are_detected(
    blobs: CountingBlobs, cache: ArtifactCache, tmp_path: Path
) -> None:
    first, second = store_result(blobs, tmp_path, "a"), store_result(blobs, tmp_path, "b")
    with pytest.raises(EngineError) as caught, cache.acquire_folder(first.model_copy(update={"prefix": second.prefix})):
        pass
    assert caught.value.code == "storage_corrupt"


def test_damage_in_the_cache_is_repaired(blobs: CountingBlobs, cache: ArtifactCache, tmp_path: Path) -> None:
    ref = store_result(blobs, tmp_path, "a")
    with cache.acquire_folder(ref) as path:
        original = (path / "state.json").read_bytes()
    for damage in (lambda: (path / "state.json").write_text("?"), lambda: (path / "extra.py").write_text("1")):
        damage()
        with cache.acquire_folder(ref) as repaired:
            assert (repaired / "state.json").read_bytes() == original
            assert not (repaired / "extra.py").exists()


def test_a_deleted_result_is_not_found(blobs: CountingBlobs, cache: ArtifactCache, tmp_path: Path) -> None:
    ref = store_result(blobs, tmp_path, "a")
    with cache.acquire_folder(ref):
        pass
    blobs.delete("results/a/manifest.json")  # type: ignore[operator]
    with pytest.raises(EngineError) as caught, cache.acquire_folder(ref):
        pass
    assert caught.value.status == 404


def test_the_oldest_is_evicted_from_a_full_cache_but_never_one_in_use(blobs: CountingBlobs, tmp_path: Path) -> None:
    cache = ArtifactCache(blobs, tmp_path / "cache", max_bytes=2500)  # type: ignore[arg-type]
    refs = [store_result(blobs, tmp_path, name, 1000) for name in "abcd"]
    with cache.acquire_folder(refs[0]) as leased:
        for ref in refs[1:]:
            with cache.acquire_folder(ref):
                pass
        assert list_files(leased) == {"model/weights.safetensors", "state.json"}
    remaining = {path.name for path in (tmp_path / "cache").iterdir()}
    assert remaining == {refs[2].manifest_sha256, refs[3].manifest_sha256}


def test_incomplete_downloads_of_a_killed_engine_are_deleted(blobs: CountingBlobs, tmp_path: Path) -> None:
    staging = tmp_path / "cache" / ".aside-0123"
    staging.mkdir(parents=True)
    (staging / "weights").write_text("half")
    ArtifactCache(blobs, tmp_path / "cache")  # type: ignore[arg-type]
    assert not staging.exists()
