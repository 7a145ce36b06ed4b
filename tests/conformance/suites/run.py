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

from tests.conformance.environments import CLIENT_REQUIREMENTS, PIP_ARGUMENTS, Result, create_environment, run_suite
from tests.conformance.suites.differences import DIFFERENCES
from tests.conformance.suites.server import run_suite_server

SUITES_DIRECTORY = Path(__file__).parent

TEST_REQUIREMENTS = ("pytest", "pytest-asyncio", "respx", "rich", "httpx-aiohttp")

# The suites' own options start more processes, which would take each other's rows away.
PYTEST_OPTIONS = ("-p", "luthier_suite", "-p", "no:terminal", "-p", "no:cacheprovider", "--override-ini=addopts=")

TEST_FILES = (
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

_EMBEDDINGS_TEST = "test_embeddings.py"


def run_suites(folder: Path) -> Iterator[Result]:
    for name, packages in CLIENT_REQUIREMENTS.items():
        python = create_environment(folder, name, [packages])
        if source := _download_source(python, folder / name / "source"):
            yield _run_client_tests(python, source)


def _download_source(python: Path, folder: Path) -> Path | None:
    """The root of the installed client's source distribution; None where that has no tests."""
    show = "import openai; print(openai.__version__)"
    version = subprocess.run([python, "-c", show], check=True, capture_output=True, text=True).stdout.strip()
    root = folder / f"openai-{version}"
    if not root.exists():
        print(f"fetching the tests of openai {version} …", flush=True)
        fetch = ("download", "--no-deps", "--no-binary", "openai", "--dest", folder, f"openai=={version}")
        subprocess.run([python, *PIP_ARGUMENTS, *fetch], check=True)
        with tarfile.open(next(folder.glob(f"openai-{version}.tar.gz"))) as archive:
            archive.extractall(folder, filter="data")
        if (root / "tests").exists():
            subprocess.run([python, *PIP_ARGUMENTS, "install", *TEST_REQUIREMENTS], check=True)
    return root if (root / "tests" / "api_resources").exists() else None


def _run_client_tests(python: Path, source: Path) -> Result:
    resources = source / "tests" / "api_resources"
    files = [file for name in TEST_FILES if (file := resources / name).exists()]
    with tempfile.TemporaryDirectory(prefix="luthier-") as home:
        writers = _find_models(*(file for file in files if file.name != _EMBEDDINGS_TEST))
        with run_suite_server(Path(home), writers, _find_models(resources / _EMBEDDINGS_TEST)) as place:
            environment = {
                **os.environ,
                "PYTHONPATH": str(SUITES_DIRECTORY / "inside"),
                "TEST_API_BASE_URL": place["url"],
                "LUTHIER_SUITE": json.dumps({"reset_address": place["reset_address"], "differences": DIFFERENCES}),
            }
            return run_suite([python, "-m", "pytest", *PYTEST_OPTIONS, *files], cwd=source, env=environment)


def _find_models(*files: Path) -> list[str]:
    """The models that these tests ask, for which the bases are to answer: every version names others."""
    found = {name for file in files for name in re.findall(r'\bmodel="([^"]+)"', file.read_text())}
    return sorted(found)
