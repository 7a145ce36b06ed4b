"""Data files: what is read, and for what cannot be, the line and the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.readers import rows
from training.readers.rows import Bad, Record

WANTED = {"text": True, "label": True, "text_pair": False}
GOOD = b'{"text": "a", "label": "x"}'


@pytest.fixture
def reading(tmp_path: Path) -> Callable[..., list[tuple[int | None, Any]]]:
    def read(content: bytes, **columns: str) -> list[tuple[int | None, Any]]:
        path = tmp_path / "data"
        path.write_bytes(content)
        entries = rows.read(path, columns, WANTED)
        return [(one.line, one.value if isinstance(one, Record) else one.code) for one in entries]

    return read


AX = {"text": "a", "label": "x"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (GOOD, [(1, AX)]),
        (GOOD + b"\n\n \n" + GOOD + b"\r\n", [(1, AX), (4, AX)]),
        (b"\xef\xbb\xbf\n" + GOOD, [(2, AX)]),
        ('{"text": "\u2028\u0085\x1c\u2029"}'.replace("\x1c", "").encode(), [(1, {"text": "\u2028\u0085\u2029"})]),
        (b"[" + GOOD + b",\n\n" + GOOD + b"\n]\n", [(1, AX), (3, AX)]),
        (b"[]", []),
        (b'\n[\n{\n"text": "]}"\n}\n]', [(3, {"text": "]}"})]),
        (b"text,label\na,x\n", [(2, AX)]),
        (b"\xef\xbb\xbftext,label\r\na,x\r\n", [(2, AX)]),
        (b'text,label\n"two\nlines ""q""",x\n\na,x', [(2, {"text": 'two\nlines "q"', "label": "x"}), (5, AX)]),
        (b"id,text,label,text_pair\n1,a,x,\n2,a,x,b", [(2, AX), (3, AX | {"text_pair": "b"})]),
        (b"text,label\n=cmd|calc,x", [(2, {"text": "=cmd|calc", "label": "x"})]),
        ("text,label\nnaïve \u2028 ünï,x".encode(), [(2, {"text": "naïve \u2028 ünï", "label": "x"})]),
    ],
)
def test_good_files(reading: Any, content: bytes, expected: list[Any]) -> None:
    assert reading(content) == expected


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
    "line_ending": [GOOD + b"\r" + GOOD],
    "bom": [b"\xef\xbb\xbf" + GOOD],
}


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("before", [1, 3])
@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize(
    ("code", "defect"), [(code, defect) for code, defects in JSON_DEFECTS.items() for defect in defects]
)
def test_a_bad_jsonl_line_is_named_and_the_others_are_read(
    reading: Any, code: str, defect: bytes, before: int, after: int, ending: bytes
) -> None:
    content = ending.join([GOOD] * before + [defect] + [GOOD] * after)
    expected = [(line + 1, AX) for line in range(before)]
    expected += [(before + 1, code)]
    expected += [(before + 2 + line, AX) for line in range(after)]
    assert reading(content) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", [(None, "empty_file")]),
        (b" \n\r\n\t", [(None, "empty_file")]),
        (b"\xef\xbb\xbf", [(None, "empty_file")]),
        (b"\x1f\x8b\x08\x00", [(1, "compressed")]),
        (b"PK\x03\x04rest", [(1, "compressed")]),
        (b"PAR1rest", [(1, "compressed")]),
        (GOOD.decode().encode("utf-16"), [(1, "encoding")]),
        (b'{\n"text": "a"\n}', [(1, "json"), (2, "json"), (3, "json")]),
        (b"[" + GOOD + b"\n" + GOOD + b"]", [(1, AX), (2, "json")]),
        (b"[" + GOOD + b",\n1,\n" + GOOD + b"]", [(1, AX), (2, "not_object"), (3, AX)]),
        (b"[" + GOOD + b',\n{"a": NaN}]', [(1, AX), (2, "number")]),
        (b"[" + GOOD + b",\n" + GOOD, [(1, AX), (2, AX), (2, "json")]),
        (b"[" + GOOD + b"]\nmore", [(1, AX), (2, "json")]),
        (b"[" + GOOD + b",\n\xff]", [(1, "encoding")]),
        (b'[\n{"a": "' + b"a" * (3 << 20) + b'"}]', [(2, "line_too_long")]),
        (b"text\na", [(1, "missing_column")]),
        (b"text,label,text\na,b,c", [(1, "duplicate_column")]),
        (b"text;label\na;b", [(1, "missing_column")]),
        (b"text,label\na\nb,c,d\na,x", [(2, "missing_cells"), (3, "extra_cells"), (4, AX)]),
        (b'text,label\na,x\n"open,x\na,x\n', [(2, AX), (3, "csv")]),
        (b'text,label\n"a"b,x\n', [(2, "csv")]),
        (b"text,label\na,x\ra,x\n", [(2, "line_ending")]),
        (b"text,label\na\x00,x\n", [(2, "nul")]),
        (b"text,label\na,x\n\xff,x\n", [(2, AX), (3, "encoding")]),
    ],
)
def test_bad_files(reading: Any, content: bytes, expected: list[Any]) -> None:
    assert reading(content) == expected


def test_columns_rename_keys_and_headers(reading: Any) -> None:
    mapped = {"label": "category"}
    assert reading(b'{"text": "a", "category": "x"}', **mapped) == [(1, AX)]
    assert reading(b'{"text": "a", "label": "y", "category": "x"}', **mapped) == [(1, AX)]
    assert reading(b'{"text": "a", "label": "y"}', **mapped) == [(1, "missing_field")]
    assert reading(b"text,category\na,x", **mapped) == [(2, AX)]
    assert reading(b"text,label\na,x", **mapped) == [(1, "missing_column")]
    assert reading(b"text,label\na,x", text_pair="other") == [(1, "missing_column")]


def test_every_message_says_what_to_do(tmp_path: Path) -> None:
    for defects in JSON_DEFECTS.values():
        path = tmp_path / "data"
        path.write_bytes(GOOD + b"\n" + defects[0])
        [bad] = [one for one in rows.read(path, {}, WANTED) if isinstance(one, Bad)]
        assert len(bad.message) > 15
        assert bad.message.isprintable()
        assert len(bad.message) < 300


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
def test_what_json_writes_is_read_back(tmp_path_factory: Any, values: list[Any], ascii_only: bool) -> None:
    path = tmp_path_factory.mktemp("rows") / "data"
    lines = [json.dumps(value, ensure_ascii=ascii_only) for value in values]
    path.write_text("\n".join(lines), encoding="utf-8", newline="")
    assert [one.value for one in rows.read(path, {}, WANTED)] == values  # type: ignore[union-attr]
    path.write_text(json.dumps(values, indent=1), encoding="utf-8")
    assert [one.value for one in rows.read(path, {}, WANTED)] == values  # type: ignore[union-attr]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 100), st.sampled_from([b"{", b"[", b"text,label\n", GOOD + b"\n"]))
def test_no_bytes_crash_the_reader(tmp_path_factory: Any, noise: bytes, at: int, start: bytes) -> None:
    path = tmp_path_factory.mktemp("rows") / "data"
    whole = start + (GOOD + b"\n") * 3
    path.write_bytes(whole[:at] + noise + whole[at:])
    assert all(isinstance(one, (Record, Bad)) for one in rows.read(path, {}, WANTED))
