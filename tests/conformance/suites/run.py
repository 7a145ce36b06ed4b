"""Runner of the clients' own tests, generated for every method, against a server with their rows.

The tests come with a client's source distribution. This repository contains none of them.
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

# The suites' own options start several processes, which would delete each other's rows.
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
"""Test files below ``api_resources`` for resources that Luthier serves, if the version has them.

The tests outside that folder are excluded because they send no requests."""

_EMBEDDINGS_TEST = "test_embeddings.py"


def run_suites(folder: Path) -> Iterator[Result]:
    for name, packages in CLIENT_REQUIREMENTS.items():
        python = create_environment(folder, name, [packages])
        if source := _download_source(python, folder / name / "source"):
            yield _run_client_tests(python, source)


def _download_source(python: Path, folder: Path) -> Path | None:
    """Return the root of the installed client's source distribution, or None if it has no tests."""
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
        generative_models = _find_models(*(file for file in files if file.name != _EMBEDDINGS_TEST))
        with run_suite_server(Path(home), generative_models, _find_models(resources / _EMBEDDINGS_TEST)) as urls:
            environment = {
                **os.environ,
                "PYTHONPATH": str(SUITES_DIRECTORY / "inside"),
                "TEST_API_BASE_URL": urls["url"],
                "LUTHIER_SUITE": json.dumps({"reset_address": urls["reset_address"], "differences": DIFFERENCES}),
            }
            return run_suite([python, "-m", "pytest", *PYTEST_OPTIONS, *files], cwd=source, env=environment)


def _find_models(*files: Path) -> list[str]:
    """Return the models that these tests name, to be aliases of the bases. Versions name different
    models."""
    models = {name for file in files for name in re.findall(r'\bmodel="([^"]+)"', file.read_text())}
    return sorted(models)
