"""Zips of files and of the rows that name them: what is read, and for what cannot be, where it is and why."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.readers import archive, rows
from training.readers.archive import Content
from training.readers.rows import Bad, Record
from training.readers.strict_json import Refused

WANTED = {"image": True, "label": True}
LINE = '{"image": "cats/1.png", "label": "cat"}\n'
Files = dict[str, bytes | str]
Read = Callable[..., list[tuple[Any, Any]]]


def zipped(files: Files, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as target:
        for name, data in files.items():
            target.writestr(name, data)
    return buffer.getvalue()


@pytest.fixture
def reading(tmp_path: Path) -> Read:
    """Line and row, files as their bytes; line and code where it is bad."""

    def read(content: bytes | Files, field: str | None = "image", **columns: str) -> list[tuple[Any, Any]]:
        path = tmp_path / "data"
        path.write_bytes(content if isinstance(content, bytes) else zipped(content))
        return [
            (one.line, one.code if isinstance(one, Bad) else {name: told(value) for name, value in one.value.items()})
            for one in rows.read(path, columns, WANTED, field)
        ]

    return read


def told(value: Any) -> Any:
    return value.read() if isinstance(value, Content) else value


CAT, DOG = {"image": b"C", "label": "cat"}, {"image": b"D", "label": "dog"}
PAIR: Files = {"cats/1.png": b"C", "dogs/1.png": b"D"}
TWO = LINE + '\n{"image": "./dogs/1.png", "label": "dog"}'


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"rows.jsonl": TWO, **PAIR}, [(1, CAT), (3, DOG)]),
        ({"top/rows.jsonl": TWO, "top/cats/1.png": b"C", "top/dogs/1.png": b"D"}, [(1, CAT), (3, DOG)]),
        ({"rows.CSV": "image,label\ncats/1.png,cat\ndogs/1.png,dog\n", **PAIR}, [(2, CAT), (3, DOG)]),
        ({"rows.json": f"[{LINE},\n{TWO.splitlines()[2]}]", **PAIR}, [(1, CAT), (3, DOG)]),
        ({"rows.jsonl": b"\xef\xbb\xbf" + LINE.encode(), **PAIR}, [(1, CAT)]),
        ({"cat/1.png": b"C", "dog/deep/1.png": b"D"}, [(None, CAT), (None, DOG)]),
        ({"all/dog/1.png": b"D", "all/cat/1.png": b"C"}, [(None, CAT), (None, DOG)]),
        ({"cat/": b"", "cat/1.png": b"C", "dog/1.png": b"D", "cat/.DS_Store": b"x"}, [(None, CAT), (None, DOG)]),
        ({"rows.jsonl": LINE, **PAIR, "__MACOSX/._rows.jsonl": b"x", ".hidden.csv": b"x"}, [(1, CAT)]),
        ({"rows.jsonl": '{"image": "data:,QUJD", "label": "a"}'}, [(1, {"image": "data:,QUJD", "label": "a"})]),
        ({"rows.jsonl": '{"image": 3}\n{"label": "a"}'}, [(1, {"image": 3}), (2, {"label": "a"})]),
        ({"cät/ü 1.png": b"C", "dog/1.png": b"D"}, [(None, {"image": b"C", "label": "cät"}), (None, DOG)][::-1]),
    ],
)
def test_good_zips(reading: Read, files: Files, expected: list[Any]) -> None:
    for content in (zipped(files), zipped(files, zipfile.ZIP_STORED)):
        assert sorted(reading(content), key=repr) == sorted(expected, key=repr)


def test_folders_are_read_in_the_order_of_their_names(reading: Read) -> None:
    found = reading({f"{label}/{number}.png": str(number) for number in (3, 1, 2) for label in "ba"})
    assert [(row["label"], row["image"]) for _, row in found] == [
        (label, b"%d" % n) for label in "ab" for n in (1, 2, 3)
    ]


def test_columns_rename_the_keys_of_the_manifest(reading: Read) -> None:
    files = {"rows.jsonl": '{"file": "cats/1.png", "label": "cat"}', **PAIR}
    assert reading(files, image="file") == [(1, CAT)]
    assert reading({"rows.csv": "kind,image\ncat,cats/1.png", **PAIR}, label="kind") == [(2, CAT)]
    assert reading({"cat/1.png": b"C", "dog/1.png": b"D"}, label="kind") == [(None, "missing_field")] * 2


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, []),
        ({"rows.jsonl": LINE * 2, "Cats/1.png": b"C"}, [(1, "missing_file"), (2, "missing_file")]),
        ({"rows.jsonl": TWO + "\n{", **PAIR}, [(1, CAT), (3, DOG), (4, "json")]),
        ({"rows.csv": "picture,label\na,b", **PAIR}, [(1, "missing_column")]),
        ({"rows.jsonl": "", **PAIR}, [(None, "empty_file")]),
        ({"rows.jsonl": zipped({"a": b""}), **PAIR}, [(1, "compressed")]),
        ({"rows.jsonl": LINE, "more.csv": "", **PAIR}, [(None, "archive")]),
        ({"1.png": b"C", "cat/2.png": b"C"}, [(None, "archive"), (None, {"image": b"C", "label": "cat"})]),
        ({"../1.png": b"C", **PAIR}, [(None, "archive")]),
        ({"a/../../1.png": b"C", **PAIR}, [(None, "archive")]),
        ({"/etc/passwd": b"C", **PAIR}, [(None, "archive")]),
        ({"C:/1.png": b"C", **PAIR}, [(None, "archive")]),
        ({"cat\\1.png": b"C", **PAIR}, [(None, "archive")]),
        ({"rows.jsonl": '{"image": "../../etc/passwd", "label": "a"}'}, [(1, "missing_file")]),
        ({"rows.jsonl": '{"image": "/etc/passwd", "label": "a"}'}, [(1, "missing_file")]),
    ],
)
def test_bad_zips(reading: Read, files: Files, expected: list[Any]) -> None:
    assert reading(files) == expected


def test_a_name_twice_is_refused(reading: Read) -> None:
    assert reading(zipped({"cat/1.png": b"C", "cat/2.png": b"D"}).replace(b"2.png", b"1.png")) == [(None, "archive")]


def test_what_is_encrypted_or_packed_otherwise_is_refused(reading: Read) -> None:
    sound = zipped(PAIR)
    # Bit 0 of the flags, in each entry of the central directory.
    locked = bytearray(sound)
    for at in range(len(sound)):
        if sound[at : at + 4] == b"PK\x01\x02":
            locked[at + 8] |= 1
    assert reading(bytes(locked)) == [(None, "archive")]
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        assert reading(zipped(PAIR, method)) == [(None, "archive")]


def test_limits_are_of_each_file_of_all_and_of_their_ratio(reading: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    files: Files = {"rows.jsonl": TWO, "cats/1.png": b"C" * 300, "dogs/1.png": b"D"}
    monkeypatch.setattr(archive, "FILE_BYTES", 299)
    assert reading(files) == [(1, "file_too_big"), (3, DOG)]
    monkeypatch.setattr(archive, "TOTAL_BYTES", 299)
    assert reading(files) == [(None, "archive")]
    monkeypatch.undo()
    bomb: Files = {"rows.jsonl": LINE, "cats/1.png": b"\0" * (1 << 20)}
    assert reading(bomb)[0][0] == 1
    monkeypatch.setattr(archive, "RATIO_FREE", 1 << 16)
    assert reading(bomb) == [(None, "archive")]
    assert reading(zipped(bomb, zipfile.ZIP_STORED))[0][0] == 1
    monkeypatch.undo()
    monkeypatch.setattr(archive, "FILES", 2)
    assert reading(files) == [(None, "archive")]


def test_damage_inside_a_zip_is_found_when_it_is_read(tmp_path: Path, reading: Read) -> None:
    files: Files = {"rows.jsonl": LINE, "cats/1.png": bytes(range(256)) * 8}
    sound = zipped(files, zipfile.ZIP_STORED)
    picture, manifest = sound.index(bytes(range(256))) + 40, sound.index(b'"label"')
    path = tmp_path / "data"
    path.write_bytes(sound[:picture] + b"?" + sound[picture + 1 :])
    [row] = rows.read(path, {}, WANTED, "image")
    assert isinstance(row, Record)
    assert row.file == "cats/1.png"
    with pytest.raises(Refused, match="damaged"):
        row.value["image"].read()
    assert reading(sound[:manifest] + b"?" + sound[manifest + 1 :]) == [(None, "archive")]
    assert reading(sound[:-60]) == [(None, "archive")]


def test_a_zip_is_refused_where_rows_name_no_files(reading: Read) -> None:
    for content in (zipped(PAIR), zipped({})):
        assert reading(content, None) == [(1, "compressed")]


def test_files_are_read_from_the_zip_when_they_are_wanted(tmp_path: Path) -> None:
    """Nothing is unpacked, and nothing is held: the bytes stay in the file."""
    path = tmp_path / "data"
    path.write_bytes(zipped({"rows.jsonl": LINE * 3, **PAIR}))
    found = [row.value["image"] for row in rows.read(path, {}, WANTED, "image") if isinstance(row, Record)]
    assert [content.read() for content in found] == [b"C"] * 3
    assert list(tmp_path.iterdir()) == [path]


def test_every_message_says_what_to_do_and_can_be_shown(tmp_path: Path) -> None:
    path = tmp_path / "data"
    for name in ("../\x1b[31m\n.png", "/" + "a" * 5000, "\u202e/..", "top\x07.png"):
        path.write_bytes(zipped({name: b"C"}))
        [bad] = [one for one in rows.read(path, {}, WANTED, "image") if isinstance(one, Bad)]
        assert bad.message.isprintable()
        assert 15 < len(bad.message) < 300


SOUND = zipped({"rows.jsonl": LINE, **PAIR})


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(SOUND)), st.binary(max_size=8), st.integers(0, 8))
def test_no_bytes_crash_the_reader(tmp_path_factory: Any, at: int, noise: bytes, gone: int) -> None:
    path = tmp_path_factory.mktemp("zips") / "data"
    path.write_bytes(b"PK\x03\x04" + (SOUND[:at] + noise + SOUND[at + gone :])[4:])
    for one in rows.read(path, {}, WANTED, "image"):
        if isinstance(one, Record) and isinstance(one.value["image"], Content):
            try:
                one.value["image"].read()
            except Refused as error:
                assert error.code == "archive"  # noqa: PT017
