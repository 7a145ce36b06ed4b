"""The pages generated from the code list everything, in tables that no cell breaks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from markdown import Markdown
from pydantic import BaseModel, Field

from deploy import docs_tables
from deploy.luthierd import app as luthierd
from storage.settings import Settings
from training.errors import RUN_CODES
from training.tasks import TASKS_BY_METHOD

PAGES = sorted(docs_tables.PAGES)


def render(page: str) -> str:
    return docs_tables.PAGES[page]()


def parse_tables(text: str) -> list[list[list[str]]]:
    """Return the cells of every table, split at each pipe that is not escaped."""
    return [
        [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block.splitlines()]
        for block in re.findall(r"(?:^\|.*\n?)+", text, re.M)
    ]


def iter_commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the full name and the command, for all commands below this one."""
    children = getattr(command, "commands", {})
    if not children:
        yield name, command
    for child_name, child in children.items():
        yield from iter_commands(child, f"{name} {child_name}")


COMMANDS = dict(iter_commands(typer.main.get_command(luthierd), "luthierd"))


def list_task_labels() -> list[str]:
    return [
        f"`{task.name}`" + ("" if method == "supervised" else f", method `{method}`")
        for method, tasks in TASKS_BY_METHOD.items()
        for task in tasks.values()
    ]


def test_every_setting_has_one_row() -> None:
    [[header, _, *rows]] = parse_tables(render("settings.md"))
    assert header == ["variable", "default", "meaning"]
    assert [row[0] for row in rows] == [f"`LUTHIER_{name.upper()}`" for name in Settings.model_fields]


def test_the_documented_defaults_are_those_of_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    [[_, _, *rows]] = parse_tables(render("settings.md"))
    documented = {row[0].strip("`"): row[1].strip("`") for row in rows}
    for name in documented:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    defaults = Settings()
    for name, value in documented.items():
        if value != "empty":
            monkeypatch.setenv(name, str(defaults.models_file) if name == "LUTHIER_MODELS_FILE" else value)
    assert Settings() == defaults, "the documented values, set explicitly, change a setting"
    assert defaults.models_file.name == documented["LUTHIER_MODELS_FILE"]


def test_no_secret_is_shown() -> None:
    secret_names = [name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)]
    assert secret_names
    [[_, _, *rows]] = parse_tables(render("settings.md"))
    defaults = {row[0]: row[1] for row in rows}
    assert {defaults[f"`LUTHIER_{name.upper()}`"] for name in secret_names} == {"empty"}


def test_every_run_code_has_one_row() -> None:
    [[header, _, *rows]] = parse_tables(render("run-codes.md"))
    assert header == ["code", "what to do"]
    assert {code.strip("`"): advice for code, advice in rows} == RUN_CODES
    assert len(rows) == len(RUN_CODES)


def test_every_task_has_a_row_in_both_tables() -> None:
    overview, fields, metrics = parse_tables(render("tasks.md"))
    labels = list_task_labels()
    assert [row[0] for row in overview[2:]] == labels
    assert [row[0] for row in fields[2:]] == labels
    assert {row[0] for row in metrics[2:]} <= set(labels)


def test_every_metric_of_a_task_has_one_row() -> None:
    _, _, (_, _, *rows) = parse_tables(render("tasks.md"))
    expected = [
        (task.title, f"`{name}`")
        for tasks in TASKS_BY_METHOD.values()
        for task in tasks.values()
        for name in task.metrics
    ]
    titles = dict(
        zip(list_task_labels(), (t.title for ts in TASKS_BY_METHOD.values() for t in ts.values()), strict=True)
    )
    assert [(titles[label], metric) for label, metric, _ in rows] == expected


def test_the_fields_of_a_row_are_those_of_its_schema() -> None:
    _, (_, _, *rows), _ = parse_tables(render("tasks.md"))
    tasks = [task for tasks in TASKS_BY_METHOD.values() for task in tasks.values()]
    for (_, fields), task in zip(rows, tasks, strict=True):
        documented = re.findall(r"`([^`]+)`( \(optional\))?", fields)
        schema = task.row_schema.model_json_schema(by_alias=True)
        assert [name for name, _ in documented] == list(schema["properties"]), task.name
        assert [name for name, optional in documented if not optional] == schema.get("required", []), task.name


def test_every_command_has_one_section() -> None:
    sections = re.findall(r"^## (.+)$", render("luthierd.md"), re.M)
    assert sections == list(COMMANDS)
    assert len(set(sections)) == len(sections)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_parameter_of_a_command_is_listed(name: str) -> None:
    section = render("luthierd.md").split(f"\n## {name}\n")[1].split("\n## ")[0]
    command = COMMANDS[name]
    labels = [
        parameter.opts[0] if parameter.param_type_name == "option" else parameter.name.upper()
        for parameter in command.params
    ]
    assert re.findall(r"^- `([^`]+)`", section, re.M) == labels
    assert section.strip().splitlines()[0] == command.help.splitlines()[0].replace("``", "`")


@pytest.mark.parametrize("page", PAGES)
def test_every_row_has_the_cells_of_its_table(page: str) -> None:
    for header, *rows in parse_tables(render(page)):
        assert [row for row in rows if len(row) != len(header)] == []


@pytest.mark.parametrize("page", PAGES)
def test_the_site_shows_every_row(page: str) -> None:
    text = render(page)
    html = Markdown(extensions=["tables"]).convert(text)
    tables = parse_tables(text)
    assert html.count("<table>") == len(tables)
    assert html.count("<tr>") == sum(len(rows) - 1 for rows in tables)
    assert "``" not in text


def test_a_setting_with_pipes_and_lines_keeps_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    class Extended(Settings):
        separator: str = Field(default=";", description="One of ``;`` | ``,``,\n    or\ttab.")

    monkeypatch.setattr(docs_tables, "Settings", Extended)
    [[*_, last]] = parse_tables(docs_tables.render_settings_page())
    assert last == ["`LUTHIER_SEPARATOR`", "`;`", "One of `;` \\| `,`, or tab."]


def test_an_entry_without_a_description_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    class Extended(Settings):
        undocumented: str = ""

    monkeypatch.setattr(docs_tables, "Settings", Extended)
    with pytest.raises(AssertionError, match="every entry has a description"):
        docs_tables.render_settings_page()


def test_a_field_is_listed_under_its_alias() -> None:
    class Row(BaseModel):
        text: str
        from_: str = Field(alias="from")
        weight: float = 1.0

    assert docs_tables._format_fields(Row) == "`text`, `from`, `weight` (optional)"


def test_all_pages_are_written(tmp_path: Path) -> None:
    docs_tables.write_pages(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == PAGES
    for page in PAGES:
        assert (tmp_path / page).read_text() == render(page)
        assert render(page).endswith("\n")
