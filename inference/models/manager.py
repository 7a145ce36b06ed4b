"""From a reference to a loaded model: the base, an adapter beside others on it, or weights of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError

from inference.generation.llm_engine import Lane, Writer
from inference.generation.scheduler import Deliver, Updates, emit_all
from inference.models.artifact_cache import FolderCache
from inference.models.pool import Pool
from inference.pooling.predictor import Predictor
from inference.protocol.errors import EngineError, EngineUnavailable
from inference.protocol.model_ref import ModelRef
from inference.protocol.routes import elsewhere
from storage.errors import ModelNotPulled
from storage.registry import BaseModelEntry, Registry
from storage.settings import Settings
from training.artifacts import serving
from training.artifacts.result import Card
from training.errors import TrainingError
from training.tasks import TASKS
from training.tasks.base import AnyTask, Route
from training.trainer import device
from training.updates.lora import LoraUpdate

log = logging.getLogger(__name__)


class Models:
    """The models in memory. ``EngineError`` says why one cannot be had; its neighbours are not disturbed."""

    def __init__(self, registry: Registry, cache: FolderCache, settings: Settings) -> None:
        self._registry = registry
        self._cache = cache
        self._slots = settings.engine_batch
        # An adapter needs a place beside its base's.
        self._pool = Pool[Writer | Predictor](max(2, settings.engine_models))
        place = device.choose()
        self._device = str(place.device)
        # On a CPU a row's bits then do not depend on the batch around it as much as in bf16.
        self._dtype = place.dtype if place.device.type == "cuda" else torch.float32

    @asynccontextmanager
    async def writer(self, ref: ModelRef, route: Route) -> AsyncIterator[Writer]:
        """A model that writes, loaded for as long as the context lasts. ``route``: where it was asked."""
        self._check(ref, route)
        async with AsyncExitStack() as held:
            if ref.update == LoraUpdate().type:
                # The base takes its place first: adapters that hold every place would wait for it for ever.
                await held.enter_async_context(self.writer(ModelRef.of_base(ref.base, ref.task), route))
            model = await held.enter_async_context(self._pool.lease(_key(ref), partial(self._load_writer, ref, route)))
            assert isinstance(model, Writer)
            yield model

    @asynccontextmanager
    async def predictor(self, ref: ModelRef, route: Route) -> AsyncIterator[Predictor]:
        """A model that does not, loaded for as long as the context lasts."""
        self._check(ref, route)
        async with self._pool.lease(_key(ref), partial(self._load_predictor, ref)) as model:
            assert isinstance(model, Predictor)
            yield model

    def task(self, ref: ModelRef) -> AnyTask:
        if ref.task not in TASKS:
            raise EngineError("unsuitable_model", f"'{ref.id}' has a task that is not served: {ref.task}.", "model")
        return TASKS[ref.task]

    def base(self, ref: ModelRef) -> tuple[BaseModelEntry, Path]:
        """The registry's entry of the base model and its directory on this machine."""
        entry = self._registry.get(ref.base)
        if entry is None:
            raise EngineError("model_not_found", f"There is no base model '{ref.base}'.", "model")
        try:
            return entry, entry.require()
        except ModelNotPulled as error:
            raise EngineError("base_model_unavailable", str(error), "model") from error

    def stats(self) -> dict[str, int]:
        """Models loaded, rows being answered and rows waiting."""
        loaded = self._pool.values()
        loads = {model.lane: model.lane.scheduler.load for model in loaded if isinstance(model, Writer)}.values()
        return {
            "loaded": len(loaded),
            "running": sum(running for running, _ in loads),
            "waiting": sum(waiting for _, waiting in loads),
        }

    async def close(self) -> None:
        await self._pool.close()

    def _check(self, ref: ModelRef, route: Route) -> None:
        if self.task(ref).route != route:
            raise EngineError("unsuitable_model", elsewhere(ref.id, [ref.task]), "model")
        entry, _ = self.base(ref)
        if ref.prefix is None and ref.task not in entry.tasks:
            tasks = ", ".join(entry.tasks)
            raise EngineError("unsuitable_model", f"'{ref.id}' is no {ref.task} model; it is for {tasks}.", "model")

    async def _load_writer(self, ref: ModelRef, route: Route) -> Writer:
        loop = asyncio.get_running_loop()

        def deliver(updates: Updates) -> None:
            loop.call_soon_threadsafe(emit_all, updates)

        if ref.prefix is None:
            return await asyncio.to_thread(self._alone, ref, None, deliver)
        async with self._folder(ref) as result:
            if not await asyncio.to_thread(_joins_a_batch, ref, result):
                return await asyncio.to_thread(self._alone, ref, result, deliver)
            async with AsyncExitStack() as held:
                base = await held.enter_async_context(self.writer(ModelRef.of_base(ref.base, ref.task), route))
                adapter = await asyncio.to_thread(_add, ref, base.lane, result)
                return Writer(base.lane, adapter, held.pop_all())

    async def _load_predictor(self, ref: ModelRef) -> Predictor:
        entry, _ = self.base(ref)
        if ref.prefix is None:
            loaded = await asyncio.to_thread(self._loaded, ref, None)
        else:
            async with self._folder(ref) as result:
                loaded = await asyncio.to_thread(self._loaded, ref, result)
        return Predictor(loaded, entry.context)

    def _alone(self, ref: ModelRef, result: Path | None, deliver: Deliver) -> Writer:
        entry, _ = self.base(ref)
        return Writer(Lane(self._loaded(ref, result), entry.context, self._slots, ref.id, deliver))

    def _loaded(self, ref: ModelRef, result: Path | None) -> serving.Served:
        _, directory = self.base(ref)
        with _translated(ref):
            return serving.load(directory, result, ref.task, self._dtype, self._device)

    @asynccontextmanager
    async def _folder(self, ref: ModelRef) -> AsyncIterator[Path]:
        context = self._cache.folder(ref)
        path = await asyncio.to_thread(context.__enter__)
        try:
            yield path
        finally:
            await asyncio.to_thread(context.__exit__, None, None, None)


def _key(ref: ModelRef) -> Hashable:
    """Two names of the same bytes share what is loaded."""
    return ref.base, ref.task, ref.manifest_sha256, ref.part


def _joins_a_batch(ref: ModelRef, result: Path) -> bool:
    """Whether its rows can be decoded beside others of the same base: PEFT mixes plain LoRA, not DoRA."""
    with _translated(ref):
        update = Card.read(result).update
        return isinstance(update, LoraUpdate) and not update.dora


def _add(ref: ModelRef, lane: Lane, result: Path) -> str:
    with _translated(ref):
        return lane.add(result)


@contextmanager
def _translated(ref: ModelRef) -> Iterator[None]:
    """What loading raises for files that are missing, cut short or of another shape, in the engine's words."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise EngineUnavailable(f"There is no memory left to load '{ref.id}'.", "engine_overloaded") from error
    except TrainingError as error:
        code = error.code if error.code == "base_model_unavailable" else "model_unusable"
        raise EngineError(code, error.message, "model") from error
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        log.warning("cannot load %s", ref.id, exc_info=True)
        raise EngineError("model_unusable", f"The weights of '{ref.id}' cannot be loaded.", "model") from error
