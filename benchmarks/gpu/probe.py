"""Description of this machine: versions, device, and packages that cannot be imported.

``python -m benchmarks.gpu.probe MODULE…`` imports the modules and prints one line of JSON.
"""

from __future__ import annotations

import importlib
import json
import platform
import sys
from typing import Any

VERSIONED = ("torch", "transformers", "peft")


def describe(modules: list[str]) -> dict[str, Any]:
    """Import the modules. Versions and device are absent if torch or a library is missing."""
    missing = {}
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError as error:
            missing[name] = str(error)
    description: dict[str, Any] = {"missing": missing, "versions": {"python": platform.python_version()}}
    for name in VERSIONED:
        if name not in missing:
            description["versions"][name] = importlib.import_module(name).__version__
    if "torch" not in missing:
        description |= _describe_device()
    return description


def _describe_device() -> dict[str, Any]:
    import torch

    if not torch.cuda.is_available():
        return {"device": "cpu"}
    properties = torch.cuda.get_device_properties(0)
    return {
        "device": properties.name,
        "memory_gb": round(properties.total_memory / 1e9, 1),
        "compute_capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda,
    }


if __name__ == "__main__":
    print(json.dumps(describe(sys.argv[1:])))
