"""Inference engine without HTTP: chat, completions, embeddings, predictions, loading and export."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

from inference.models.artifact_cache import ArtifactCache
from inference.models.export import write_zip
from inference.models.manager import ModelManager, translate_load_errors
from inference.protocol.errors import EngineError
from inference.protocol.generation import ChatCompletionRequest, CompletionRequest
from inference.protocol.model_ref import ModelRef, Variant
from inference.protocol.pooling import EmbeddingRequest, PredictionRequest
from inference.serving import chat, completions, embeddings, predictions
from inference.threads import ThreadPools
from storage import blobs
from storage.registry import Registry
from storage.settings import Settings
from training.artifacts import serving
from training.tasks.base import Route

_CHAT_PROBE = ChatCompletionRequest.model_validate(
    {"model": "probe", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4, "temperature": 0}
)
_COMPLETION_PROBE = CompletionRequest(model="probe", prompt="Hello", max_tokens=4, temperature=0)
_EMBEDDING_PROBE = EmbeddingRequest(model="probe", input="Hello")

_EXPORT_NEEDS_MERGE: Mapping[tuple[str, Variant], bool] = {
    ("lora", "adapter"): False,
    ("lora", "merged"): True,
    ("full", "merged"): False,
    ("head", "merged"): False,
    ("layers", "merged"): False,
}
"""Supported (update, variant) -> whether the base model is merged in; if not, the result is
exported as stored."""


class Engine:
    """Inference over all models of one installation.

    Methods raise ``EngineError`` if a request fails.
    """

    def __init__(self, settings: Settings) -> None:
        files = [settings.models_file, settings.home / "models.toml"]
        self._blobs = blobs.connect(settings.blob_url)
        self._cache = ArtifactCache(self._blobs, settings.cache_dir)
        self._pools = ThreadPools()
        self._models = ModelManager(Registry(files, settings.models_dir), self._cache, settings, self._pools)

    async def chat(self, ref: ModelRef, request: ChatCompletionRequest) -> dict[str, Any]:
        """Generate a ``chat.completion``."""
        async with self._models.acquire_generative_model(ref, "chat/completions") as model:
            return await chat.complete(model, ref.id, request)

    async def chat_stream(self, ref: ModelRef, request: ChatCompletionRequest) -> AsyncGenerator[dict[str, Any], None]:
        """Generate the chunks of a ``chat.completion.chunk`` stream."""
        async with (
            self._models.acquire_generative_model(ref, "chat/completions") as model,
            aclosing(chat.stream(model, ref.id, request)) as chunks,
        ):
            async for chunk in chunks:
                yield chunk

    async def complete(self, ref: ModelRef, request: CompletionRequest) -> dict[str, Any]:
        """Generate a ``text_completion``."""
        async with self._models.acquire_generative_model(ref, "completions") as model:
            return await completions.complete(model, ref.id, request)

    async def complete_stream(self, ref: ModelRef, request: CompletionRequest) -> AsyncGenerator[dict[str, Any], None]:
        """Generate the chunks of a ``text_completion`` stream."""
        async with (
            self._models.acquire_generative_model(ref, "completions") as model,
            aclosing(completions.stream(model, ref.id, request)) as chunks,
        ):
            async for chunk in chunks:
                yield chunk

    async def embed(self, ref: ModelRef, request: EmbeddingRequest) -> dict[str, Any]:
        """Compute one embedding per input, in input order."""
        async with self._models.acquire_predictor(ref, "embeddings") as model:
            return await embeddings.embed(model, ref.id, request)

    async def predict(self, ref: ModelRef, request: PredictionRequest) -> dict[str, Any]:
        """Compute one prediction per input, in input order."""
        async with self._models.acquire_predictor(ref, "predictions") as model:
            return await predictions.predict(model, ref.id, request)

    async def load(self, ref: ModelRef) -> dict[str, Any]:
        """Load the model and run a probe request on it."""
        started = time.monotonic()
        answer = await _PROBES[self._models.get_task(ref).route](self, ref)
        return {"model": ref.id, "seconds": time.monotonic() - started, "answer": answer}

    async def export(self, ref: ModelRef, variant: Variant) -> dict[str, Any]:
        """Write the weights as a zip file to the blob store."""
        if ref.prefix is None:
            raise EngineError(
                "unsuitable_model",
                f"'{ref.id}' is a base model and has no fine-tuned weights; export a fine-tuned model.",
            )
        if (ref.update, variant) not in _EXPORT_NEEDS_MERGE:
            raise EngineError(
                "invalid_request",
                f"'{ref.id}' was trained with update '{ref.update}' and has no '{variant}' weights; "
                "use variant=merged.",
                "variant",
            )
        _, base = self._models.get_base_model(ref)
        return await self._pools.export.run(self._export, ref, variant, base)

    def _export(self, ref: ModelRef, variant: Variant, base: Path) -> dict[str, Any]:
        key = f"exports/{ref.manifest_sha256}/{'checkpoint' if ref.part else 'result'}-{variant}.zip"
        with self._cache.acquire_folder(ref) as result, tempfile.TemporaryDirectory(prefix="export-") as scratch:
            folder, archive = result, Path(scratch, "weights.zip")
            if _EXPORT_NEEDS_MERGE[ref.update, variant]:
                folder = Path(scratch, "merged")
                with translate_load_errors(ref):
                    serving.merge(base, result, folder)
            write_zip(folder, archive)
            blob = self._blobs.put_file(key, archive)
        return {"blob_key": key, "sha256": blob.sha256, "bytes": blob.size}

    def get_stats(self) -> dict[str, Any]:
        """Return the status and the numbers of loaded models and running and waiting sequences."""
        return {"status": "ok", **self._models.get_stats()}

    async def close(self) -> None:
        await self._models.close()
        self._pools.close()

    async def _probe_predictions(self, ref: ModelRef) -> dict[str, Any]:
        return await self.predict(ref, predictions.build_probe(self._models.get_task(ref)))


_PROBES: Mapping[Route, Callable[[Engine, ModelRef], Awaitable[dict[str, Any]]]] = {
    "chat/completions": lambda engine, ref: engine.chat(ref, _CHAT_PROBE),
    "completions": lambda engine, ref: engine.complete(ref, _COMPLETION_PROBE),
    "embeddings": lambda engine, ref: engine.embed(ref, _EMBEDDING_PROBE),
    "predictions": Engine._probe_predictions,
}
"""Route -> function that runs a probe request on a model of that route."""
