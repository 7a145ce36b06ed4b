"""Upload, download and verification of files and weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import luthier
from luthier import Luthier
from tests.api.stack import Stack
from tests.sdk.faulty_proxy import run_faulty_proxy


def test_a_file_is_uploaded_and_downloaded(client: Luthier, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"a": 1}\n' * 1000)
    progress: list[tuple[int, int]] = []
    file = client.files.upload(tmp_path / "rows.jsonl", progress=lambda sent, total: progress.append((sent, total)))
    assert (file.filename, file.bytes_, file.purpose) == ("rows.jsonl", 9000, "fine-tune")
    assert progress[-1] == (9000, 9000)
    assert client.files.retrieve(file.id) == file
    assert list(client.files.list()) == [file]
    assert list(client.files.list(purpose="batch")) == []
    (tmp_path / "out").mkdir()
    path = client.files.download(file.id, tmp_path / "out")
    assert path == tmp_path / "out" / "rows.jsonl"
    assert path.read_bytes() == b'{"a": 1}\n' * 1000
    client.files.delete(file.id)
    with pytest.raises(luthier.NotFoundError):
        client.files.retrieve(file.id)


def test_lists_continue_page_by_page(client: Luthier, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [client.files.upload(b"{}", filename=f"{n}").id for n in range(7)]
    monkeypatch.setattr("luthier._sync.http.PAGE_SIZE", 3)
    assert [file.id for file in client.files.list(order="asc")] == ids
    assert [file.id for file in client.files.list()] == ids[::-1]


def test_downloaded_weights_are_verified(stack: Stack, client: Luthier, fresh_stack: Stack, tmp_path: Path) -> None:
    model = fresh_stack.insert_model(suffix="mine")
    with Luthier(base_url=fresh_stack.url, api_key=fresh_stack.tenant.key) as project_client:
        merged = project_client.models.download(model.id, tmp_path / "deep" / "model.zip", "merged")
        assert merged == tmp_path / "deep" / "model.zip"
        adapter = project_client.models.download(model.id, tmp_path)
    assert adapter.name == model.id.replace(":", "-") + "-adapter.zip"
    assert adapter.read_bytes()[:2] == b"PK"
    assert sorted(path.name for path in tmp_path.rglob("*.zip")) == sorted([adapter.name, "model.zip"])
    assert not list(tmp_path.rglob("*.part"))


def test_a_damaged_download_leaves_nothing_behind(fresh_stack: Stack, tmp_path: Path) -> None:
    with (
        run_faulty_proxy(fresh_stack.url) as server,
        Luthier(base_url=server.url, api_key=fresh_stack.tenant.key) as client,
    ):
        file = client.files.upload(b"rows\n")
        (tmp_path / "kept").write_text("previous content")
        server.faults = ["ok", "damage", "damage"]
        path = client.files.download(file.id, tmp_path / "rows.jsonl")
        assert path.read_bytes() == b"rows\n"
        server.faults = ["ok", "damage", "damage", "damage"]
        with pytest.raises(luthier.CorruptDownloadError):
            client.files.download(file.id, tmp_path / "kept")
    assert (tmp_path / "kept").read_text() == "previous content"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "rows.jsonl"]


def test_a_file_name_from_the_server_cannot_escape_the_folder(client: Luthier, tmp_path: Path) -> None:
    file = client.files.upload(b"x", filename="../../escape.txt")
    assert client.files.download(file.id, tmp_path).parent == tmp_path


def test_large_files_are_sent_in_parts(fresh_stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier._sync.files.MAX_SINGLE_UPLOAD_BYTES", 1 << 20)
    monkeypatch.setattr("luthier._sync.files.PART_BYTES", 300_000)
    content = b"".join(hashlib.sha256(bytes([n % 256, n // 256])).digest() for n in range(50_000))
    (tmp_path / "large.bin").write_bytes(content)
    progress: list[int] = []
    with (
        run_faulty_proxy(fresh_stack.url) as server,
        Luthier(base_url=server.url, api_key=fresh_stack.tenant.key) as client,
    ):
        server.faults = ["ok", "refuse", "ok", "refuse"]
        file = client.files.upload(tmp_path / "large.bin", progress=lambda sent, _: progress.append(sent))
        assert client.files.download(file.id, tmp_path / "back.bin").read_bytes() == content
        parts = [path for _, path, _ in server.requests if path.endswith("/parts")]
    assert len(parts) == 6 + 2
    assert sorted(progress)[-1] == len(content)
