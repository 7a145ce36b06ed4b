"""Tests for zips of files and rows: contents, and line and code of errors."""

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
from training.readers.raw_rows import RawRow, RowError
from training.readers.strict_json import InvalidInput

FIELDS = {"image": True, "label": True}
MANIFEST_LINE = '{"image": "cats/1.png", "label": "cat"}\n'
Files = dict[str, bytes | str]
ReadRows = Callable[..., list[tuple[Any, Any]]]


def build_zip(files: Files, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as target:
        for name, data in files.items():
            target.writestr(name, data)
    return buffer.getvalue()


@pytest.fixture
def read_rows(tmp_path: Path) -> ReadRows:
    """Read a zip as pairs of line and row, or line and code of an error; files are bytes."""

    def read(content: bytes | Files, field: str | None = "image", **columns: str) -> list[tuple[Any, Any]]:
        path = tmp_path / "data"
        path.write_bytes(content if isinstance(content, bytes) else build_zip(content))
        return [
            (
                entry.line,
                entry.code
                if isinstance(entry, RowError)
                else {name: read_content(value) for name, value in entry.value.items()},
            )
            for entry in rows.read_rows(path, columns, FIELDS, field)
        ]

    return read


def read_content(value: Any) -> Any:
    return value.read() if isinstance(value, Content) else value


CAT, DOG = {"image": b"C", "label": "cat"}, {"image": b"D", "label": "dog"}
IMAGE_FILES: Files = {"cats/1.png": b"C", "dogs/1.png": b"D"}
TWO_LINES = MANIFEST_LINE + '\n{"image": "./dogs/1.png", "label": "dog"}'


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"rows.jsonl": TWO_LINES, **IMAGE_FILES}, [(1, CAT), (3, DOG)]),
        ({"top/rows.jsonl": TWO_LINES, "top/cats/1.png": b"C", "top/dogs/1.png": b"D"}, [(1, CAT), (3, DOG)]),
        ({"rows.CSV": "image,label\ncats/1.png,cat\ndogs/1.png,dog\n", **IMAGE_FILES}, [(2, CAT), (3, DOG)]),
        ({"rows.json": f"[{MANIFEST_LINE},\n{TWO_LINES.splitlines()[2]}]", **IMAGE_FILES}, [(1, CAT), (3, DOG)]),
        ({"rows.jsonl": b"\xef\xbb\xbf" + MANIFEST_LINE.encode(), **IMAGE_FILES}, [(1, CAT)]),
        ({"cat/1.png": b"C", "dog/deep/1.png": b"D"}, [(None, CAT), (None, DOG)]),
        ({"all/dog/1.png": b"D", "all/cat/1.png": b"C"}, [(None, CAT), (None, DOG)]),
        ({"cat/": b"", "cat/1.png": b"C", "dog/1.png": b"D", "cat/.DS_Store": b"x"}, [(None, CAT), (None, DOG)]),
        ({"rows.jsonl": MANIFEST_LINE, **IMAGE_FILES, "__MACOSX/._rows.jsonl": b"x", ".hidden.csv": b"x"}, [(1, CAT)]),
        ({"rows.jsonl": '{"image": "data:,QUJD", "label": "a"}'}, [(1, {"image": "data:,QUJD", "label": "a"})]),
        ({"rows.jsonl": '{"image": 3}\n{"label": "a"}'}, [(1, {"image": 3}), (2, {"label": "a"})]),
        ({"cät/ü 1.png": b"C", "dog/1.png": b"D"}, [(None, {"image": b"C", "label": "cät"}), (None, DOG)][::-1]),
    ],
)
def test_valid_zips(read_rows: ReadRows, files: Files, expected: list[Any]) -> None:
    for content in (build_zip(files), build_zip(files, zipfile.ZIP_STORED)):
        assert sorted(read_rows(content), key=repr) == sorted(expected, key=repr)


def test_folders_are_read_in_the_order_of_their_names(read_rows: ReadRows) -> None:
    entries = read_rows({f"{label}/{number}.png": str(number) for number in (3, 1, 2) for label in "ba"})
    assert [(row["label"], row["image"]) for _, row in entries] == [
        (label, b"%d" % n) for label in "ab" for n in (1, 2, 3)
    ]


def test_columns_rename_the_keys_of_the_manifest(read_rows: ReadRows) -> None:
    files = {"rows.jsonl": '{"file": "cats/1.png", "label": "cat"}', **IMAGE_FILES}
    assert read_rows(files, image="file") == [(1, CAT)]
    assert read_rows({"rows.csv": "kind,image\ncat,cats/1.png", **IMAGE_FILES}, label="kind") == [(2, CAT)]
    assert read_rows({"cat/1.png": b"C", "dog/1.png": b"D"}, label="kind") == [(None, "missing_field")] * 2


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, []),
        ({"rows.jsonl": MANIFEST_LINE * 2, "Cats/1.png": b"C"}, [(1, "missing_file"), (2, "missing_file")]),
        ({"rows.jsonl": TWO_LINES + "\n{", **IMAGE_FILES}, [(1, CAT), (3, DOG), (4, "json")]),
        ({"rows.csv": "picture,label\na,b", **IMAGE_FILES}, [(1, "missing_column")]),
        ({"rows.jsonl": "", **IMAGE_FILES}, [(None, "empty_file")]),
        ({"rows.jsonl": build_zip({"a": b""}), **IMAGE_FILES}, [(1, "compressed")]),
        ({"rows.jsonl": MANIFEST_LINE, "more.csv": "", **IMAGE_FILES}, [(None, "archive")]),
        ({"1.png": b"C", "cat/2.png": b"C"}, [(None, "archive"), (None, {"image": b"C", "label": "cat"})]),
        ({"../1.png": b"C", **IMAGE_FILES}, [(None, "archive")]),
        ({"a/../../1.png": b"C", **IMAGE_FILES}, [(None, "archive")]),
        ({"/etc/passwd": b"C", **IMAGE_FILES}, [(None, "archive")]),
        ({"C:/1.png": b"C", **IMAGE_FILES}, [(None, "archive")]),
        ({"cat\\1.png": b"C", **IMAGE_FILES}, [(None, "archive")]),
        ({"rows.jsonl": '{"image": "../../etc/passwd", "label": "a"}'}, [(1, "missing_file")]),
        ({"rows.jsonl": '{"image": "/etc/passwd", "label": "a"}'}, [(1, "missing_file")]),
    ],
)
def test_invalid_zips(read_rows: ReadRows, files: Files, expected: list[Any]) -> None:
    assert read_rows(files) == expected


def test_a_duplicate_name_is_rejected(read_rows: ReadRows) -> None:
    assert read_rows(build_zip({"cat/1.png": b"C", "cat/2.png": b"D"}).replace(b"2.png", b"1.png")) == [
        (None, "archive")
    ]


def test_encryption_and_other_compression_are_rejected(read_rows: ReadRows) -> None:
    valid = build_zip(IMAGE_FILES)
    # Sets bit 0 of the flags in each entry of the central directory.
    encrypted = bytearray(valid)
    for at in range(len(valid)):
        if valid[at : at + 4] == b"PK\x01\x02":
            encrypted[at + 8] |= 1
    assert read_rows(bytes(encrypted)) == [(None, "archive")]
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        assert read_rows(build_zip(IMAGE_FILES, method)) == [(None, "archive")]


def test_limits_apply_to_files_totals_and_ratios(read_rows: ReadRows, monkeypatch: pytest.MonkeyPatch) -> None:
    files: Files = {"rows.jsonl": TWO_LINES, "cats/1.png": b"C" * 300, "dogs/1.png": b"D"}
    monkeypatch.setattr(archive, "MAX_FILE_BYTES", 299)
    assert read_rows(files) == [(1, "file_too_big"), (3, DOG)]
    monkeypatch.setattr(archive, "MAX_TOTAL_BYTES", 299)
    assert read_rows(files) == [(None, "archive")]
    monkeypatch.undo()
    bomb: Files = {"rows.jsonl": MANIFEST_LINE, "cats/1.png": b"\0" * (1 << 20)}
    assert read_rows(bomb)[0][0] == 1
    monkeypatch.setattr(archive, "RATIO_EXEMPT_BYTES", 1 << 16)
    assert read_rows(bomb) == [(None, "archive")]
    assert read_rows(build_zip(bomb, zipfile.ZIP_STORED))[0][0] == 1
    monkeypatch.undo()
    monkeypatch.setattr(archive, "MAX_FILES", 2)
    assert read_rows(files) == [(None, "archive")]


def test_damage_in_a_zip_is_found_on_reading(tmp_path: Path, read_rows: ReadRows) -> None:
    files: Files = {"rows.jsonl": MANIFEST_LINE, "cats/1.png": bytes(range(256)) * 8}
    valid = build_zip(files, zipfile.ZIP_STORED)
    image, manifest = valid.index(bytes(range(256))) + 40, valid.index(b'"label"')
    path = tmp_path / "data"
    path.write_bytes(valid[:image] + b"?" + valid[image + 1 :])
    [row] = rows.read_rows(path, {}, FIELDS, "image")
    assert isinstance(row, RawRow)
    assert row.file == "cats/1.png"
    with pytest.raises(InvalidInput, match="damaged"):
        row.value["image"].read()
    assert read_rows(valid[:manifest] + b"?" + valid[manifest + 1 :]) == [(None, "archive")]
    assert read_rows(valid[:-60]) == [(None, "archive")]


def test_a_zip_is_rejected_if_rows_cannot_name_files(read_rows: ReadRows) -> None:
    for content in (build_zip(IMAGE_FILES), build_zip({})):
        assert read_rows(content, None) == [(1, "compressed")]


def test_files_are_read_from_the_zip_on_demand(tmp_path: Path) -> None:
    """Nothing is unpacked or held in memory: the bytes stay in the file."""
    path = tmp_path / "data"
    path.write_bytes(build_zip({"rows.jsonl": MANIFEST_LINE * 3, **IMAGE_FILES}))
    contents = [row.value["image"] for row in rows.read_rows(path, {}, FIELDS, "image") if isinstance(row, RawRow)]
    assert [content.read() for content in contents] == [b"C"] * 3
    assert list(tmp_path.iterdir()) == [path]


def test_every_message_says_what_to_do_and_can_be_shown(tmp_path: Path) -> None:
    path = tmp_path / "data"
    for name in ("../\x1b[31m\n.png", "/" + "a" * 5000, "\u202e/..", "top\x07.png"):
        path.write_bytes(build_zip({name: b"C"}))
        [error] = [entry for entry in rows.read_rows(path, {}, FIELDS, "image") if isinstance(entry, RowError)]
        assert error.message.isprintable()
        assert 15 < len(error.message) < 300


VALID_ZIP = build_zip({"rows.jsonl": MANIFEST_LINE, **IMAGE_FILES})


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(VALID_ZIP)), st.binary(max_size=8), st.integers(0, 8))
def test_no_bytes_crash_the_reader(tmp_path_factory: Any, at: int, noise: bytes, removed: int) -> None:
    path = tmp_path_factory.mktemp("zips") / "data"
    path.write_bytes(b"PK\x03\x04" + (VALID_ZIP[:at] + noise + VALID_ZIP[at + removed :])[4:])
    for entry in rows.read_rows(path, {}, FIELDS, "image"):
        if isinstance(entry, RawRow) and isinstance(entry.value["image"], Content):
            try:
                entry.value["image"].read()
            except InvalidInput as error:
                assert error.code == "archive"  # noqa: PT017
