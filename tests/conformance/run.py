"""``make conformance``: the official clients, oldest to newest, Python and npm, and tools built on them.

Each runs unmodified in an environment of its own, made below ``--folder`` (a temporary one by default; kept when named,
so that a second run installs nothing). Clients ask a server that misbehaves on demand, tools a whole stack.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.result import write
from examples.stack import running_stack
from tests.conformance.server import running_world
from tests.tiny import TOOL_TEMPLATE

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
DATA = ROOT / "examples" / "data" / "chat_train.jsonl"

CLIENTS: dict[str, tuple[str, ...]] = {
    # The oldest that works; until 1.2 the client itself reads no `code` and `param` from an error's body.
    # It passes an argument to httpx that 0.28 no longer takes.
    "openai-1.3": ("openai==1.3.0", "httpx<0.28"),
    "openai-1.109": ("openai==1.109.1",),
    "openai-2.54": ("openai==2.54.0",),
    "openai-newest": ("openai",),
}

TORCH = "torch==2.13.0"

TOOLS: dict[str, tuple[tuple[str, ...], ...]] = {
    # Module below `tools` -> what to install, step by step.
    "langchain_chat": (("langchain-openai",),),
    "litellm_all": (("litellm",),),
    "openai_command": (("openai<2",),),
    # Its package imports a name that mistralai 2 no longer has.
    "llamaindex_finetune": ((TORCH,), ("llama-index-finetuning", "mistralai<2")),
    "instructor_extract": (("instructor",),),
}

STARTER = ROOT / "models" / "starter"

# A tool that looks a model's context up in a table of OpenAI's names finds these there.
BASE, TOOL_BASE = "gpt-3.5-turbo", "gpt-4o"
MODEL = """
["{name}"]
path = "{path}"
tasks = ["chat", "completion"]
parameters = 918_656
context = 512
license = "this repository's"
"""


@dataclass(frozen=True)
class Result:
    """What one client or tool showed."""

    client: str
    on: str
    passed: int
    failed: int
    absent: int
    checks: list[dict[str, Any]]

    def figures(self) -> dict[str, Any]:
        told = {"client": self.client, "on": self.on, "passed": self.passed, "failed": self.failed}
        lacking = {check["check"]: check["detail"] for check in self.checks if check["outcome"] == "absent"}
        failures = {check["check"]: check["detail"] for check in self.checks if check["outcome"] == "failed"}
        return {**told, "absent": lacking, **({"failures": failures} if failures else {})}


def environment_of(folder: Path, name: str, steps: Sequence[Sequence[str]]) -> Path:
    """The Python of a virtual environment with these packages; made unless it is there."""
    python = folder / name / "bin" / "python"
    if not python.exists():
        print(f"installing {name} …", flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder / name], check=True)
        for packages in steps:
            quiet = ("--quiet", "--disable-pip-version-check")
            subprocess.run([python, "-m", "pip", "install", *quiet, *packages], check=True)
    return python


def result_of(command: Sequence[str | Path], given: str = "", **options: Any) -> Result:
    """Run a suite that prints a line of JSON for each check and a summary."""
    ran = subprocess.run(command, input=given, capture_output=True, text=True, check=False, **options)
    lines = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith('{"c')]
    if not lines or "client" not in lines[-1]:
        raise RuntimeError(f"{command} told nothing:\n{ran.stdout[-2000:]}\n{ran.stderr[-4000:]}")
    return Result(**lines[-1], checks=lines[:-1])


def clients(folder: Path) -> Iterator[Result]:
    for name, packages in CLIENTS.items():
        python = environment_of(folder, name, [packages])
        command = [python, "-m", "tests.conformance.client.run"]
        yield in_a_world(lambda given, command=command: result_of(command, given, cwd=ROOT))  # type: ignore[misc]


def node(folder: Path) -> Iterator[Result]:
    if shutil.which("npm") is None:
        print("no npm on this machine: its client is left out")
        return
    place = folder / "node"
    shutil.copytree(HERE / "node", place, dirs_exist_ok=True)
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund"], cwd=place, check=True)
    yield in_a_world(lambda given: result_of(["node", "suite.mjs"], given, cwd=place))


def in_a_world(ask: Callable[[str], Result]) -> Result:
    with tempfile.TemporaryDirectory(prefix="luthier-") as home, running_world(Path(home)) as (_, world):
        return ask(world.to_json())


def tools(folder: Path) -> Iterator[Result]:
    pythons = {name: environment_of(folder, name, steps) for name, steps in TOOLS.items()}
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="luthier-")))
        # The same weights under a template that knows tools.
        shutil.copytree(STARTER, home / "tools")
        (home / "tools" / "chat_template.jinja").write_text(TOOL_TEMPLATE)
        paths = {BASE: STARTER, TOOL_BASE: home / "tools"}
        (home / "models.toml").write_text("".join(MODEL.format(name=name, path=paths[name]) for name in paths))
        client = stack.enter_context(running_stack(home, Console()))
        place = {
            "url": str(client.base_url).rstrip("/"),
            "key": client.api_key,
            "rows": str(DATA),
            "base": BASE,
            "tool_base": TOOL_BASE,
        }
        environment = {**os.environ, "CONFORMANCE_PLACE": json.dumps(place), "OPENAI_API_KEY": client.api_key}
        for name, python in pythons.items():
            yield result_of([python, "-m", f"tests.conformance.tools.{name}"], cwd=ROOT, env=environment)


PARTS: dict[str, Callable[[Path], Iterator[Result]]] = {"clients": clients, "node": node, "tools": tools}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="keep the environments here")
    parser.add_argument("--only", choices=PARTS)
    asked = parser.parse_args()
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="conformance-") as temporary:
        folder = (asked.folder or Path(temporary)).absolute()
        for name, part in PARTS.items():
            if asked.only in {None, name}:
                for result in part(folder):
                    print(f"{result.client}: {result.passed} passed, {result.failed} failed, {result.absent} absent")
                    results.append(result)
    figures = {"failed": sum(result.failed for result in results), "runs": [result.figures() for result in results]}
    if asked.only is None:
        write("conformance", "make conformance", figures)
    else:
        print(json.dumps(figures, indent=2))
    sys.exit(1 if figures["failed"] else 0)


if __name__ == "__main__":
    main()
