"""One set of weights that writes, the adapters that share it, and the thread that decodes for all of them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers.cache_utils import Cache

from inference.generation.detokenizer import TokenNames
from inference.generation.model_runner import Decoder, new_cache
from inference.generation.sampling import Choice, scored
from inference.generation.scheduler import Deliver, Scheduler
from inference.structured_output.guidance import Grammars
from training.artifacts import serving
from training.tasks.chat_format.template import ChatTemplate
from training.tasks.chat_format.tool_calls import CallForm, learn

BASE = "__base__"
"""PEFT's name, in a mixed batch, of rows that take no adapter."""

PIECE = 256
"""Prompt tokens that are scored at once: each takes as many numbers as the vocabulary has tokens."""


@runtime_checkable
class Writing(Protocol):
    """What a task has whose models write token by token."""

    def encode_prompt(self, prompt: Any, tokenizer: Any, /) -> list[int]:
        """What the model continues."""

    def stop_tokens(self, model: Any, tokenizer: Any) -> set[int]:
        """Any of these ends an answer."""


class Lane:
    """A loaded model of one task with its scheduler. Adapters come and go between two steps."""

    def __init__(self, served: serving.Served, context: int, slots: int, name: str, deliver: Deliver) -> None:
        self.served = served
        self.context = min(context, served.base.context)
        self.tokenizer = served.kit.processor
        self.names = TokenNames(self.tokenizer)
        # What the forward pass runs; `_mixed` is PEFT's wrapper around the same layers once there are adapters.
        self._model: Any = served.model
        self._mixed: Any = None
        self._adapters: list[str] = []
        self._hooked: set[nn.Module] = set()
        self._numbers = itertools.count()
        assert isinstance(served.task, Writing)
        self.task: Writing = served.task
        self._ends = self.task.stop_tokens(served.model, self.tokenizer)
        self.scheduler = Scheduler(Decoder(self._forward, served.model.device), self._ends, slots, name, deliver)

    @cached_property
    def call_form(self) -> CallForm:
        """How its chat template writes calls of tools. Raises ``jinja2.TemplateError``."""
        return learn(ChatTemplate(self.tokenizer))

    @cached_property
    def grammars(self) -> Grammars:
        """What holds its answers to a schema. Raises ``ValueError`` for a tokenizer whose tokens are not bytes."""
        return Grammars(self.tokenizer, self._ends)

    def add(self, directory: Path) -> str:
        """Load an adapter beside the others; its name in this lane. Blocks. Raises what loading raises."""
        name = f"adapter{next(self._numbers)}"
        with self.scheduler.paused():
            try:
                self._mixed = serving.load_adapter(self._mixed or self._model, directory, name)
            except BaseException:
                self._forget(name)
                raise
            self._hook()
        return name

    def remove(self, name: str) -> None:
        """Drop an adapter that no row uses any more. Blocks."""
        with self.scheduler.paused():
            self._forget(name)

    def _forget(self, name: str) -> None:
        if self._mixed is None:
            self._unwrap()
        elif name in self._mixed.peft_config:
            self._mixed.delete_adapter(name)

    def _unwrap(self) -> None:
        """Take out the layers that PEFT put in before the first adapter failed: it leaves no handle to do so itself."""
        layers = [(name, layer) for name, layer in self._model.named_modules() if isinstance(layer, LoraLayer)]
        for name, layer in layers:
            self._model.set_submodule(name, layer.base_layer)
        vars(self._model).pop("peft_config", None)

    def _hook(self) -> None:
        """Tell every adapted layer which adapter each row takes. Set once; PEFT's own way sets hooks at every call."""
        fresh = {layer for layer in self._model.modules() if isinstance(layer, LoraLayer)} - self._hooked
        for layer in fresh:
            layer.register_forward_pre_hook(self._name_rows, with_kwargs=True)
        self._hooked |= fresh

    def _name_rows(self, layer: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, "adapter_names": self._adapters}

    def score(self, prompt: Sequence[int], adapter: str, alternatives: int) -> list[Choice]:
        """The prompt's tokens but the first, each as if chosen after those before it. Blocks."""
        cache, choices = new_cache(), list[Choice]()
        for start in range(0, len(prompt) - 1, PIECE):
            piece = prompt[start : start + PIECE]
            with self.scheduler.paused():
                logits_TV = self._read(piece, start, adapter, cache)
            following = zip(logits_TV, prompt[start + 1 : start + PIECE + 1], strict=False)
            choices += [scored(row_V.float(), token, alternatives) for row_V, token in following]
        return choices

    @torch.inference_mode()
    def _read(self, piece: Sequence[int], start: int, adapter: str, cache: Cache) -> Tensor:
        """Logits (T, V) after each token of ``piece``, which stands at ``start``, behind what ``cache`` holds."""
        device = self.served.model.device
        ids_1T, positions_1T = (
            torch.tensor([list(row)], device=device) for row in (piece, range(start, start + len(piece)))
        )
        mask_1T = torch.ones(1, start + len(piece), dtype=torch.long, device=device)
        logits_1TV = self._logits(ids_1T, mask_1T, positions_1T, cache, [adapter], len(piece))
        return logits_1TV[0]

    @torch.inference_mode()
    def _forward(
        self, ids_BT: Tensor, mask_BT: Tensor, positions_BT: Tensor, cache: Cache, adapters: Sequence[str]
    ) -> Tensor:
        return self._logits(ids_BT, mask_BT, positions_BT, cache, adapters, 1)[:, -1]

    def _logits(
        self, ids_BT: Tensor, mask_BT: Tensor, positions_BT: Tensor, cache: Cache, adapters: Sequence[str], last: int
    ) -> Tensor:
        """Of the ``last`` positions."""
        self._adapters = list(adapters)
        logits_BTV: Tensor = self._model(
            input_ids=ids_BT,
            attention_mask=mask_BT,
            position_ids=positions_BT,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=last,
        ).logits
        return logits_BTV


class Writer:
    """A model that writes and that clients can name: a lane's own weights, or one of its adapters."""

    def __init__(self, lane: Lane, adapter: str = BASE, held: AsyncExitStack | None = None) -> None:
        self.lane = lane
        self.adapter = adapter
        # What an adapter needs for as long as it lives: its base's place in the pool.
        self._held = held

    async def close(self) -> None:
        """Take the adapter out of its lane, or end the lane."""
        if self._held is None:
            await asyncio.to_thread(self.lane.scheduler.close)
        else:
            await asyncio.to_thread(self.lane.remove, self.adapter)
            await self._held.aclose()
