"""``make docs``: the tables in ``docs/`` that the code itself knows. A test fails where they are not up to date."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from storage.settings import REPOSITORY, Settings
from training.errors import RUN_CODES
from training.tasks import METHODS

DOCS = REPOSITORY / "docs"


def settings_page() -> str:
    rows = [
        f"| `LUTHIER_{name.upper()}` | {_default(field)} | {_text(field.description)} |"
        for name, field in Settings.model_fields.items()
    ]
    return _page(
        "Settings",
        "Each is an environment variable, read by `storage/settings.py` alone. An empty URL means the embedded part.",
        ["variable", "default", "meaning"],
        rows,
    )


def tasks_page() -> str:
    rows = [
        f"| `{task.name}`{_suffix(method)} | {task.title} | {_fields(task.row)} | `/v1/{task.route}` | "
        f"{_listed(task.updates)} | {_listed(task.options)} | {_measures(task.measures)} |"
        for method, tasks in METHODS.items()
        for task in tasks.values()
    ]
    return _page(
        "Tasks",
        "What a job's `task` can be. A row is one object of a JSONL, JSON or CSV file; `columns` renames its fields. "
        "Every task tells its loss, and those that can be right or wrong an accuracy; the figures named here come with "
        "the validation rows, as `valid_…`. How rows are read and losses made up stands at the top of each file in "
        "`training/tasks/`.",
        ["task", "what it learns", "fields of a row", "answers at", "updates", "its own hyperparameters", "figures"],
        rows,
    )


def _suffix(method: str) -> str:
    return "" if method == "supervised" else f", method `{method}`"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def _measures(measures: Mapping[str, str]) -> str:
    return "; ".join(f"`{name}`: {meaning}" for name, meaning in measures.items())


def codes_page() -> str:
    rows = [f"| `{code}` | {advice} |" for code, advice in RUN_CODES.items()]
    return _page("Run codes", "A failed job's `error.code` is one of these.", ["code", "what to do"], rows)


PAGES = {"settings.md": settings_page, "tasks.md": tasks_page, "run-codes.md": codes_page}


def write(directory: Path = DOCS) -> None:
    for name, page in PAGES.items():
        (directory / name).write_text(page())


def _page(title: str, text: str, columns: list[str], rows: list[str]) -> str:
    head = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join([f"# {title}", "", "Written by `make docs` from the code.", "", text, "", *head, *rows, ""])


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "`~/.luthier`"
    shown = getattr(field.default, "get_secret_value", lambda: field.default)()
    if isinstance(shown, Path):
        shown = shown.relative_to(REPOSITORY)
    return f"`{shown}`" if shown not in ("", None) else "empty"


def _text(description: str | None) -> str:
    assert description, "every setting says what it means"
    return re.sub(r"\s+", " ", description.replace("``", "`")).replace("|", "\\|")


def _fields(row: type[BaseModel]) -> str:
    return ", ".join(
        f"`{field.alias or name}`{'' if field.is_required() else ' (optional)'}"
        for name, field in row.model_fields.items()
    )


if __name__ == "__main__":
    write()
