"""Tests for readers of data files: rows, and line and code of errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.readers import rows
from training.readers.raw_rows import RawRow, RowError

FIELDS = {"text": True, "label": True, "text_pair": False}
VALID_LINE = b'{"text": "a", "label": "x"}'


@pytest.fixture
def read_rows(tmp_path: Path) -> Callable[..., list[tuple[int | None, Any]]]:
    def read(content: bytes, **columns: str) -> list[tuple[int | None, Any]]:
        path = tmp_path / "data"
        path.write_bytes(content)
        entries = rows.read_rows(path, columns, FIELDS)
        return [(entry.line, entry.value if isinstance(entry, RawRow) else entry.code) for entry in entries]

    return read


VALID_ROW = {"text": "a", "label": "x"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (VALID_LINE, [(1, VALID_ROW)]),
        (VALID_LINE + b"\n\n \n" + VALID_LINE + b"\r\n", [(1, VALID_ROW), (4, VALID_ROW)]),
        (b"\xef\xbb\xbf\n" + VALID_LINE, [(2, VALID_ROW)]),
        ('{"text": "\u2028\u0085\x1c\u2029"}'.replace("\x1c", "").encode(), [(1, {"text": "\u2028\u0085\u2029"})]),
        (b"[" + VALID_LINE + b",\n\n" + VALID_LINE + b"\n]\n", [(1, VALID_ROW), (3, VALID_ROW)]),
        (b"[]", []),
        (b'\n[\n{\n"text": "]}"\n}\n]', [(3, {"text": "]}"})]),
        (b"text,label\na,x\n", [(2, VALID_ROW)]),
        (b"\xef\xbb\xbftext,label\r\na,x\r\n", [(2, VALID_ROW)]),
        (b'text,label\n"two\nlines ""q""",x\n\na,x', [(2, {"text": 'two\nlines "q"', "label": "x"}), (5, VALID_ROW)]),
        (b"id,text,label,text_pair\n1,a,x,\n2,a,x,b", [(2, VALID_ROW), (3, VALID_ROW | {"text_pair": "b"})]),
        (b"text,label\n=cmd|calc,x", [(2, {"text": "=cmd|calc", "label": "x"})]),
        ("text,label\nnaïve \u2028 ünï,x".encode(), [(2, {"text": "naïve \u2028 ünï", "label": "x"})]),
    ],
)
def test_valid_files(read_rows: Any, content: bytes, expected: list[Any]) -> None:
    assert read_rows(content) == expected


JSON_DEFECTS = {
    "json": [
        b'{"text": "a", "label": }',
        b'{"text": "a"',
        b'{"text": "a"} {"text": "b"}',
        b'{"a": "\x01"}',
        b"{'a': 1}",
    ],
    "duplicate_key": [b'{"text": "a", "text": "b"}', b'{"m": [{"role": "user", "role": "system"}]}'],
    "number": [b'{"a": NaN}', b'{"a": -Infinity}', b'{"a": 1e400}', b'{"a": ' + b"9" * 5000 + b"}"],
    "surrogate": [b'{"a": "\\ud800"}', b'{"a": ["\\udc00\\ud800"]}', b'{"\\udfff": 1}'],
    "nul": [b'{"a": "\\u0000"}', b'{"a": "\x00"}'],
    "depth": [b'{"a":' * 33 + b"1" + b"}" * 33, b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"],
    "not_object": [b"[1, 2]", b'"text"', b"null", b"3"],
    "encoding": [b'{"a": "\xff"}', b'{"a": "\xc0\xaf"}', b'{"a": "\xed\xa0\x80"}'],
    "line_too_long": [b'{"a": "' + b"a" * (1 << 20) + b'"}'],
    "line_ending": [VALID_LINE + b"\r" + VALID_LINE],
    "bom": [b"\xef\xbb\xbf" + VALID_LINE],
}


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("before", [1, 3])
@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize(
    ("code", "defect"), [(code, defect) for code, defects in JSON_DEFECTS.items() for defect in defects]
)
def test_an_invalid_jsonl_line_is_named_and_the_others_are_read(
    read_rows: Any, code: str, defect: bytes, before: int, after: int, ending: bytes
) -> None:
    content = ending.join([VALID_LINE] * before + [defect] + [VALID_LINE] * after)
    expected = [(line + 1, VALID_ROW) for line in range(before)]
    expected += [(before + 1, code)]
    expected += [(before + 2 + line, VALID_ROW) for line in range(after)]
    assert read_rows(content) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", [(None, "empty_file")]),
        (b" \n\r\n\t", [(None, "empty_file")]),
        (b"\xef\xbb\xbf", [(None, "empty_file")]),
        (b"\x1f\x8b\x08\x00", [(1, "compressed")]),
        (b"PK\x03\x04rest", [(1, "compressed")]),
        (b"PAR1rest", [(1, "compressed")]),
        (VALID_LINE.decode().encode("utf-16"), [(1, "encoding")]),
        (b'{\n"text": "a"\n}', [(1, "json"), (2, "json"), (3, "json")]),
        (b"[" + VALID_LINE + b"\n" + VALID_LINE + b"]", [(1, VALID_ROW), (2, "json")]),
        (b"[" + VALID_LINE + b",\n1,\n" + VALID_LINE + b"]", [(1, VALID_ROW), (2, "not_object"), (3, VALID_ROW)]),
        (b"[" + VALID_LINE + b',\n{"a": NaN}]', [(1, VALID_ROW), (2, "number")]),
        (b"[" + VALID_LINE + b",\n" + VALID_LINE, [(1, VALID_ROW), (2, VALID_ROW), (2, "json")]),
        (b"[" + VALID_LINE + b"]\nmore", [(1, VALID_ROW), (2, "json")]),
        (b"[" + VALID_LINE + b",\n\xff]", [(1, "encoding")]),
        (b'[\n{"a": "' + b"a" * (3 << 20) + b'"}]', [(2, "line_too_long")]),
        (b"text\na", [(1, "missing_column")]),
        (b"text,label,text\na,b,c", [(1, "duplicate_column")]),
        (b"text;label\na;b", [(1, "missing_column")]),
        (b"text,label\na\nb,c,d\na,x", [(2, "missing_cells"), (3, "extra_cells"), (4, VALID_ROW)]),
        (b'text,label\na,x\n"open,x\na,x\n', [(2, VALID_ROW), (3, "csv")]),
        (b'text,label\n"a"b,x\n', [(2, "csv")]),
        (b"text,label\na,x\ra,x\n", [(2, "line_ending")]),
        (b"text,label\na\x00,x\n", [(2, "nul")]),
        (b"text,label\na,x\n\xff,x\n", [(2, VALID_ROW), (3, "encoding")]),
    ],
)
def test_invalid_files(read_rows: Any, content: bytes, expected: list[Any]) -> None:
    assert read_rows(content) == expected


def test_columns_rename_keys_and_headers(read_rows: Any) -> None:
    mapped = {"label": "category"}
    assert read_rows(b'{"text": "a", "category": "x"}', **mapped) == [(1, VALID_ROW)]
    assert read_rows(b'{"text": "a", "label": "y", "category": "x"}', **mapped) == [(1, VALID_ROW)]
    assert read_rows(b'{"text": "a", "label": "y"}', **mapped) == [(1, "missing_field")]
    assert read_rows(b"text,category\na,x", **mapped) == [(2, VALID_ROW)]
    assert read_rows(b"text,label\na,x", **mapped) == [(1, "missing_column")]
    assert read_rows(b"text,label\na,x", text_pair="other") == [(1, "missing_column")]


def test_every_message_says_what_to_do(tmp_path: Path) -> None:
    for defects in JSON_DEFECTS.values():
        path = tmp_path / "data"
        path.write_bytes(VALID_LINE + b"\n" + defects[0])
        [error] = [entry for entry in rows.read_rows(path, {}, FIELDS) if isinstance(entry, RowError)]
        assert len(error.message) > 15
        assert error.message.isprintable()
        assert len(error.message) < 300


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.dictionaries(st.text("ab", max_size=2), VALUES, max_size=3), min_size=1, max_size=5), st.booleans())
def test_written_json_is_read_back(tmp_path_factory: Any, values: list[Any], ascii_only: bool) -> None:
    path = tmp_path_factory.mktemp("rows") / "data"
    lines = [json.dumps(value, ensure_ascii=ascii_only) for value in values]
    path.write_text("\n".join(lines), encoding="utf-8", newline="")
    assert [row.value for row in rows.read_rows(path, {}, FIELDS)] == values  # type: ignore[union-attr]
    path.write_text(json.dumps(values, indent=1), encoding="utf-8")
    assert [row.value for row in rows.read_rows(path, {}, FIELDS)] == values  # type: ignore[union-attr]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 100), st.sampled_from([b"{", b"[", b"text,label\n", VALID_LINE + b"\n"]))
def test_no_bytes_crash_the_reader(tmp_path_factory: Any, noise: bytes, at: int, start: bytes) -> None:
    path = tmp_path_factory.mktemp("rows") / "data"
    content = start + (VALID_LINE + b"\n") * 3
    path.write_bytes(content[:at] + noise + content[at:])
    assert all(isinstance(entry, (RawRow, RowError)) for entry in rows.read_rows(path, {}, FIELDS))
