"""The wheel works in an environment with only its dependencies."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.api.stack import Stack

SDK = Path(__file__).resolve().parents[2] / "sdk"

PROGRAM = """
import importlib.util, sys
from luthier import Luthier
assert not any(importlib.util.find_spec(name) for name in ("api", "torch", "fastapi", "pydantic", "openai"))
with Luthier() as client:
    print([model.id for model in client.models.list()][0], client.files.upload(b"{}").bytes_)
"""


@pytest.mark.slow
def test_the_wheel_alone_is_enough(stack: Stack, tmp_path: Path) -> None:
    quiet = ["--quiet", "--disable-pip-version-check"]
    # Build a copy, because the build writes files next to its source.
    source = shutil.copytree(SDK, tmp_path / "sdk", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    subprocess.run([sys.executable, "-m", "pip", "wheel", *quiet, "--no-deps", "-w", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("luthier_sdk-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "luthier/py.typed" in names
    assert not [name for name in names if name.startswith(("codegen/", "tests/"))]
    venv = tmp_path / "empty"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    subprocess.run([venv / "bin" / "pip", "install", *quiet, wheel], check=True)
    environment = {"LUTHIER_BASE_URL": stack.url, "LUTHIER_API_KEY": stack.tenant.key, "PATH": "/usr/bin:/bin"}

    def out(*words: str | Path) -> str:
        ran = subprocess.run(words, env=environment, capture_output=True, text=True, cwd=tmp_path, check=True)
        return ran.stdout.strip()

    assert out(venv / "bin" / "python", "-W", "error", "-c", PROGRAM) == "starter 2"
    assert "starter" in out(venv / "bin" / "luthier", "models", "list")
    assert out(venv / "bin" / "luthier", "__complete", "mod") == "models"
    installed = {line.split("==")[0].split(" ")[0].lower() for line in out(venv / "bin" / "pip", "freeze").splitlines()}
    assert installed == {
        "luthier-sdk",
        "httpx",
        "httpcore",
        "h11",
        "anyio",
        "idna",
        "certifi",
        "attrs",
        "typing_extensions",
    }
