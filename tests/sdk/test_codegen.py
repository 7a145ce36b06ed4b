"""The committed output of `make sdk` is up to date."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from codegen.generated_client import compute_stamp, generate, patch_document
from codegen.openapi_document import build_openapi_document
from codegen.pages import PAGES
from codegen.paths import DOCS, GENERATED, GENERATOR_REQUIREMENTS, OPENAPI_DOCUMENT, PACKAGE, SDK, STAMP
from codegen.sync_client import SYNC_PACKAGE, convert_to_sync, render_sync_modules

REGENERATE_HINT = "run `make sdk`"
HANDWRITTEN_FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if GENERATED not in path.parents] + sorted(
    (SDK / "codegen").glob("*.py")
)


def test_the_document_is_the_servers() -> None:
    assert OPENAPI_DOCUMENT.read_text() == build_openapi_document(), REGENERATE_HINT


def test_the_generated_package_comes_from_the_document_unedited() -> None:
    assert STAMP.read_text() == compute_stamp(), REGENERATE_HINT


def test_the_sync_client_comes_from_its_source() -> None:
    modules = render_sync_modules()
    assert sorted(modules) == sorted(SYNC_PACKAGE.glob("*.py"))
    for path, text in modules.items():
        assert path.read_text() == text, REGENERATE_HINT


@pytest.mark.parametrize("name", sorted(PAGES))
def test_the_pages_come_from_the_code(name: str) -> None:
    assert (DOCS / name).read_text() == PAGES[name](), REGENERATE_HINT


@pytest.mark.slow
def test_the_generator_reproduces_the_package(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "generator"], check=True)
    pip = [tmp_path / "generator" / "bin" / "python", "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--disable-pip-version-check", "-r", GENERATOR_REQUIREMENTS], check=True)
    generate(tmp_path / "generator" / "bin" / "openapi-python-client", tmp_path / "package")
    assert _read_texts(tmp_path / "package") == _read_texts(GENERATED)


def _read_texts(package: Path) -> dict[str, str]:
    return {path.relative_to(package).as_posix(): path.read_text() for path in package.rglob("*.py")}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("async def f(x: AsyncHTTP) -> AsyncIterator[int]:", "def f(x: HTTP) -> Iterator[int]:"),
        ("    async with await a.aread() as b:", "    with a.read() as b:"),
        ("    async for x in y: await async_sleep(1)", "    for x in y: sleep(1)"),
        ("from luthier._async.http import AsyncHTTP", "from luthier._sync.http import HTTP"),
        ("asynchronous, awaited, Async", "asynchronous, awaited, Async"),
    ],
)
def test_the_sync_client_is_its_source_without_async(source: str, expected: str) -> None:
    assert convert_to_sync(source) == expected


def test_a_number_or_auto_keeps_both() -> None:
    schema = {"anyOf": [{"type": "integer"}, {"const": "auto", "type": "string"}], "const": "kept"}
    assert patch_document(schema) == {
        "anyOf": [{"type": "integer"}, {"enum": ["auto"], "type": "string"}],
        "const": "kept",
    }


@pytest.mark.parametrize("path", HANDWRITTEN_FILES, ids=lambda path: path.relative_to(SDK).as_posix())
def test_the_handwritten_code_is_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name
    if PACKAGE in path.parents:
        imported = re.findall(r"^\s*(?:from|import) (\w+)", text, re.M)
        assert not {"api", "jobs", "inference", "training", "storage", "deploy", "openai"} & set(imported)
        assert ("os.environ" in text) == (path.name == "_config.py")
