"""What `make sdk` writes is what it would write today."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from codegen.generated_client import generate, readable, stamp
from codegen.openapi_document import document
from codegen.pages import PAGES
from codegen.paths import DOCS, DOCUMENT, GENERATED, PACKAGE, REQUIREMENTS, SDK, STAMP
from codegen.sync_client import TWIN, translated, twins

AGAIN = "run `make sdk`"
BY_HAND = [path for path in sorted(PACKAGE.rglob("*.py")) if GENERATED not in path.parents] + sorted(
    (SDK / "codegen").glob("*.py")
)


def test_the_document_is_the_servers() -> None:
    assert DOCUMENT.read_text() == document(), AGAIN


def test_the_generated_package_is_made_of_the_document_and_not_edited() -> None:
    assert STAMP.read_text() == stamp(), AGAIN


def test_the_twins_are_made_of_their_source() -> None:
    made = twins()
    assert sorted(made) == sorted(TWIN.glob("*.py"))
    for path, text in made.items():
        assert path.read_text() == text, AGAIN


@pytest.mark.parametrize("name", sorted(PAGES))
def test_the_pages_are_made_of_the_code(name: str) -> None:
    assert (DOCS / name).read_text() == PAGES[name](), AGAIN


@pytest.mark.slow
def test_the_generator_makes_the_same_package_again(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "generator"], check=True)
    pip = [tmp_path / "generator" / "bin" / "python", "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--disable-pip-version-check", "-r", REQUIREMENTS], check=True)
    generate(tmp_path / "generator" / "bin" / "openapi-python-client", tmp_path / "made")
    assert _texts(tmp_path / "made") == _texts(GENERATED)


def _texts(package: Path) -> dict[str, str]:
    return {path.relative_to(package).as_posix(): path.read_text() for path in package.rglob("*.py")}


@pytest.mark.parametrize(
    ("source", "twin"),
    [
        ("async def f(x: AsyncHTTP) -> AsyncIterator[int]:", "def f(x: HTTP) -> Iterator[int]:"),
        ("    async with await a.aread() as b:", "    with a.read() as b:"),
        ("    async for x in y: await asleep(1)", "    for x in y: sleep(1)"),
        ("from luthier._async.http import AsyncHTTP", "from luthier._sync.http import HTTP"),
        ("asynchronous, awaited, Async", "asynchronous, awaited, Async"),
    ],
)
def test_a_twin_is_its_source_without_the_waiting(source: str, twin: str) -> None:
    assert translated(source) == twin


def test_a_number_or_auto_keeps_both() -> None:
    schema = {"anyOf": [{"type": "integer"}, {"const": "auto", "type": "string"}], "const": "kept"}
    assert readable(schema) == {"anyOf": [{"type": "integer"}, {"enum": ["auto"], "type": "string"}], "const": "kept"}


@pytest.mark.parametrize("path", BY_HAND, ids=lambda path: path.relative_to(SDK).as_posix())
def test_the_hand_written_part_is_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name
    if PACKAGE in path.parents:
        imported = re.findall(r"^\s*(?:from|import) (\w+)", text, re.M)
        assert not {"api", "jobs", "inference", "training", "storage", "deploy", "openai"} & set(imported)
        assert ("os.environ" in text) == (path.name == "_config.py")
