"""Documentation of the client: ``docs/sdk/reference.md`` from docstrings, ``docs/sdk/command.md``
from the commands.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from codegen.markdown import render_table, to_cell, to_markdown
from codegen.paths import PACKAGE
from luthier.cli.table import COMMANDS, Option

DOCUMENTED_CLASSES = {
    "_sync/client.py": ["Luthier"],
    "_sync/files.py": ["Files"],
    "_sync/jobs.py": ["Jobs"],
    "_sync/job.py": ["Job"],
    "_fields.py": ["JobFields"],
    "_sync/models.py": ["Models"],
    "_display.py": ["Display", "Quiet"],
}
"""Module -> classes, in the page's order."""

MAX_SIGNATURE_COLUMNS = 90

_REFERENCE_HEADER = """# Python client reference

Written by `make sdk` from the docstrings.

`Luthier` is the client. `AsyncLuthier` has the same methods as coroutines and asynchronous
iterators. Responses have the fields of the [schemas](../api/schemas.md) as attributes. The fields
`object` and `bytes` are the attributes `object_` and `bytes_`.
"""

_COMMAND_HEADER = """# The `luthier` command

Written by `make sdk` from the table of commands.

`pip install luthier-sdk` installs the command. It finds the server as the [client](guide.md) does,
or through `--base-url`. `--json` prints one JSON object per line, for scripts. Both options may
appear anywhere.

- Output that is not a response goes to stderr.
- The exit status is 1 if the server rejected the request or a job failed, and 2 for an invalid
  command.
- Shell completion: `eval "$(luthier completion bash)"`, the same with `zsh`, or
  `luthier completion fish | source`.
"""


def render_reference_page() -> str:
    blocks = [_REFERENCE_HEADER]
    for module, names in DOCUMENTED_CLASSES.items():
        tree = ast.parse((PACKAGE / module).read_text())
        classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        for name in names:
            blocks.extend(_render_class(classes[name]))
    blocks.append("## Errors\n")
    blocks.append("All errors are in `luthier`. `except luthier.LuthierError` catches every one.\n")
    errors = ast.parse((PACKAGE / "errors.py").read_text())
    blocks.append("```text\n" + (ast.get_docstring(errors) or "").split("\n\n")[1].replace("``", "") + "\n```\n")
    return "\n".join(blocks)


def _render_class(node: ast.ClassDef) -> Iterator[str]:
    yield f"## {node.name}\n"
    yield f"{_read_docstring(node)}\n"
    fields = list(_list_fields(node))
    if fields:
        yield render_table(["field", "type", "description"], fields)
    for item in node.body:
        if isinstance(item, ast.FunctionDef):
            yield from _render_method(node.name, item)


def _render_method(owner: str, item: ast.FunctionDef) -> Iterator[str]:
    """Render a documented method. The class's own docstring describes its constructor."""
    docstring = _read_docstring(item)
    if item.name == "__init__" and owner == "Luthier":
        yield f"```python\n{_render_signature(owner, item)}\n```\n"
    elif docstring:
        yield f"### {owner}.{item.name}\n"
        yield f"```python\n{_render_signature(owner, item)}\n```\n"
        yield f"{docstring}\n"


def _list_fields(node: ast.ClassDef) -> Iterator[list[str]]:
    """Name, type, and description of the fields that a docstring follows."""
    for item, after in zip(node.body, node.body[1:], strict=False):
        if isinstance(item, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            annotation = to_cell(f"`{ast.unparse(item.annotation)}`")
            yield [f"`{ast.unparse(item.target)}`", annotation, to_cell(str(after.value.value))]


def _render_signature(owner: str, item: ast.FunctionDef) -> str:
    """Render the call on one line, or one parameter per line if it is long."""
    result = ast.unparse(item.returns) if item.returns else "None"
    if any(isinstance(decorator, ast.Name) and decorator.id == "property" for decorator in item.decorator_list):
        return f"{owner}.{item.name} -> {result}"
    name, suffix = (owner, "") if item.name == "__init__" else (f"{owner}.{item.name}", f" -> {result}")
    parameters = _list_parameters(item.args)
    line = f"{name}({', '.join(parameters)}){suffix}"
    if len(line) <= MAX_SIGNATURE_COLUMNS:
        return line
    return "\n".join([f"{name}(", *(f"    {parameter}," for parameter in parameters), f"){suffix}"])


def _list_parameters(arguments: ast.arguments) -> list[str]:
    """Parameters as source text, without ``self``."""
    # Each is rendered alone, because a default may contain commas.
    positional = arguments.args
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults)) + [*arguments.defaults]
    parameters = [_render_parameter(*pair) for pair in zip(positional, defaults, strict=True)][1:]
    if arguments.kwonlyargs:
        parameters.append("*")
        keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        parameters += [_render_parameter(*pair) for pair in keywords]
    if arguments.kwarg:
        parameters.append(f"**{ast.unparse(arguments.kwarg)}")
    return parameters


def _render_parameter(argument: ast.arg, default: ast.expr | None) -> str:
    return ast.unparse(argument) + (f" = {ast.unparse(default)}" if default else "")


def _read_docstring(node: ast.ClassDef | ast.FunctionDef) -> str:
    return to_markdown(ast.get_docstring(node) or "")


def render_command_page() -> str:
    blocks = [_COMMAND_HEADER]
    for command in COMMANDS:
        blocks += [f"## luthier {command.name}\n", f"{command.help}\n"]
        if command.options:
            blocks.append("\n".join(f"- {_render_option(option)}" for option in command.options) + "\n")
    return "\n".join(blocks)


def _render_option(option: Option) -> str:
    settings = option.settings
    choices = f": {', '.join(f'`{choice}`' for choice in settings['choices'])}" if "choices" in settings else ""
    value = f" {settings['metavar']}" if "metavar" in settings else ""
    return f"`{option.name}{value}`: {option.help}{choices}"
