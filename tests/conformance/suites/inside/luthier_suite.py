"""Pytest plugin for the client's own tests: row resets, known differences, output as JSON lines.

It runs in the client's environment and imports only ``openai``, pytest and the standard library.
"""

from __future__ import annotations

import http.client
import json
import os
import platform
from collections import Counter
from collections.abc import Generator, Sequence
from fnmatch import fnmatchcase
from typing import Any

import openai
import pytest


class SuitePlugin:
    """Recorder of the outcome of each test.

    ``differences`` are ``(pattern, message, reason)``: a test that matches the pattern must fail
    with ``message`` in its failure. Passing, or failing for another reason, counts as a failure.
    """

    def __init__(self, reset_address: str, differences: Sequence[Sequence[str]]) -> None:
        self._reset_address = reset_address
        self._differences = differences
        self._outcomes: dict[str, dict[str, str]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        connection = http.client.HTTPConnection(self._reset_address, timeout=30)
        try:
            connection.request("POST", "/")
            assert connection.getresponse().status == 204, "the server did not reset its rows"
        finally:
            connection.close()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        self._record_outcome(item.nodeid, report, str(call.excinfo.value) if call.excinfo else "")
        return report

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._outcomes[report.nodeid] = {"outcome": "failed", "detail": str(report.longrepr)[-600:]}

    def _record_outcome(self, name: str, report: pytest.TestReport, error: str) -> None:
        if report.skipped:
            self._outcomes[name] = {"outcome": "absent", "detail": error, "by": error}
        elif report.failed or report.when == "call":
            self._outcomes[name] = self._compare_with_differences(name, report, error)

    def _compare_with_differences(self, name: str, report: pytest.TestReport, error: str) -> dict[str, str]:
        # Brackets have a meaning in patterns.
        test_name = name.replace("[", "(").replace("]", ")")
        difference = next((entry for entry in self._differences if fnmatchcase(test_name, f"*{entry[0]}")), None)
        if difference is None:
            failure = {"outcome": "failed", "detail": f"{report.when}: {error}"[:600]}
            return failure if report.failed else {"outcome": "passed"}
        pattern, message, reason = difference
        if report.failed and message in error:
            return {"outcome": "absent", "detail": reason, "by": pattern}
        return {"outcome": "failed", "detail": f"expected {message!r} for {pattern}: {report.outcome} {error}"[:600]}

    def pytest_sessionfinish(self) -> None:
        outcomes = self._outcomes
        for name, outcome in outcomes.items():
            if outcome["outcome"] == "failed":
                print("\n" + json.dumps({"check": name, **outcome}), end="")
        absent = Counter(
            (outcome["by"], outcome["detail"]) for outcome in outcomes.values() if outcome["outcome"] == "absent"
        )
        for (pattern, reason), count in absent.items():
            detail = {"outcome": "absent", "detail": f"{reason} ({count})"}
            print("\n" + json.dumps({"check": pattern, **detail}), end="")
        counts = Counter(outcome["outcome"] for outcome in outcomes.values())
        summary: dict[str, Any] = {"client": f"openai {openai.__version__}, its own tests"}
        summary |= {"on": f"Python {platform.python_version()}"}
        print("\n" + json.dumps(summary | {name: counts[name] for name in ("passed", "failed", "absent")}))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(SuitePlugin(**json.loads(os.environ["LUTHIER_SUITE"])))
