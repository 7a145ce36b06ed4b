"""``make conformance``: the official clients, oldest to newest, Python and npm, and tools built on
them.

Each client runs unmodified in its own environment below ``--folder``. The default folder is
temporary; a named folder is kept, so that a second run installs nothing. The checks run against a
server that fails on request, the clients' own tests against a server with the rows they name, and
the tools against a complete stack.
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

from benchmarks.result import write_result
from examples.stack import run_stack
from tests.conformance.environments import CLIENT_REQUIREMENTS, Result, create_environment, run_suite
from tests.conformance.server import run_check_server
from tests.conformance.suites.run import run_suites
from tests.tiny import TOOL_TEMPLATE

CONFORMANCE_DIRECTORY = Path(__file__).parent
ROOT = CONFORMANCE_DIRECTORY.parent.parent
CHAT_ROWS = ROOT / "examples" / "data" / "chat_train.jsonl"

TORCH_REQUIREMENT = "torch==2.13.0"

TOOL_REQUIREMENTS: dict[str, tuple[tuple[str, ...], ...]] = {
    # Module below `tools` -> packages to install, step by step.
    "langchain_chat": (("langchain-openai",),),
    "litellm_all": (("litellm",),),
    "openai_command": (("openai<2",),),
    # Its package imports a name that mistralai 2 no longer has.
    "llamaindex_finetune": ((TORCH_REQUIREMENT,), ("llama-index-finetuning", "mistralai<2")),
    "instructor_extract": (("instructor",),),
}

STARTER = ROOT / "models" / "starter"

# Some tools look up a model's context length in a table of OpenAI's names, which has these.
BASE_MODEL, TOOL_BASE_MODEL = "gpt-3.5-turbo", "gpt-4o"
MODEL_TOML = """
["{name}"]
path = "{path}"
tasks = ["chat", "completion"]
parameters = 918_656
context = 512
license = "this repository's"
"""


def run_clients(folder: Path) -> Iterator[Result]:
    for name, packages in CLIENT_REQUIREMENTS.items():
        python = create_environment(folder, name, [packages])
        command = [python, "-m", "tests.conformance.client.run"]
        yield run_with_server(lambda context_json, command=command: run_suite(command, context_json, cwd=ROOT))  # type: ignore[misc]


def run_node(folder: Path) -> Iterator[Result]:
    if shutil.which("npm") is None:
        print("skipping the npm client: install npm to run it")
        return
    directory = folder / "node"
    shutil.copytree(CONFORMANCE_DIRECTORY / "node", directory, dirs_exist_ok=True)
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund"], cwd=directory, check=True)
    yield run_with_server(lambda context_json: run_suite(["node", "suite.mjs"], context_json, cwd=directory))


def run_with_server(run_client: Callable[[str], Result]) -> Result:
    with tempfile.TemporaryDirectory(prefix="luthier-") as home, run_check_server(Path(home)) as (_, context):
        return run_client(context.to_json())


def run_tools(folder: Path) -> Iterator[Result]:
    pythons = {name: create_environment(folder, name, steps) for name, steps in TOOL_REQUIREMENTS.items()}
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="luthier-")))
        # The same weights with a chat template that supports tools.
        shutil.copytree(STARTER, home / "tools")
        (home / "tools" / "chat_template.jinja").write_text(TOOL_TEMPLATE)
        paths = {BASE_MODEL: STARTER, TOOL_BASE_MODEL: home / "tools"}
        (home / "models.toml").write_text("".join(MODEL_TOML.format(name=name, path=paths[name]) for name in paths))
        client = stack.enter_context(run_stack(home, Console()))
        server_info = {
            "url": str(client.base_url).rstrip("/"),
            "key": client.api_key,
            "rows": str(CHAT_ROWS),
            "base": BASE_MODEL,
            "tool_base": TOOL_BASE_MODEL,
        }
        environment = {**os.environ, "CONFORMANCE_SERVER": json.dumps(server_info), "OPENAI_API_KEY": client.api_key}
        for name, python in pythons.items():
            yield run_suite([python, "-m", f"tests.conformance.tools.{name}"], cwd=ROOT, env=environment)


RUNNERS: dict[str, Callable[[Path], Iterator[Result]]] = {
    "clients": run_clients,
    "node": run_node,
    "suites": run_suites,
    "tools": run_tools,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="keep the environments in this folder")
    parser.add_argument("--only", choices=RUNNERS, help="run only this part and save no results")
    arguments = parser.parse_args()
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="conformance-") as temporary:
        folder = (arguments.folder or Path(temporary)).absolute()
        for name, run_part in RUNNERS.items():
            if arguments.only in {None, name}:
                for result in run_part(folder):
                    print(f"{result.client}: {result.passed} passed, {result.failed} failed, {result.absent} absent")
                    results.append(result)
    summary = {"failed": sum(result.failed for result in results), "runs": [result.summarize() for result in results]}
    if arguments.only is None:
        write_result("conformance", "make conformance", summary)
    else:
        print(json.dumps(summary, indent=2))
    sys.exit(1 if summary["failed"] else 0)


if __name__ == "__main__":
    main()
