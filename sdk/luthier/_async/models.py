"""Models: the operator's bases, the project's own, and the way home for their weights."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

from luthier._async.download import download
from luthier._async.http import AsyncHTTP, build_path
from luthier.types import Model

Variant = Literal["adapter", "merged"]


class AsyncModels:
    """``client.models``."""

    def __init__(self, http: AsyncHTTP) -> None:
        self._http = http

    async def list(self) -> AsyncIterator[Model]:
        """Base models, then the project's own, the oldest first."""
        answer = await self._http.request_json("GET", build_path("models"))
        for item in answer["data"]:
            yield Model.from_dict(item)

    async def retrieve(self, model: str) -> Model:
        """One model, by id or alias."""
        return Model.from_dict(await self._http.request_json("GET", build_path("models", model)))

    async def delete(self, model: str) -> None:
        """Delete a finished model and its weights."""
        await self._http.request_json("DELETE", build_path("models", model))

    async def download(self, model: str, path: str | os.PathLike[str], variant: Variant = "adapter") -> Path:
        """Write the weights to ``path``, a file or a folder, as a zip; checked against the server's sha256.

        ``adapter`` is what PEFT loads, ``merged`` a whole model for ``from_pretrained``.
        """
        name = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in f"{model}-{variant}.zip")
        url = build_path("models", model, "download")
        return await download(self._http, url, {"variant": variant}, Path(path), name)
