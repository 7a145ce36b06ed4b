"""What schemathesis is told about this API: ids that exist, why a valid request may be refused, and who counts.

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
"""Name of a path parameter or of a body's field -> ids of things that are there."""

COUNTS_PATH = Path(os.environ["CONFORMANCE_COUNTS"])

SCHEMA_ERROR_CODES = frozenset({"unknown_parameter", "missing_required_parameter"})
"""Codes that a request which fits the schema cannot earn: the schema would be wrong."""
CONDITIONAL_PARAMS = re.compile(r"messages\.\d+\.(content|tool_call_id)|model")
"""Whether these are needed, another field says, which the schema leaves to words: a message's ``role``, and a job's
``from_checkpoint``, which names a model already."""

_request_counts: Counter[str] = Counter()
_status_counts: dict[int, Counter[str]] = {}


def _replace_with_existing_id(name: str, value: Any) -> Any:
    """An id that exists for three of four that were made up."""
    pool = ID_POOL.get(name)
    if not pool or not isinstance(value, str) or not 1 <= len(value) <= 256:
        return value
    if value in ID_POOL["own"]:
        # Without its own project and key every other request would be a 401.
        return pool[0]
    if value in pool or any(value.startswith(_get_prefix(each)) for each in pool):
        # What an earlier request of a scenario made or took away.
        return value
    chosen = zlib.crc32(value.encode("utf-8", "replace"))
    return pool[chosen % len(pool)] if chosen % 4 else value


def _get_prefix(value: str) -> str:
    """``file-`` of ``file-abc``; for a name without a prefix the whole."""
    for mark in ("-", "_", ":"):
        head, found, _ = value.partition(mark)
        if found:
            return head + found
    return value


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    if isinstance(case.path_parameters, dict):
        for name, value in list(case.path_parameters.items()):
            case.path_parameters[name] = _replace_with_existing_id(name, value)
        job = case.path_parameters.get("job_id", "")
        if case.operation.path.endswith("/stream") and job.startswith("ftjob-"):
            # No worker is here: a stream of any other job would tell that it still runs, for ever.
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
    """A request that fits the schema may ask for what is not there or cannot be, but is no slip of the pen."""
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code != 400:
        return
    error = response.json()["error"]
    by_others = CONDITIONAL_PARAMS.fullmatch(error["param"] or "")
    assert by_others or error["code"] not in SCHEMA_ERROR_CODES, (
        f"{error['code']} ({error['param']}) though the schema allows it"
    )


@atexit.register
def _write_counts() -> None:
    statuses = {status: dict(counter) for status, counter in sorted(_status_counts.items())}
    COUNTS_PATH.write_text(
        json.dumps({"requests": _request_counts.total(), "operations": dict(_request_counts), "statuses": statuses})
    )
