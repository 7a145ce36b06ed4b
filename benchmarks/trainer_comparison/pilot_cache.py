"""Results of earlier searches for a peer's settings.

A search takes minutes. Its trials are reused as long as machine, libraries, shape and the options
of the search stay the same.
"""

from __future__ import annotations

import datetime
import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from benchmarks.result import RESULTS, get_cpu_flags, get_cpu_name
from benchmarks.trainer_comparison.config import TrainerSettings
from benchmarks.trainer_comparison.settings_search import LIMIT_SECONDS, MAX_SLOWDOWN, TRIAL_STEPS, Trial
from benchmarks.trainer_comparison.shapes import ModelShape

PILOTS = RESULTS / "training-pilots.json"
LIBRARIES = ("torch", "transformers", "peft", "trl", "accelerate")
BF16_CPU_FLAGS = ("avx512_bf16", "amx_bf16", "amx_tile")
"""CPU flags for bf16 matrix multiplication. Without them bf16, TRL's default, is slower than
fp32."""
VARYING_SHAPE_FIELDS = ("rows", "epochs", "rounds", "minutes", "held_out_rows")
"""Fields of a shape that do not change a trial."""


class Pilot(BaseModel):
    """A search and its conditions."""

    key: dict[str, Any]
    date: str
    trials: list[Trial]


_PILOTS = TypeAdapter(list[Pilot])


def build_key(peer: str, shape: ModelShape, threads: int, start: TrainerSettings) -> dict[str, Any]:
    """Describe everything that decides the result of a search, in JSON types."""
    fields = {name: value for name, value in asdict(shape).items() if name not in VARYING_SHAPE_FIELDS}
    key = {
        "trainer": peer,
        "cpu": get_cpu_name(),
        "bf16_units": detect_bf16_flags(),
        "threads": threads,
        "libraries": get_library_versions(),
        "shape": fields,
        "start": start.model_dump(),
        "search": [TRIAL_STEPS, MAX_SLOWDOWN, LIMIT_SECONDS],
    }
    described: dict[str, Any] = json.loads(json.dumps(key))
    return described


def load_trials(key: dict[str, Any], path: Path = PILOTS) -> list[Trial] | None:
    """Return the trials of the search with this key, or None."""
    return next((pilot.trials for pilot in _read(path) if pilot.key == key), None)


def store_trials(key: dict[str, Any], trials: list[Trial], path: Path = PILOTS) -> None:
    """Write the trials, in place of earlier ones with the same key."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    pilots = [pilot for pilot in _read(path) if pilot.key != key]
    pilots.append(Pilot(key=key, date=today, trials=trials))
    path.write_bytes(_PILOTS.dump_json(pilots, indent=2) + b"\n")


def _read(path: Path) -> list[Pilot]:
    return _PILOTS.validate_json(path.read_bytes()) if path.exists() else []


def get_library_versions() -> dict[str, str]:
    return {name: version(name) for name in LIBRARIES}


def detect_bf16_flags() -> list[str]:
    """Return those of ``BF16_CPU_FLAGS`` that this CPU has."""
    flags = get_cpu_flags()
    return [flag for flag in BF16_CPU_FLAGS if flag in flags]
