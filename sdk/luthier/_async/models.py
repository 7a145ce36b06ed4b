"""Models: base models, the project's fine-tuned models, and download of their weights."""

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
    """Models, available as ``client.models``."""

    def __init__(self, http: AsyncHTTP) -> None:
        self._http = http

    async def list(self) -> AsyncIterator[Model]:
        """List the base models, then the project's fine-tuned models, oldest first."""
        response = await self._http.request_json("GET", build_path("models"))
        for item in response["data"]:
            yield Model.from_dict(item)

    async def retrieve(self, model: str) -> Model:
        """Return a model by id or alias."""
        return Model.from_dict(await self._http.request_json("GET", build_path("models", model)))

    async def delete(self, model: str) -> None:
        """Delete a fine-tuned model and its weights."""
        await self._http.request_json("DELETE", build_path("models", model))

    async def download(self, model: str, path: str | os.PathLike[str], variant: Variant = "adapter") -> Path:
        """Download the weights as a zip to ``path``, a file or a folder, and return the file's
        path.

        ``adapter`` is the format that PEFT loads; ``merged`` is a complete model for
        ``from_pretrained``. The bytes are verified against the server's SHA-256.
        """
        name = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in f"{model}-{variant}.zip")
        url = build_path("models", model, "download")
        return await download(self._http, url, {"variant": variant}, Path(path), name)
