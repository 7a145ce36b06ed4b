"""Speed of training and generation on a GPU, beside transformers with PEFT in the same run.

``python -m benchmarks.gpu`` needs a CUDA device; ``--device cpu --tiny`` shows on any machine that
it works. The last line is JSON; on CUDA it is also written to ``benchmarks/results/gpu.json``. Each
measurement is a process of its own. Measurements that did not start before the time limit are
listed as ``not_run``, those that failed as ``failed``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.gpu.machine import LIBRARIES, Machine, open_machine
from benchmarks.gpu.shapes import SHAPES, TINY_SHAPES, ModelShape, get_peak_flops
from benchmarks.result import write_result

LIMIT_SECONDS = 520.0
MIN_SECONDS = 40.0
"""No measurement starts with less time left."""
CONTESTANTS = ("luthier", "transformers_peft")
ADAPTER_COUNTS = (1, 16)


@dataclass(frozen=True)
class Measurement:
    """One figure: module, contestant, shape, and the update or the number of adapters."""

    module: str
    contestant: str
    shape: str
    variant: str

    @property
    def name(self) -> str:
        return f"{self.module}/{self.shape}/{self.variant}/{self.contestant}"


def list_measurements(name: str, shape: ModelShape) -> Iterator[Measurement]:
    """Yield the measurements of a shape; both contestants follow one another."""
    for update in shape.updates:
        for contestant in CONTESTANTS:
            yield Measurement("training", contestant, name, update)
    if shape.serves:
        for count in ADAPTER_COUNTS:
            for contestant in CONTESTANTS:
                yield Measurement("serving", contestant, name, str(count))


def run_all(machine: Machine, shapes: Mapping[str, ModelShape], device: str) -> dict[str, Any]:
    """Measure everything that fits in the time, and return the figures by name."""
    figures: dict[str, Any] = {}
    failed: list[str] = []
    not_run: list[str] = []
    for name, shape in shapes.items():
        base = tempfile.mkdtemp(prefix="base-")
        try:
            machine.run_json("benchmarks.gpu.base", name, base, device)
            for measurement in list_measurements(name, shape):
                if machine.seconds_left < MIN_SECONDS:
                    not_run.append(measurement.name)
                    continue
                module = f"benchmarks.gpu.{measurement.module}"
                arguments = (measurement.contestant, name, measurement.variant, base, device)
                try:
                    figures[measurement.name] = machine.run_json(module, *arguments)
                    print(measurement.name, json.dumps(figures[measurement.name]), flush=True)
                except subprocess.SubprocessError:
                    failed.append(measurement.name)
        finally:
            shutil.rmtree(base)
    return {"figures": figures, "failed": failed, "not_run": not_run}


def summarize(machine: Machine, measured: dict[str, Any]) -> dict[str, Any]:
    """Arrange the figures by shape, and set the peer's beside ours."""
    peak = get_peak_flops(machine.description["device"])
    result: dict[str, Any] = {"training": {}, "serving": {}}
    for name, figures in measured["figures"].items():
        module, shape, variant, contestant = name.split("/")
        entry = {key: round(value, 2) if isinstance(value, float) else value for key, value in figures.items()}
        if "flops_per_s" in entry:
            del entry["flops_per_s"]
            entry["mfu"] = round(figures["flops_per_s"] / peak, 4) if peak else None
        cell = result[module].setdefault(shape, {}).setdefault(variant, {})
        cell[contestant] = entry
        if len(cell) == len(CONTESTANTS):
            ours, peer = (cell[contestant]["tokens_per_s"] for contestant in CONTESTANTS)
            cell["speedup"] = round(ours / peer, 2)
    return {
        **machine.description,
        "peak_bf16_flops": peak,
        "shapes": result["training"],
        "serving": result["serving"],
        "failed": measured["failed"],
        "not_run": measured["not_run"],
        "seconds": round(LIMIT_SECONDS - machine.seconds_left, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure training and generation beside transformers with PEFT.")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a model of 28,000 weights")
    parser.add_argument("--shape", action="append", choices=list(SHAPES), help="default: all")
    arguments = parser.parse_args()
    shapes = TINY_SHAPES if arguments.tiny else {name: SHAPES[name] for name in arguments.shape or SHAPES}
    with open_machine(LIBRARIES, arguments.device, LIMIT_SECONDS) as machine:
        result = summarize(machine, run_all(machine, shapes, arguments.device))
    if machine.has_cuda and not arguments.tiny:
        write_result("gpu", "make bench-gpu", result)
    else:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
