# Made by `make sdk` from _async/models.py; change that one.
"""Models: the operator's bases, the project's own, and the way home for their weights."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from luthier._sync.download import download
from luthier._sync.http import HTTP, build_path
from luthier.types import Model

Variant = Literal["adapter", "merged"]


class Models:
    """``client.models``."""

    def __init__(self, http: HTTP) -> None:
        self._http = http

    def list(self) -> Iterator[Model]:
        """Base models, then the project's own, the oldest first."""
        answer = self._http.request_json("GET", build_path("models"))
        for item in answer["data"]:
            yield Model.from_dict(item)

    def retrieve(self, model: str) -> Model:
        """One model, by id or alias."""
        return Model.from_dict(self._http.request_json("GET", build_path("models", model)))

    def delete(self, model: str) -> None:
        """Delete a finished model and its weights."""
        self._http.request_json("DELETE", build_path("models", model))

    def download(self, model: str, path: str | os.PathLike[str], variant: Variant = "adapter") -> Path:
        """Write the weights to ``path``, a file or a folder, as a zip; checked against the server's sha256.

        ``adapter`` is what PEFT loads, ``merged`` a whole model for ``from_pretrained``.
        """
        name = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in f"{model}-{variant}.zip")
        url = build_path("models", model, "download")
        return download(self._http, url, {"variant": variant}, Path(path), name)
