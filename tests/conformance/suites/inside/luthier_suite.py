"""A pytest plugin for the client's own tests: the server's rows anew before each, known differences, lines of JSON.

It runs in the client's environment, with pytest and the standard library and nothing of ours.
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
    """What came of each test. ``differences`` are ``(pattern, said, why)``: a test that fits the pattern is to fail
    with ``said`` in its failure; that it passes, or fails for something else, is a failure of ours."""

    def __init__(self, reset_address: str, differences: Sequence[Sequence[str]]) -> None:
        self._reset_address = reset_address
        self._differences = differences
        self._outcomes: dict[str, dict[str, str]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        connection = http.client.HTTPConnection(self._reset_address, timeout=30)
        try:
            connection.request("POST", "/")
            assert connection.getresponse().status == 204, "the rows could not be renewed"
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
        # Brackets would be a pattern's own.
        plain = name.replace("[", "(").replace("]", ")")
        known = next((each for each in self._differences if fnmatchcase(plain, f"*{each[0]}")), None)
        if known is None:
            failed = {"outcome": "failed", "detail": f"{report.when}: {error}"[:600]}
            return failed if report.failed else {"outcome": "passed"}
        pattern, said, why = known
        if report.failed and said in error:
            return {"outcome": "absent", "detail": why, "by": pattern}
        return {"outcome": "failed", "detail": f"not as told of {pattern} ({said}): {report.outcome} {error}"[:600]}

    def pytest_sessionfinish(self) -> None:
        outcomes = self._outcomes
        for name, outcome in outcomes.items():
            if outcome["outcome"] == "failed":
                print("\n" + json.dumps({"check": name, **outcome}), end="")
        left = Counter((each["by"], each["detail"]) for each in outcomes.values() if each["outcome"] == "absent")
        for (pattern, why), count in left.items():
            detail = {"outcome": "absent", "detail": f"{why} ({count})"}
            print("\n" + json.dumps({"check": pattern, **detail}), end="")
        counts = Counter(each["outcome"] for each in outcomes.values())
        summary: dict[str, Any] = {"client": f"openai {openai.__version__}, its own tests"}
        summary |= {"on": f"Python {platform.python_version()}"}
        print("\n" + json.dumps(summary | {name: counts[name] for name in ("passed", "failed", "absent")}))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(SuitePlugin(**json.loads(os.environ["LUTHIER_SUITE"])))
