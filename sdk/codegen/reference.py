"""``docs/sdk/reference.md`` from the docstrings, and ``docs/sdk/command.md`` from the table of commands."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from codegen.paths import PACKAGE
from luthier.cli.table import COMMANDS, Option

SHOWN = {
    "_sync/client.py": ["Luthier"],
    "_sync/files.py": ["Files"],
    "_sync/jobs.py": ["Jobs"],
    "_sync/job.py": ["Job"],
    "_fields.py": ["JobFields"],
    "_sync/models.py": ["Models"],
    "_display.py": ["Display", "Quiet"],
}
"""Module -> classes, in the page's order."""

_HEAD = """# SDK reference

Written by `make sdk` from the docstrings.

`Luthier` is the client, `AsyncLuthier` its twin: the same names, each to be awaited; `async for` in place of `for`.
What the server answers has the fields of its OpenAPI document as attributes, a `_` behind `object` and `bytes`.
"""


def reference() -> str:
    parts = [_HEAD]
    for module, names in SHOWN.items():
        tree = ast.parse((PACKAGE / module).read_text())
        found = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        for name in names:
            parts.extend(_class(found[name]))
    parts.extend(["## Errors\n", "All in `luthier`. `except luthier.LuthierError` catches every one.\n"])
    tree = ast.parse((PACKAGE / "errors.py").read_text())
    parts.append("```text\n" + (ast.get_docstring(tree) or "").split("\n\n")[1] + "\n```\n")
    return "\n".join(parts)


def _class(node: ast.ClassDef) -> Iterator[str]:
    yield f"## {node.name}\n"
    yield f"{_text(node)}\n"
    fields = list(_fields(node))
    if fields:
        yield "\n".join(fields) + "\n"
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and (_text(item) or (node.name, item.name) == ("Luthier", "__init__")):
            yield f"```python\n{_signature(node.name, item)}\n```\n"
            yield f"{_text(item)}\n"


def _fields(node: ast.ClassDef) -> Iterator[str]:
    """Fields that a docstring follows."""
    for item, after in zip(node.body, node.body[1:], strict=False):
        if isinstance(item, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            yield f"- `{ast.unparse(item.target)}: {ast.unparse(item.annotation)}`: {_plain(str(after.value.value))}"


def _signature(owner: str, item: ast.FunctionDef) -> str:
    arguments = ast.unparse(item.args).removeprefix("self").removeprefix(", ")
    if any(isinstance(each, ast.Name) and each.id == "property" for each in item.decorator_list):
        return f"{owner}.{item.name} -> {ast.unparse(item.returns) if item.returns else 'None'}"
    if item.name == "__init__":
        return f"{owner}({arguments})"
    return f"{owner}.{item.name}({arguments}) -> {ast.unparse(item.returns) if item.returns else 'None'}"


def _text(node: ast.ClassDef | ast.FunctionDef) -> str:
    return _plain(ast.get_docstring(node) or "")


def _plain(text: str) -> str:
    return re.sub(r":\w+:`([^`]*)`", r"`\1`", text).replace("``", "`")


def command_page() -> str:
    lines = ["# The `luthier` command", "", "Written by `make sdk` from its own table.", ""]
    lines += [
        "It comes with `pip install luthier-sdk` and finds the server as the client does. `--json` prints one JSON "
        "object a line, for scripts; it and `--base-url` may stand anywhere. What is not an answer goes to stderr; the "
        "exit status is 1 where the server refused or a job failed, 2 for a mistyped command.",
        "",
        'Completion: `eval "$(luthier completion bash)"`, the same with `zsh`, or `luthier completion fish | source`.',
        "",
    ]
    for command in COMMANDS:
        lines += [f"## luthier {command.words}", "", command.help, ""]
        lines += [f"- {_option(option)}" for option in command.options]
        lines += [""] if command.options else []
    return "\n".join(lines).rstrip() + "\n"


def _option(option: Option) -> str:
    settings = option.settings
    choices = f": {', '.join(f'`{choice}`' for choice in settings['choices'])}" if "choices" in settings else ""
    value = f" {settings['metavar']}" if "metavar" in settings else ""
    return f"`{option.name}{value}`: {option.help}{choices}"
