"""Hooks of schemathesis for this API: existing ids, valid reasons to reject a request, and counts.

Loaded by schemathesis itself (``SCHEMATHESIS_HOOKS``); :mod:`tests.conformance.fuzz` starts it.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import schemathesis

ID_POOL: dict[str, list[str]] = json.loads(os.environ["CONFORMANCE_POOL"])
"""Name of a path parameter or body field -> ids of existing objects."""

COUNTS_PATH = Path(os.environ["CONFORMANCE_COUNTS"])

SCHEMA_ERROR_CODES = frozenset({"unknown_parameter", "missing_required_parameter"})
"""Codes that a request which matches the schema must not get: the schema would be wrong."""
CONDITIONAL_PARAMS = re.compile(r"messages\.\d+\.(content|tool_call_id)|model")
"""Parameters that another field requires or replaces, which the schema states only in prose.

A message's ``role`` decides the first ones. A job's ``from_checkpoint`` replaces ``model``."""

_request_counts: Counter[str] = Counter()
_status_counts: dict[int, Counter[str]] = {}


def _replace_with_existing_id(name: str, value: Any) -> Any:
    """Replace three of four generated ids with existing ones."""
    pool = ID_POOL.get(name)
    if not pool or not isinstance(value, str) or not 1 <= len(value) <= 256:
        return value
    if value in ID_POOL["own"]:
        # Without their own project and key, all later requests would get a 401.
        return pool[0]
    if value in pool or any(value.startswith(_get_prefix(known_id)) for known_id in pool):
        # An earlier request of a scenario created or deleted it.
        return value
    checksum = zlib.crc32(value.encode("utf-8", "replace"))
    return pool[checksum % len(pool)] if checksum % 4 else value


def _get_prefix(value: str) -> str:
    """Return the prefix of an id (``file-`` of ``file-abc``), or a name without a prefix itself."""
    for separator in ("-", "_", ":"):
        prefix, matched, _ = value.partition(separator)
        if matched:
            return prefix + matched
    return value


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    if isinstance(case.path_parameters, dict):
        for name, value in list(case.path_parameters.items()):
            case.path_parameters[name] = _replace_with_existing_id(name, value)
        job_id = case.path_parameters.get("job_id", "")
        if case.operation.path.endswith("/stream") and job_id.startswith("ftjob-"):
            # Without a worker, no other job ends, and neither would its stream.
            case.path_parameters["job_id"] = ID_POOL["job_id"][0]
    if isinstance(case.body, dict):
        for name, value in list(case.body.items()):
            case.body[name] = _replace_with_existing_id(name, value)


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    _request_counts[case.operation.label] += 1
    _status_counts.setdefault(response.status_code, Counter())[case.operation.label] += 1


@schemathesis.check
def positive_data_rejection_reason(ctx: Any, response: Any, case: Any) -> None:
    """A request that matches the schema may be rejected, but not for its fields or missing
    parameters."""
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code != 400:
        return
    error = response.json()["error"]
    conditional = CONDITIONAL_PARAMS.fullmatch(error["param"] or "")
    assert conditional or error["code"] not in SCHEMA_ERROR_CODES, (
        f"{error['code']} ({error['param']}) contradicts the schema, which allows the request"
    )


@atexit.register
def _write_counts() -> None:
    statuses = {status: dict(counter) for status, counter in sorted(_status_counts.items())}
    COUNTS_PATH.write_text(
        json.dumps({"requests": _request_counts.total(), "operations": dict(_request_counts), "statuses": statuses})
    )
