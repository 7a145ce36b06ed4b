"""The programs in the documentation run and print the documented output."""

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

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
ROWS = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n' * 10


@pytest.fixture
def working_directory(fresh_stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder with rows, in an environment that configures the server."""
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
    namespace: dict[str, object] = {"__name__": "__main__"}
    with run_worker(fresh_stack):
        for number, code in enumerate(re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.M | re.S)):
            exec(compile(code, f"{page}[{number}]", "exec"), namespace)
    namespace["client"].close()  # type: ignore[attr-defined]
    expected = {"quickstart.md": "You said How are you?.", "sdk/guide.md": "starter", "errors.md": "training_file"}
    assert expected[page] in capsys.readouterr().out


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
        result = subprocess.run([*command, "Hello"], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert result.stdout == "You said Hello.\n"
    assert "succeeded" in result.stderr


def test_links_have_targets() -> None:
    for page in [*(DOCS / "sdk").glob("*.md"), REPOSITORY / "sdk" / "README.md"]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_command_in_the_docs_exists() -> None:
    commands = {command.name for command in COMMANDS} | {"completion bash", "completion fish"}
    for page in [*DOCS.glob("*.md"), *(DOCS / "sdk").glob("*.md")]:
        for words in re.findall(r"^luthier ([a-z]+(?: [a-z]+)?)", page.read_text(), re.M):
            assert words in commands or words.split()[0] in commands, f"{page.name}: luthier {words}"
