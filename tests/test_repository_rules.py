"""The house itself: what CONTRIBUTING.md promises, held against the code."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import docs_tables

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ["api", "jobs", "inference", "training", "storage", "deploy"]
FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
NAMES = [path.relative_to(ROOT).as_posix() for path in FILES]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_rooms_are_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300
    if "migrations/versions" in path.as_posix():
        return
    for function in functions(path):
        assert (function.end_lineno or 0) - function.lineno + 1 <= 60, function.name
        arguments = function.args
        assert len(arguments.args) + len(arguments.kwonlyargs) + len(arguments.posonlyargs) <= 9, function.name


def test_one_file_reads_the_environment() -> None:
    reading = [
        name for path, name in zip(FILES, NAMES, strict=True) if re.search(r"\bos\.(environ|getenv)", path.read_text())
    ]
    assert reading == ["storage/settings.py"]


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_nothing_loads_what_could_run(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"^\s*(import|from) (pickle|dill|cloudpickle|joblib)\b", text, re.M)
    assert "torch.load(" not in text
    assert "trust_remote_code=True" not in text
    assert not re.search(r"\b(eval|exec)\(", text.replace(".eval(", ""))


def test_no_function_imports_a_room() -> None:
    rooms = {*ROOMS}
    for path in FILES:
        for function in functions(path):
            for node in ast.walk(function):
                if isinstance(node, ast.ImportFrom):
                    assert (node.module or "").partition(".")[0] not in rooms, f"{path}: {function.name}"


def test_the_api_loads_every_task_and_no_torch() -> None:
    code = (
        "import sys, api.app; from training.tasks import TASKS; "
        "heavy = {'torch', 'transformers', 'peft', 'llguidance'} & set(sys.modules); "
        "print(sorted(TASKS), sorted(heavy))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ran.stdout.strip().endswith("[]"), ran.stdout
    assert "chat" in ran.stdout
    assert "text-classification" in ran.stdout


@pytest.mark.parametrize("name", sorted(docs_tables.PAGES))
def test_generated_pages_are_up_to_date(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == docs_tables.PAGES[name](), "run `make docs`"


def test_the_readmes_commands_are_the_makefiles() -> None:
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, re.M))
    named = set(re.findall(r"`make (?:CPU=1 )?([a-z0-9-]+)", readme)) | set(
        re.findall(r"^make ([a-z0-9-]+)", readme, re.M)
    )
    assert named <= targets
    assert {"quickstart", "test", "up"} <= named
    first_block = readme.split("```")[1]
    assert [line.split()[1] for line in first_block.splitlines() if line.startswith("make")] == ["quickstart", "test"]
    documented = set(" ".join(re.findall(r"^\.PHONY: (.*)$", makefile, re.M)).split())
    assert documented == targets - {".PHONY"}
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_the_readmes_map_names_every_room() -> None:
    mapped = re.findall(r"^\| `(\w+)/` \|", (ROOT / "README.md").read_text(), re.M)
    ignored = {"build", "dist"}
    present = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith((".", "_"))}
    assert set(mapped) == {name for name in present if not name.endswith(".egg-info")} - ignored


def test_links_between_documents_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_changelog_names_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[\[<>=]", line)[0].lower().replace("_", "-") for line in wanted}
    pinned = {
        line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    assert names <= pinned
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text()
