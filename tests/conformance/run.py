"""``make conformance``: the official clients, oldest to newest, Python and npm, and tools built on them.

Each runs unmodified in an environment of its own, made below ``--folder`` (a temporary one by default; kept when named,
so that a second run installs nothing). Clients ask a server that misbehaves on demand, their own tests one that holds
what they name, tools a whole stack.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from benchmarks.result import write
from examples.stack import running_stack
from tests.conformance.environments import CLIENTS, Result, environment_of, result_of
from tests.conformance.server import running_world
from tests.conformance.suites.run import suites
from tests.tiny import TOOL_TEMPLATE

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
DATA = ROOT / "examples" / "data" / "chat_train.jsonl"

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


PARTS: dict[str, Callable[[Path], Iterator[Result]]] = {
    "clients": clients,
    "node": node,
    "suites": suites,
    "tools": tools,
}


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
