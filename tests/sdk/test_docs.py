"""The pages' programs run, and say what the pages say."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from luthier.cli.table import COMMANDS
from tests.api.stack import Stack
from tests.sdk.simulated_worker import run_worker

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
ROWS = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n' * 10


@pytest.fixture
def working_directory(fresh_stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with rows, where programs find the server by themselves."""
    (tmp_path / "rows.jsonl").write_bytes(ROWS)
    monkeypatch.chdir(tmp_path)
    for name in ("LUTHIER", "OPENAI"):
        monkeypatch.setenv(f"{name}_BASE_URL", f"{fresh_stack.url}/v1")
        monkeypatch.setenv(f"{name}_API_KEY", fresh_stack.tenant.key)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY / "sdk"))
    monkeypatch.setattr("luthier._sync.jobs.sleep", lambda seconds: time.sleep(0.02))
    return tmp_path


@pytest.mark.parametrize("page", ["quickstart.md", "sdk/guide.md", "errors.md"])
def test_the_snippets_run_one_after_the_other(
    page: str, fresh_stack: Stack, working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known: dict[str, object] = {"__name__": "__main__"}
    with run_worker(fresh_stack):
        for number, code in enumerate(re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.M | re.S)):
            exec(compile(code, f"{page}[{number}]", "exec"), known)
    known["client"].close()  # type: ignore[attr-defined]
    said = capsys.readouterr().out
    assert {"quickstart.md": "You said How are you?.", "sdk/guide.md": "starter", "errors.md": "training_file"}[
        page
    ] in said


@pytest.mark.parametrize("program", ["with_openai", "with_luthier"])
def test_a_migrated_program_works(program: str, fresh_stack: Stack, working_directory: Path) -> None:
    command = [
        sys.executable,
        "-m",
        f"examples.moving.{program}",
        "gpt-4o-mini-2024-07-18",
        str(working_directory / "rows.jsonl"),
    ]
    with run_worker(fresh_stack):
        ran = subprocess.run([*command, "Hello"], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert ran.stdout == "You said Hello.\n"
    assert "succeeded" in ran.stderr


def test_links_lead_somewhere() -> None:
    for page in [*(DOCS / "sdk").glob("*.md"), REPOSITORY / "sdk" / "README.md"]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_command_that_a_page_types_exists() -> None:
    words = {command.name for command in COMMANDS} | {"completion bash", "completion fish"}
    for page in [*DOCS.glob("*.md"), *(DOCS / "sdk").glob("*.md")]:
        for typed in re.findall(r"^luthier ([a-z]+(?: [a-z]+)?)", page.read_text(), re.M):
            assert typed in words or typed.split()[0] in words, f"{page.name}: luthier {typed}"
