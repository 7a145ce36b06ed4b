"""``luthierd models``: list, download and check base models."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from storage import hub
from storage.registry import BaseModelEntry
from storage.settings import REPOSITORY_ROOT, Settings

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
    console.print("Download a model that is not installed with: luthierd models pull ID")


@app.command()
def pull(
    model: str,
    revision: Annotated[str, typer.Option(help="Branch, tag or commit of the repository.")] = "main",
    home: Home = None,
) -> None:
    """Download a model from its hub, scan it, and lock its commit and the hash of every file."""
    settings, console = _load_settings(home), Console()
    entry = _get_entry(settings, model)
    if entry.hub is None:
        console.print(f"'{entry.id}' is part of this installation; there is nothing to download")
        return
    settings.models_dir.mkdir(parents=True, exist_ok=True)
    try:
        directory = hub.pull(entry, settings.models_dir, revision)
    except (hub.HubUnavailable, hub.UnsafeModel) as error:
        console.print(f"[red]✗[/] {entry.hub} was not pulled: {error}")
        raise typer.Exit(1) from error
    console.print(f"[green]✓[/] {entry.id} is at {directory}")


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
            console.print(f"[green]✓[/] {entry.id}: {hub.verify(entry.location)} files")
        except (hub.UnsafeModel, hub.ChangedModel) as error:
            num_failed += 1
            console.print(f"[red]✗[/] {entry.id}: {error}")
            continue
        if not files_only:
            num_failed += _try_model(entry, entry.location, console)
    raise typer.Exit(1 if num_failed else 0)


_MARKS = {"passed": "[green]✓[/]", "noted": "[yellow]·[/]", "failed": "[red]✗[/]"}


def _try_model(entry: BaseModelEntry, location: Path, console: Console) -> int:
    """Print the outcome of each part of the trial and return how many failed.

    A process of its own imports torch, which this command does without.
    """
    num_failed = 0
    command = [sys.executable, "-m", "training.model_check", str(location), entry.id, *entry.tasks]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY_ROOT) as process:
        assert process.stdout
        for line in process.stdout:
            name, status, detail = json.loads(line)
            console.print(f"  {_MARKS[status]} {name}: {detail}", soft_wrap=True, highlight=False, markup=True)
            num_failed += status == "failed"
    if process.returncode:
        console.print(f"  {_MARKS['failed']} the trial ended with exit code {process.returncode}")
    return num_failed + bool(process.returncode)
