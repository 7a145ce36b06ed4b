"""Model manager: loads a base model, an adapter on a shared base model, or full weights."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError

from inference.generation.llm_engine import GenerativeModel, LLMEngine
from inference.generation.scheduler import StepOutputs, emit_outputs
from inference.models.artifact_cache import ArtifactCache
from inference.models.pool import ModelPool
from inference.pooling.predictor import Predictor
from inference.protocol.errors import EngineError, EngineUnavailable
from inference.protocol.model_ref import ModelRef
from inference.protocol.routes import build_wrong_route_message
from inference.threads import ThreadPools
from storage.errors import ModelNotPulled
from storage.registry import BaseModelEntry, Registry
from storage.settings import Settings
from training.artifacts import serving
from training.artifacts.result import ResultMetadata
from training.errors import TrainingError
from training.tasks import TASKS
from training.tasks.base import AnyTask, Route
from training.trainer import device
from training.updates.lora import BasePrecision, LoraUpdate, supports_mixed_batches

log = logging.getLogger(__name__)


class ModelManager:
    """Manager of the loaded models.

    Methods raise ``EngineError`` if a model cannot be loaded. Other models are not affected.
    """

    def __init__(self, registry: Registry, cache: ArtifactCache, settings: Settings, pools: ThreadPools) -> None:
        self._registry = registry
        self._cache = cache
        self._pools = pools
        self._max_num_seqs = settings.engine_batch
        # An adapter needs a slot in addition to its base model's.
        self._pool = ModelPool[GenerativeModel | Predictor](max(2, settings.engine_models))
        selected = device.select_device()
        self._device = str(selected.torch_device)
        # On a CPU, fp32 makes a sequence's logits depend less on its batch than bf16 does.
        self._dtype = selected.dtype if selected.torch_device.type == "cuda" else torch.float32

    @asynccontextmanager
    async def acquire_generative_model(self, ref: ModelRef, route: Route) -> AsyncIterator[GenerativeModel]:
        """Yield a generative model that stays loaded within the context.

        ``route`` is the request's route.
        """
        self._check_servable(ref, route)
        async with AsyncExitStack() as leases:
            if ref.update == LoraUpdate().type and _to_pool_key(ref) not in self._pool:
                async with self._acquire_folder(ref) as result:
                    precision = await self._pools.load.run(_read_shared_precision, ref, result)
                # Lease the base first: adapters that hold all slots would wait for the base's slot
                # indefinitely.
                if precision:
                    await leases.enter_async_context(self._acquire_base(ref, precision))
            model = await leases.enter_async_context(
                self._pool.acquire(_to_pool_key(ref), partial(self._load_generative_model, ref))
            )
            assert isinstance(model, GenerativeModel)
            yield model

    @asynccontextmanager
    async def acquire_predictor(self, ref: ModelRef, route: Route) -> AsyncIterator[Predictor]:
        """Yield a predictor that stays loaded within the context.

        ``route`` is the request's route.
        """
        self._check_servable(ref, route)
        async with self._pool.acquire(_to_pool_key(ref), partial(self._load_predictor, ref)) as model:
            assert isinstance(model, Predictor)
            yield model

    def get_task(self, ref: ModelRef) -> AnyTask:
        """Return the model's task.

        Raises ``EngineError`` if this version does not have the task.
        """
        if ref.task not in TASKS:
            message = f"'{ref.id}' has the task '{ref.task}', which is not served; use another model."
            raise EngineError("unsuitable_model", message, "model")
        return TASKS[ref.task]

    def get_base_model(self, ref: ModelRef) -> tuple[BaseModelEntry, Path]:
        """Return the base model's registry entry and its local directory.

        Raises ``EngineError`` if missing.
        """
        entry = self._registry.get(ref.base)
        if entry is None:
            message = f"Base model '{ref.base}' does not exist; see GET /v1/models."
            raise EngineError("model_not_found", message, "model")
        try:
            return entry, entry.require_location()
        except ModelNotPulled as error:
            raise EngineError("base_model_unavailable", str(error), "model") from error

    def get_stats(self) -> dict[str, int]:
        """Return the numbers of loaded models, running sequences and waiting sequences."""
        models = self._pool.values()
        queue_lengths = {
            model.llm_engine: model.llm_engine.scheduler.queue_lengths
            for model in models
            if isinstance(model, GenerativeModel)
        }.values()
        return {
            "loaded": len(models),
            "running": sum(running for running, _ in queue_lengths),
            "waiting": sum(waiting for _, waiting in queue_lengths),
        }

    async def close(self) -> None:
        await self._pool.close()

    def _check_servable(self, ref: ModelRef, route: Route) -> None:
        if self.get_task(ref).route != route:
            raise EngineError("unsuitable_model", build_wrong_route_message(ref.id, [ref.task]), "model")
        entry, _ = self.get_base_model(ref)
        if ref.prefix is None and ref.task not in entry.tasks:
            tasks = ", ".join(entry.tasks)
            message = f"'{ref.id}' does not support the task {ref.task}; it supports {tasks}. Use another model."
            raise EngineError("unsuitable_model", message, "model")

    @asynccontextmanager
    async def _acquire_base(self, ref: ModelRef, precision: BasePrecision) -> AsyncIterator[GenerativeModel]:
        """Yield the model that adapters of ``ref``'s base, trained at this precision, run on."""
        base = ModelRef.from_base(ref.base, ref.task)
        async with self._pool.acquire(
            _to_pool_key(base, precision), partial(self._load_standalone, base, None, precision)
        ) as model:
            assert isinstance(model, GenerativeModel)
            yield model

    async def _load_generative_model(self, ref: ModelRef) -> GenerativeModel:
        if ref.prefix is None:
            return await self._load_standalone(ref, None)
        async with self._acquire_folder(ref) as result:
            precision = await self._pools.load.run(_read_shared_precision, ref, result)
            if precision is None:
                return await self._load_standalone(ref, result)
            async with AsyncExitStack() as leases:
                base = await leases.enter_async_context(self._acquire_base(ref, precision))
                if _has_template_of_base(result, base.llm_engine):
                    adapter = await self._pools.load.run(_load_adapter, ref, base.llm_engine, result)
                    state = ResultMetadata.read(result).state
                    return GenerativeModel(base.llm_engine, self._pools, adapter, leases.pop_all(), state)
            return await self._load_standalone(ref, result)

    async def _load_predictor(self, ref: ModelRef) -> Predictor:
        entry, _ = self.get_base_model(ref)
        if ref.prefix is None:
            served_model = await self._pools.load.run(self._load_weights, ref, None)
        else:
            async with self._acquire_folder(ref) as result:
                served_model = await self._pools.load.run(self._load_weights, ref, result)
        return Predictor(served_model, entry.context, self._pools.forward)

    async def _load_standalone(
        self, ref: ModelRef, result: Path | None, precision: BasePrecision = "native"
    ) -> GenerativeModel:
        loop = asyncio.get_running_loop()

        def handle_outputs(outputs: StepOutputs) -> None:
            loop.call_soon_threadsafe(emit_outputs, outputs)

        def load() -> GenerativeModel:
            entry, _ = self.get_base_model(ref)
            served_model = self._load_weights(ref, result, precision)
            state = served_model.metadata.state if served_model.metadata else None
            llm_engine = LLMEngine(served_model, entry.context, self._max_num_seqs, ref.id, handle_outputs)
            return GenerativeModel(llm_engine, self._pools, state=state)

        return await self._pools.load.run(load)

    def _load_weights(
        self, ref: ModelRef, result: Path | None, precision: BasePrecision = "native"
    ) -> serving.ServedModel:
        entry, directory = self.get_base_model(ref)
        with translate_load_errors(ref):
            return serving.load(directory, result, ref.task, self._dtype, self._device, entry.chat_template, precision)

    @asynccontextmanager
    async def _acquire_folder(self, ref: ModelRef) -> AsyncIterator[Path]:
        context = self._cache.acquire_folder(ref)
        path = await self._pools.fetch.run(context.__enter__)
        try:
            yield path
        finally:
            # Not in `fetch`: a model that is loaded would wait for those that are not.
            await self._pools.load.run(context.__exit__, None, None, None)


def _to_pool_key(ref: ModelRef, precision: BasePrecision = "native") -> Hashable:
    """Return the model's key in the pool. References to the same weights share one loaded model.

    ``precision`` is that of a base. A result stores its own.
    """
    return ref.base, ref.task, ref.manifest_sha256, ref.part, precision


def _read_shared_precision(ref: ModelRef, result: Path) -> BasePrecision | None:
    """Return the precision of the base whose batches the result shares, or None if it is served
    alone."""
    with translate_load_errors(ref):
        update = ResultMetadata.read(result).update
        if isinstance(update, LoraUpdate) and supports_mixed_batches(result):
            return update.base_precision
        return None


def _has_template_of_base(result: Path, llm_engine: LLMEngine) -> bool:
    """False if the registry has named another chat template since the result was trained."""
    file = serving.find_template(result)
    return file is None or file.read_text(encoding="utf-8") == llm_engine.tokenizer.chat_template


def _load_adapter(ref: ModelRef, llm_engine: LLMEngine, result: Path) -> str:
    with translate_load_errors(ref):
        return llm_engine.load_adapter(result)


@contextmanager
def translate_load_errors(ref: ModelRef) -> Iterator[None]:
    """Translate errors of loading (missing or truncated files, wrong shapes, no memory) to
    ``EngineError``."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise EngineUnavailable(
            f"The engine has too little free memory to load '{ref.id}'; try again later.", "engine_overloaded"
        ) from error
    except TrainingError as error:
        code = error.code if error.code == "base_model_unavailable" else "model_unusable"
        raise EngineError(code, error.message, "model") from error
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        log.warning("cannot load %s", ref.id, exc_info=True)
        raise EngineError(
            "model_unusable",
            f"The weights of '{ref.id}' cannot be loaded; see the engine's log, and train the model again.",
            "model",
        ) from error
