"""One set of chat weights, the adapters that share it, and the thread that decodes for all of them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers.cache_utils import Cache

from inference.decode import Decoder
from inference.errors import EngineError
from inference.scheduler import Deliver, Scheduler
from inference.text import TokenNames
from training import serving
from training.tasks.chat import Chat, Message

BASE = "__base__"
"""PEFT's name, in a mixed batch, of rows that take no adapter."""


class Lane:
    """A loaded chat model with its scheduler. Adapters come and go between two steps."""

    def __init__(self, served: serving.Served, context: int, slots: int, name: str, deliver: Deliver) -> None:
        self.served = served
        self.context = min(context, served.base.context)
        self.names = TokenNames(served.tokenizer)
        # What the forward pass runs; `_mixed` is PEFT's wrapper around the same layers once there are adapters.
        self._model: Any = served.model
        self._mixed: Any = None
        self._adapters: list[str] = []
        self._hooked: set[nn.Module] = set()
        self._numbers = itertools.count()
        assert isinstance(served.task, Chat)
        self.task = served.task
        ends = self.task.stop_tokens(served.model, served.tokenizer)
        self.scheduler = Scheduler(Decoder(self._forward, served.model.device), ends, slots, name, deliver)

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

    @torch.inference_mode()
    def _forward(
        self, ids_BT: Tensor, mask_BT: Tensor, positions_BT: Tensor, cache: Cache, adapters: Sequence[str]
    ) -> Tensor:
        self._adapters = list(adapters)
        out = self._model(
            input_ids=ids_BT,
            attention_mask=mask_BT,
            position_ids=positions_BT,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits_BV: Tensor = out.logits[:, -1]
        return logits_BV


class ChatModel:
    """A chat model that clients can name: a lane's own weights, or one of its adapters."""

    def __init__(self, lane: Lane, adapter: str = BASE, held: AsyncExitStack | None = None) -> None:
        self.lane = lane
        self.adapter = adapter
        # What an adapter needs for as long as it lives: its base's place in the pool.
        self._held = held

    def encode(self, conversation: Sequence[dict[str, str]]) -> list[int]:
        """The prompt: all turns, then the opening of the answer's. Raises ``EngineError``."""
        messages = [Message.model_validate(turn) for turn in conversation]
        try:
            return self.lane.task.encode_prompt(messages, self.lane.served.tokenizer)
        except TemplateError as error:
            raise EngineError(
                "invalid_request", f"This model's chat template refuses the conversation: {error}.", "messages"
            ) from error

    async def close(self) -> None:
        """Take the adapter out of its lane, or end the lane."""
        if self._held is None:
            await asyncio.to_thread(self.lane.scheduler.close)
        else:
            await asyncio.to_thread(self.lane.remove, self.adapter)
            await self._held.aclose()
