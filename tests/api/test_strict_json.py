"""The strict JSON loader accepts plain JSON and nothing else."""

from __future__ import annotations

import json
import math
import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.errors import InvalidRequest
from api.http.strict_json import loads
from tests.api import hostile_bodies
from tests.api.openapi_document import collect_examples, fetch_document, iter_operations
from tests.api.stack import Stack
from training.readers.strict_json import MAX_DEPTH as MAX_DEPTH

pytestmark = pytest.mark.integration

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)
@given(VALUES, st.booleans())
def test_json_output_is_read_back(value: Any, ascii_only: bool) -> None:
    assert loads(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=60) | st.text('[]{}",:\\u0d8 1eE-+.nNaIfty', max_size=40).map(str.encode))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        value = loads(data)
    except InvalidRequest:
        return
    # An encoder that rejects NaN can encode every accepted value.
    assert json.dumps(value, allow_nan=False, ensure_ascii=False).encode("utf-8")


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1])
def test_depth(depth: int) -> None:
    body = b"[" * depth + b"]" * depth
    if depth <= MAX_DEPTH:
        assert loads(body)
    else:
        with pytest.raises(InvalidRequest, match="nested"):
            loads(body)


def test_brackets_in_strings_are_no_depth() -> None:
    text = "[{" * 100 + '"\\'
    assert loads(json.dumps([text, {text: text}]).encode()) == [text, {text: text}]


def test_many_siblings_are_no_depth() -> None:
    assert len(loads(b"[" + b"[[]]," * 1000 + b"[]]")) == 1001


@pytest.mark.parametrize("number", ["9223372036854775807", "-9223372036854775808", "0", "-0"])
def test_integers_of_64_bits(number: str) -> None:
    assert loads(number.encode()) == int(number)


@pytest.mark.parametrize("number", ["9223372036854775808", "-9223372036854775809", "1" * 21])
def test_integers_beyond_64_bits(number: str) -> None:
    with pytest.raises(InvalidRequest, match="64 bits"):
        loads(number.encode())


def test_small_floats_are_accepted() -> None:
    assert loads(b"1e-400") == 0
    assert math.isclose(loads(b"2.5e-5"), 2.5e-5)


def test_surrogate_pairs_are_characters() -> None:
    assert loads(b'"\\ud83d\\ude00"') == "😀"


@pytest.mark.parametrize("body", [b'"' + b'\\"' * 500_000, b'["' * 500_000, b"\\" * 1_000_000])
def test_hostile_bodies_cost_no_more_than_others(body: bytes) -> None:
    start = time.perf_counter()
    with pytest.raises(InvalidRequest):
        loads(body)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("name", hostile_bodies.build_hostile_bodies({}))
def test_every_route_refuses_hostile_bodies(stack: Stack, name: str) -> None:
    document = fetch_document(stack)
    request_count = 0
    with stack.open_http() as http:
        for operation in iter_operations(document):
            if operation.method not in {"post", "put", "patch"}:
                continue
            takes_json = operation.json_body is not None
            valid_body = collect_examples(document, operation.json_body)[0] if operation.json_body else {}
            # None of the ids exists; the server reads a body before it looks them up.
            url = re.sub(r"\{[^}]+\}", "none", operation.path)
            headers = {"content-type": "application/json"}
            response = http.request(
                operation.method, url, content=hostile_bodies.build_hostile_bodies(valid_body)[name], headers=headers
            )
            may_be_unread = not takes_json or (name in hostile_bodies.EMPTY_BODIES and not operation.has_required_body)
            assert response.status_code in ({400, 404} if may_be_unread else {400}), (
                f"{operation}: {response.text[:300]}"
            )
            assert sorted(response.json()["error"]) == ["code", "message", "param", "type"]
            request_count += 1
    assert request_count > 5
