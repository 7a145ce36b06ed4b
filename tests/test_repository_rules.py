"""Rules of the repository: the promises of CONTRIBUTING.md, checked against the code."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import docs_tables

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ["api", "jobs", "inference", "training", "storage", "deploy"]
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
NAMES = [path.relative_to(ROOT).as_posix() for path in FILES]

PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "sdk" / "README.md",
    ROOT / "examples" / "data" / "README.md",
]
PAGE_NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]
TOP_LEVEL = [*PACKAGES, "sdk", "tests", "benchmarks", "examples", "models", "docs"]
BANNED_PHRASES = re.compile(
    r"\b(?:for ever|anew|nobody|whoever|meanwhile|so many|doorbell|"
    r"behaviours?|colours?|licences?|favours?|(?:initial|normal|optim|recogn|serial|summar|token)is(?:e[ds]?|ing|ation))\b",
    re.I,
)
"""Private phrases and British spellings."""
RIDDLE = re.compile(r"\W*(?:What|Where|Who|Which|Whether|How|Whatever|Whoever)\b")
"""Openings of a docstring that asks instead of naming the thing."""
BANNED_MODULES = {
    *("wishes", "closing", "lane", "exchange", "patience", "spread", "following", "continuing", "owned"),
    *("rooms", "outlook", "tidy", "warm", "anatomy", "trunk", "seams", "survey"),
}
MAX_PACKAGE_FILES = 16
SOURCES = [
    path
    for top in (*PACKAGES, "benchmarks", "examples", "sdk", "tests")
    for path in sorted((ROOT / top).rglob("*.py"))
    # Generated from OpenAPI, generated from `_async`, and the build's copies.
    if not {"_generated", "_sync", "build"} & set(path.relative_to(ROOT).parts)
]
SOURCE_NAMES = [path.relative_to(ROOT).as_posix() for path in SOURCES]


def iter_functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_files_and_functions_are_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300
    if "migrations/versions" in path.as_posix():
        return
    for function in iter_functions(path):
        assert (function.end_lineno or 0) - function.lineno + 1 <= 60, function.name
        arguments = function.args
        assert len(arguments.args) + len(arguments.kwonlyargs) + len(arguments.posonlyargs) <= 9, function.name


def test_no_module_has_a_private_name() -> None:
    stems = {path.stem.removeprefix("test_").strip("_") for path in SOURCES}
    assert not (stems | {path.parent.name for path in SOURCES}) & BANNED_MODULES


def test_packages_have_few_files_at_their_top() -> None:
    counts = Counter(path.parent.relative_to(ROOT).as_posix() for path in SOURCES)
    assert {name: count for name, count in counts.items() if count > MAX_PACKAGE_FILES} == {}


def test_layers() -> None:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert finished.returncode == 0, finished.stdout


def iter_docstrings(tree: ast.Module) -> Iterator[str]:
    """Docstrings of modules, classes and functions, and the strings below attributes and
    constants."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else ():
            match statement:
                case ast.Expr(value=ast.Constant(value=str(docstring))):
                    yield docstring


def iter_comments(text: str) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


@pytest.mark.parametrize("path", SOURCES, ids=SOURCE_NAMES)
def test_docstrings_and_comments_use_the_fields_language(path: Path) -> None:
    text = path.read_text()
    docstrings = list(iter_docstrings(ast.parse(text)))
    assert not [docstring for docstring in docstrings if RIDDLE.match(docstring)]
    assert not [prose for prose in (*docstrings, *iter_comments(text)) if BANNED_PHRASES.search(prose)]


def test_one_file_reads_the_environment() -> None:
    reading = [
        name for path, name in zip(FILES, NAMES, strict=True) if re.search(r"\bos\.(environ|getenv)", path.read_text())
    ]
    assert reading == ["storage/settings.py"]


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_nothing_loads_executable_code(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"^\s*(import|from) (pickle|dill|cloudpickle|joblib)\b", text, re.M)
    assert "torch.load(" not in text
    assert "trust_remote_code=True" not in text
    assert not re.search(r"\b(eval|exec)\(", text.replace(".eval(", ""))


def test_no_function_imports_a_package() -> None:
    resources = {*PACKAGES}
    for path in FILES:
        for function in iter_functions(path):
            for node in ast.walk(function):
                if isinstance(node, ast.ImportFrom):
                    assert (node.module or "").partition(".")[0] not in resources, f"{path}: {function.name}"


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


def test_the_repository_layout_names_every_directory() -> None:
    layout = (ROOT / "docs" / "architecture.md").read_text().split("## Repository layout")[1].split("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)/` \|", layout, re.M)
    ignored = {"build", "dist", "site"}
    present = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith((".", "_"))}
    assert set(documented) == {name for name in present if not name.endswith(".egg-info")} - ignored


@pytest.mark.parametrize("page", PAGES, ids=PAGE_NAMES)
def test_links_lead_to_existing_files(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=PAGE_NAMES)
def test_prose_names_existing_paths(page: Path) -> None:
    for name in re.findall(rf"`((?:{'|'.join(TOP_LEVEL)})/[\w./*-]*)`", page.read_text()):
        assert list(ROOT.glob(name)), name


@pytest.mark.parametrize("page", PAGES, ids=PAGE_NAMES)
def test_prose_uses_the_fields_language(page: Path) -> None:
    assert not BANNED_PHRASES.findall(page.read_text())


def test_every_page_is_in_the_navigation() -> None:
    navigation = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert set(list_navigation(navigation)) == pages


def list_navigation(entry: Any) -> Iterator[str]:
    """Paths of the pages in an entry of the navigation."""
    if isinstance(entry, str):
        yield entry
    else:
        for child in entry.values() if isinstance(entry, dict) else entry:
            yield from list_navigation(child)


def test_pre_commit_runs_the_commands_of_make_lint() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = {hook["entry"].removeprefix(".venv/bin/") for repo in config["repos"] for hook in repo["hooks"]}
    makefile = (ROOT / "Makefile").read_text()
    targets = [re.search(rf"^{name}: .*\n((?:\t.*\n)+)", makefile, re.M) for name in ("lint", "docs-build")]
    commands = re.findall(r"\t\$\(BIN\)/(.*)", "".join(target[1] for target in targets if target))
    assert hooks == set(commands)


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
