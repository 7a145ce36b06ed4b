"""Pages in ``docs/`` that are generated from the code.

``make docs`` writes them; a test compares them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from deploy.docs_models import render_models_page
from deploy.luthierd import app as luthierd
from deploy.markdown import format_names, render_page, render_table, to_markdown, wrap
from storage.settings import REPOSITORY_ROOT, Settings
from training.errors import RUN_CODES
from training.tasks import TASKS_BY_METHOD

DOCS_DIR = REPOSITORY_ROOT / "docs"


def render_settings_page() -> str:
    rows = [
        [f"`LUTHIER_{name.upper()}`", _format_default(field), _to_cell(field.description or "")]
        for name, field in Settings.model_fields.items()
    ]
    return render_page(
        "Settings",
        wrap(
            "Every setting is an environment variable. Only `storage/settings.py` reads them. An empty URL selects the "
            "service of the embedded stack. [Production](operations.md#settings) lists the settings of a production "
            "stack."
        ),
        render_table(["variable", "default", "meaning"], rows),
    )


LONG_ROWS = """\
- A part after the first begins with the tokenizer's start token, if it has one, and the last token
  of the part before. Both are only context.
- Attention never crosses from one part to another, also where rows are packed into one sequence.
- `prompt` and `completion` are one sequence. Parts after the first do not repeat the prompt. A
  prompt that leaves no room for a token of the completion is an error of the row.
- A batch and a step count parts, not rows. With `validation_share`, all parts of a row are on the
  same side.
- The job and its preflight report how many rows were split into how many parts."""


def render_tasks_page() -> str:
    tasks = [
        (f"`{task.name}`{_format_method(method)}", task)
        for method, tasks in TASKS_BY_METHOD.items()
        for task in tasks.values()
    ]
    overview = [
        [label, _to_cell(task.title), f"`/v1/{task.route}`", format_names(task.updates), format_names(task.options)]
        for label, task in tasks
    ]
    rows = [[label, _format_fields(task.row_schema)] for label, task in tasks]
    metrics = [
        [label, f"`{name}`", _to_cell(meaning)] for label, task in tasks for name, meaning in task.metrics.items()
    ]
    return render_page(
        "Tasks",
        wrap(
            "The `task` of a job is one of these. [Hyperparameters](hyperparameters.md) describes the hyperparameters "
            "that all tasks share."
        ),
        render_table(["task", "learns", "route", "updates", "own hyperparameters"], overview),
        "## Rows",
        wrap(
            "A row is one object of a JSONL, JSON, or CSV file. The `columns` of a job rename fields. The top of each "
            "file in `training/tasks/` describes how rows are read and how the loss is computed."
        ),
        render_table(["task", "fields of a row"], rows),
        "## Long rows",
        wrap(
            "A row with more than `max_length` tokens is truncated, except for these tasks: "
            f"{', '.join(label for label, task in tasks if task.splits_rows)}. They split it into several examples, "
            "and each target is trained exactly once:"
        ),
        LONG_ROWS,
        "## Metrics",
        wrap(
            "Every task reports its loss. Tasks with correct and incorrect predictions also report an accuracy. The "
            "metrics in this table are computed on the validation rows and have the prefix `valid_`."
        ),
        render_table(["task", "metric", "meaning"], metrics),
    )


def render_run_codes_page() -> str:
    return render_page(
        "Run codes",
        "The `error.code` of a failed job is one of these.",
        render_table(["code", "what to do"], [[f"`{code}`", _to_cell(advice)] for code, advice in RUN_CODES.items()]),
    )


def render_luthierd_page() -> str:
    return render_page(
        "The `luthierd` command",
        wrap("`luthierd` runs a stack on the server's machine. The [`luthier` command](sdk/command.md) is its client."),
        *_render_commands(typer.main.get_command(luthierd), "luthierd"),
    )


def _render_commands(command: Any, name: str) -> Iterator[str]:
    """Render a command, or the commands of a group."""
    for child_name, child in getattr(command, "commands", {}).items():
        yield from _render_commands(child, f"{name} {child_name}")
    if hasattr(command, "commands"):
        return
    yield f"## {name}"
    yield to_markdown(command.help or "")
    if command.params:
        yield "\n".join(_render_parameter(parameter) for parameter in command.params)


def _render_parameter(parameter: Any) -> str:
    is_option = parameter.param_type_name == "option"
    label = parameter.opts[0] if is_option else parameter.name.upper()
    notes = [getattr(parameter, "help", None) or ""]
    choices = getattr(parameter.type_descriptor, "choices", None)
    if choices:
        notes.append(f"One of {format_names(choice.value for choice in choices)}.")
    if isinstance(parameter.default, str):
        notes.append(f"Default: `{getattr(parameter.default, 'value', parameter.default)}`.")
    text = to_markdown(" ".join(filter(None, notes)))
    return f"- `{label}`" + (f": {text}" if text else "")


PAGES = {
    "settings.md": render_settings_page,
    "tasks.md": render_tasks_page,
    "run-codes.md": render_run_codes_page,
    "luthierd.md": render_luthierd_page,
    "models.md": render_models_page,
}
"""Path under ``docs`` -> function that renders the page."""


def write_pages(directory: Path = DOCS_DIR) -> None:
    for name, page in PAGES.items():
        (directory / name).write_text(page())


def _format_method(method: str) -> str:
    return "" if method == "supervised" else f", method `{method}`"


def _format_default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "`~/.luthier`"
    shown = getattr(field.default, "get_secret_value", lambda: field.default)()
    if isinstance(shown, Path):
        shown = shown.relative_to(REPOSITORY_ROOT)
    return f"`{shown}`" if shown not in ("", None) else "empty"


def _to_cell(text: str) -> str:
    """Fit text into one cell of a table."""
    assert text, "every entry has a description"
    return re.sub(r"\s+", " ", to_markdown(text)).replace("|", "\\|")


def _format_fields(row: type[BaseModel]) -> str:
    return ", ".join(
        f"`{field.alias or name}`{'' if field.is_required() else ' (optional)'}"
        for name, field in row.model_fields.items()
    )


if __name__ == "__main__":
    write_pages()
