"""Registry of the operator's base models, listed in ``models.toml``, and their local files.

Clients name a model by its id or an alias, never by a path. An entry gives the source of its files:
``path`` (a directory, relative to the TOML file), ``package`` + ``directory`` (inside an installed
Python package), ``hub`` (a repository that ``luthierd models pull`` downloads into the models
folder and locks) or ``package`` + ``gguf`` (a file of an installed package that it converts into
the models folder and locks).
"""

from __future__ import annotations

import importlib.util
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from storage.errors import ModelNotPulled

LOCK_FILE = "luthier.lock.json"

ModelId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")]


class BaseModelEntry(BaseModel):
    """One table of ``models.toml``."""

    model_config = ConfigDict(extra="forbid")

    id: ModelId
    tasks: list[str] = Field(min_length=1)
    """Tasks that the model can be trained for; the first is the default."""
    parameters: int = Field(gt=0)
    context: int = Field(gt=0)
    """Maximum sequence length in tokens."""
    license: str
    chat_template: str | None = None
    """Name of a chat template for a base that has none, e.g. ``chatml``; docs/luthierd.md lists
    them."""
    description: str = ""
    aliases: list[str] = []
    """Model names of other services that select this model, so that existing client code runs
    unchanged."""
    path: Path | None = None
    package: str | None = None
    directory: str | None = None
    gguf: str | None = None
    """GGUF file of the package."""
    sha256: str | None = None
    """Expected hash of the GGUF file, hexadecimal."""
    extra: str | None = None
    """Extra of Luthier that installs the package."""
    hub: str | None = None
    location: Path | None = None
    """Local directory of its files; None if they are not on this machine."""

    def require_location(self) -> Path:
        """Return the directory.

        Raises ``ModelNotPulled``, whose message names the command to run.
        """
        if self.location is None:
            commands = [*self.install_commands, f"luthierd models pull {self.id}"]
            raise ModelNotPulled(
                f"The base model '{self.id}' is not on this machine. The operator can install it with "
                f"{' and '.join(map(repr, commands))}."
            )
        return self.location

    @property
    def install_commands(self) -> list[str]:
        """Commands to run before ``luthierd models pull``."""
        return [f"pip install luthier[{self.extra}]"] if self.extra else []


Entries = list[BaseModelEntry]


class Registry:
    """Reloads the TOML files when one of them changes, so that an added model needs no restart."""

    def __init__(self, files: list[Path], models_dir: Path) -> None:
        self._files = files
        self._models_dir = models_dir
        self._stamp: tuple[tuple[Path, int, int], ...] = ()
        self._entries: dict[str, BaseModelEntry] = {}
        self._package_dirs: dict[str, Path] = {}
        """Cached directories of packages: finding one takes longer than everything else here."""

    def list(self) -> Entries:
        return [self._with_location(entry) for entry in self._load_entries().values()]

    def get(self, name: str) -> BaseModelEntry | None:
        """Return the model with this id or alias, or None. This runs for every request."""
        entries = self._load_entries()
        entry = entries.get(name) or next((entry for entry in entries.values() if name in entry.aliases), None)
        return self._with_location(entry) if entry else None

    def find_gguf(self, entry: BaseModelEntry) -> Path | None:
        """Return the GGUF file that ``entry`` is converted from; None if its package is missing."""
        assert entry.package is not None
        assert entry.gguf is not None
        root = self._find_package(entry.package)
        return root / entry.gguf if root and (root / entry.gguf).is_file() else None

    def _load_entries(self) -> dict[str, BaseModelEntry]:
        stamp = tuple(self._stat_files())
        if stamp != self._stamp:
            self._entries = {entry.id: entry for file, *_ in stamp for entry in self._read_file(file)}
            self._stamp = stamp
        return self._entries

    def _stat_files(self) -> Iterator[tuple[Path, int, int]]:
        for file in self._files:
            with suppress(FileNotFoundError):
                stat = file.stat()
                yield file, stat.st_mtime_ns, stat.st_size

    def _read_file(self, file: Path) -> Entries:
        tables = tomllib.loads(file.read_text())
        entries = [BaseModelEntry(id=name, **table) for name, table in tables.items()]
        return [
            entry.model_copy(update={"path": (file.parent / entry.path).resolve()} if entry.path else {})
            for entry in entries
        ]

    def _with_location(self, entry: BaseModelEntry) -> BaseModelEntry:
        return entry.model_copy(update={"location": self._find_location(entry)})

    def _find_location(self, entry: BaseModelEntry) -> Path | None:
        if entry.path:
            return entry.path if entry.path.is_dir() else None
        if entry.package and not entry.gguf:
            root = self._find_package(entry.package)
            return root / (entry.directory or "") if root else None
        pulled = self._models_dir / entry.id
        return pulled if (pulled / LOCK_FILE).exists() else None

    def _find_package(self, name: str) -> Path | None:
        if name not in self._package_dirs:
            spec = importlib.util.find_spec(name)
            if spec is None or not spec.submodule_search_locations:
                return None
            self._package_dirs[name] = Path(spec.submodule_search_locations[0])
        return self._package_dirs[name]
