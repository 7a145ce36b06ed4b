"""Fixtures of the lives of models, and the record of their outcomes for docs/models.md."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.result import write_result
from tests.families.lifecycle import UPDATES
from tests.families.test_lives import FAMILIES
from training.trainer import device

RECORD_OPTION = "--record-lives"


@pytest.fixture(scope="session", autouse=True)
def _use_one_thread() -> None:
    """Use one thread, so that sums have the same order in every run of a life."""
    device.configure_torch(threads=1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(RECORD_OPTION, action="store_true", help="write benchmarks/results/models.json")


def pytest_configure(config: pytest.Config) -> None:
    # The workers of pytest-xdist have `workerinput`; only the controller sees every report.
    if config.getoption(RECORD_OPTION, default=False) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(LifeRecorder(), "life-recorder")


class LifeRecorder:
    """Plugin that collects the outcome of every life and writes them at the end."""

    def __init__(self) -> None:
        self._outcomes: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        _, _, case = report.nodeid.partition("test_lives.py::test_a_model_lives[")
        if case and (report.when == "call" or report.failed):
            self._outcomes[case.removesuffix("]")] = report.outcome

    def pytest_sessionfinish(self) -> None:
        families = {name: _describe_family(name, family, self._outcomes) for name, family in FAMILIES.items()}
        passed = sum(outcome == "passed" for outcome in self._outcomes.values())
        counts = {"passed": passed, "failed": len(self._outcomes) - passed}
        write_result("models", "make test-models", {**counts, "families": families})


def _describe_family(name: str, family: Any, outcomes: dict[str, str]) -> dict[str, Any]:
    """Describe a family as docs/models.md shows it."""
    template = getattr(family, "template", None)
    source = "written here" if getattr(family, "own_template", False) else "the family's own"
    passed = {case for case, outcome in outcomes.items() if outcome == "passed"}
    return {
        "title": family.title,
        "model_class": family.model_class,
        "template": source if template else None,
        "refused": dict(family.refused),
        "updates": {
            task: [update for update in UPDATES if f"{name}-{task}-{update}" in passed] for task in family.tasks
        },
    }
