"""Wheels of the packages that a GPU machine may lack.

``python -m benchmarks.gpu.wheels`` downloads them into ``.gpu-wheels/``, pinned as in
``constraints.txt``, for the Python version and the platform of the GPU machine.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

REPOSITORY_ROOT = Path(__file__).resolve().parents[2]
WHEELS = REPOSITORY_ROOT / ".gpu-wheels"

PACKAGES = ("pydantic", "pytest", "pillow", "sacrebleu")
"""Packages that ``training``, ``inference`` and their tests import, beyond torch, transformers,
PEFT and what these need."""
EXCLUDED = ("numpy", "packaging", "regex")
"""Dependencies of these that torch or transformers bring too."""


def download(python_version: str, platforms: list[str]) -> None:
    """Download the wheels and replace those of an earlier call."""
    shutil.rmtree(WHEELS, ignore_errors=True)
    WHEELS.mkdir()
    target = ["--python-version", python_version, *(word for name in platforms for word in ("--platform", name))]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--dest", str(WHEELS)]
    constraints = ["--constraint", str(REPOSITORY_ROOT / "constraints.txt")]
    subprocess.run([*command, *target, *constraints, *PACKAGES], check=True)
    for name in EXCLUDED:
        for path in WHEELS.glob(f"{name}-*.whl"):
            path.unlink()


def unpack(directory: Path) -> None:
    """Unpack all wheels into ``directory``, which then belongs on ``PYTHONPATH``."""
    for path in sorted(WHEELS.glob("*.whl")):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(directory)


def main() -> None:
    parser = argparse.ArgumentParser(description="Download the wheels that a GPU machine may lack.")
    parser.add_argument("--python-version", default="3.12")
    parser.add_argument("--platform", action="append", help="default: x86-64 Linux")
    arguments = parser.parse_args()
    download(arguments.python_version, arguments.platform or ["manylinux_2_28_x86_64", "manylinux2014_x86_64"])
    paths = sorted(WHEELS.glob("*.whl"))
    megabytes = sum(path.stat().st_size for path in paths) / 1e6
    print(f"{len(paths)} wheels, {megabytes:.1f} MB, in {WHEELS.name}/; copy the folder with the repository.")


if __name__ == "__main__":
    main()
