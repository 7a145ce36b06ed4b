"""The clients' own tests, generated for every method, against a server that holds what they name.

The tests come with a client's source distribution and stay where pip puts it: nothing of them is in this repository.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.conformance.environments import CLIENTS, PIP, Result, environment_of, result_of
from tests.conformance.suites.differences import DIFFERENCES
from tests.conformance.suites.server import running

HERE = Path(__file__).parent

NEEDED = ("pytest", "pytest-asyncio", "respx", "rich", "httpx-aiohttp")

# The suites' own options start more processes, which would take each other's rows away.
OPTIONS = ("-p", "luthier_suite", "-p", "no:terminal", "-p", "no:cacheprovider", "--override-ini=addopts=")

RESOURCES = (
    "test_files.py",
    "test_uploads.py",
    "uploads/test_parts.py",
    "fine_tuning/test_jobs.py",
    "fine_tuning/jobs/test_checkpoints.py",
    "fine_tuning/checkpoints/test_permissions.py",
    "test_models.py",
    "test_batches.py",
    "chat/test_completions.py",
    "test_completions.py",
    "test_embeddings.py",
    "test_webhooks.py",
    "webhooks/test_event_types.py",
    "admin/organization/test_projects.py",
    "admin/organization/projects/test_api_keys.py",
    "admin/organization/test_audit_logs.py",
)
"""Below the suite's ``api_resources``: what Luthier serves, where the version has it. The tests of other resources are
left out, and so are those beside this folder: they ask no server."""

_EMBEDDINGS = "test_embeddings.py"


def suites(folder: Path) -> Iterator[Result]:
    for name, packages in CLIENTS.items():
        python = environment_of(folder, name, [packages])
        if source := _source(python, folder / name / "source"):
            yield _result(python, source)


def _source(python: Path, folder: Path) -> Path | None:
    """The root of the installed client's source distribution; None where that has no tests."""
    show = "import openai; print(openai.__version__)"
    version = subprocess.run([python, "-c", show], check=True, capture_output=True, text=True).stdout.strip()
    root = folder / f"openai-{version}"
    if not root.exists():
        print(f"fetching the tests of openai {version} …", flush=True)
        fetch = ("download", "--no-deps", "--no-binary", "openai", "--dest", folder, f"openai=={version}")
        subprocess.run([python, *PIP, *fetch], check=True)
        with tarfile.open(next(folder.glob(f"openai-{version}.tar.gz"))) as archive:
            archive.extractall(folder, filter="data")
        if (root / "tests").exists():
            subprocess.run([python, *PIP, "install", *NEEDED], check=True)
    return root if (root / "tests" / "api_resources").exists() else None


def _result(python: Path, source: Path) -> Result:
    resources = source / "tests" / "api_resources"
    files = [file for name in RESOURCES if (file := resources / name).exists()]
    with tempfile.TemporaryDirectory(prefix="luthier-") as home:
        writers = _models(*(file for file in files if file.name != _EMBEDDINGS))
        with running(Path(home), writers, _models(resources / _EMBEDDINGS)) as place:
            environment = {
                **os.environ,
                "PYTHONPATH": str(HERE / "inside"),
                "TEST_API_BASE_URL": place["url"],
                "LUTHIER_SUITE": json.dumps({"renew": place["renew"], "differences": DIFFERENCES}),
            }
            return result_of([python, "-m", "pytest", *OPTIONS, *files], cwd=source, env=environment)


def _models(*files: Path) -> list[str]:
    """The models that these tests ask, for which the bases are to answer: every version names others."""
    found = {name for file in files for name in re.findall(r'\bmodel="([^"]+)"', file.read_text())}
    return sorted(found)
