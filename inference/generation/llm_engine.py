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

from inference.generation.detokenizer import TokenDecoder
from inference.generation.model_runner import ModelRunner, create_cache
from inference.generation.sampling import SampledToken, build_sampled_token
from inference.generation.scheduler import OutputHandler, Scheduler
from inference.structured_output.guidance import GrammarCompiler
from training.artifacts import serving
from training.tasks.chat_format.template import ChatTemplate
from training.tasks.chat_format.tool_calls import ToolCallFormat, infer_format

BASE_ADAPTER = "__base__"
"""PEFT's name, in a mixed batch, of rows that take no adapter."""

PROMPT_CHUNK = 256
"""Prompt tokens that are scored at once: each takes as many numbers as the vocabulary has tokens."""


@runtime_checkable
class SupportsGeneration(Protocol):
    """What a task has whose models write token by token."""

    def encode_prompt(self, prompt: Any, tokenizer: Any, /) -> list[int]:
        """What the model continues."""

    def stop_tokens(self, model: Any, tokenizer: Any) -> set[int]:
        """Any of these ends an answer."""


class LLMEngine:
    """A loaded model of one task with its scheduler. Adapters come and go between two steps."""

    def __init__(
        self,
        served_model: serving.ServedModel,
        context: int,
        max_num_seqs: int,
        name: str,
        handle_outputs: OutputHandler,
    ) -> None:
        self.served_model = served_model
        self.context = min(context, served_model.base.context_length)
        self.tokenizer = served_model.context.processor
        self.token_decoder = TokenDecoder(self.tokenizer)
        # What the forward pass runs; `_mixed` is PEFT's wrapper around the same layers once there are adapters.
        self._model: Any = served_model.model
        self._peft_model: Any = None
        self._adapter_names: list[str] = []
        self._hooked_layers: set[nn.Module] = set()
        self._adapter_counter = itertools.count()
        assert isinstance(served_model.task, SupportsGeneration)
        self.task: SupportsGeneration = served_model.task
        self._stop_token_ids = self.task.stop_tokens(served_model.model, self.tokenizer)
        self.scheduler = Scheduler(
            ModelRunner(self._forward, served_model.model.device),
            self._stop_token_ids,
            max_num_seqs,
            name,
            handle_outputs,
        )

    @cached_property
    def tool_call_format(self) -> ToolCallFormat:
        """How its chat template writes calls of tools. Raises ``jinja2.TemplateError``."""
        return infer_format(ChatTemplate(self.tokenizer))

    @cached_property
    def grammar_compiler(self) -> GrammarCompiler:
        """What holds its answers to a schema. Raises ``ValueError`` for a tokenizer whose tokens are not bytes."""
        return GrammarCompiler(self.tokenizer, self._stop_token_ids)

    def load_adapter(self, directory: Path) -> str:
        """Load an adapter beside the others; its name in this lane. Blocks. Raises what loading raises."""
        name = f"adapter{next(self._adapter_counter)}"
        with self.scheduler.pause():
            try:
                self._peft_model = serving.load_adapter(self._peft_model or self._model, directory, name)
            except BaseException:
                self._delete_adapter(name)
                raise
            self._register_hooks()
        return name

    def unload_adapter(self, name: str) -> None:
        """Drop an adapter that no row uses any more. Blocks."""
        with self.scheduler.pause():
            self._delete_adapter(name)

    def _delete_adapter(self, name: str) -> None:
        if self._peft_model is None:
            self._remove_lora_layers()
        elif name in self._peft_model.peft_config:
            self._peft_model.delete_adapter(name)

    def _remove_lora_layers(self) -> None:
        """Take out the layers that PEFT put in before the first adapter failed: it leaves no handle to do so itself."""
        layers = [(name, layer) for name, layer in self._model.named_modules() if isinstance(layer, LoraLayer)]
        for name, layer in layers:
            self._model.set_submodule(name, layer.base_layer)
        vars(self._model).pop("peft_config", None)

    def _register_hooks(self) -> None:
        """Tell every adapted layer which adapter each row takes. Set once; PEFT's own way sets hooks at every call."""
        fresh = {layer for layer in self._model.modules() if isinstance(layer, LoraLayer)} - self._hooked_layers
        for layer in fresh:
            layer.register_forward_pre_hook(self._inject_adapter_names, with_kwargs=True)
        self._hooked_layers |= fresh

    def _inject_adapter_names(self, layer: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, "adapter_names": self._adapter_names}

    def compute_prompt_logprobs(self, prompt: Sequence[int], adapter: str, num_logprobs: int) -> list[SampledToken]:
        """The prompt's tokens but the first, each as if chosen after those before it. Blocks."""
        cache, choices = create_cache(), list[SampledToken]()
        for start in range(0, len(prompt) - 1, PROMPT_CHUNK):
            chunk = prompt[start : start + PROMPT_CHUNK]
            with self.scheduler.pause():
                logits_TV = self._forward_chunk(chunk, start, adapter, cache)
            following = zip(logits_TV, prompt[start + 1 : start + PROMPT_CHUNK + 1], strict=False)
            choices += [build_sampled_token(row_V.float(), token, num_logprobs) for row_V, token in following]
        return choices

    @torch.inference_mode()
    def _forward_chunk(self, chunk: Sequence[int], start: int, adapter: str, cache: Cache) -> Tensor:
        """Logits (T, V) after each token of ``piece``, which stands at ``start``, behind what ``cache`` holds."""
        device = self.served_model.model.device
        ids_1T, positions_1T = (
            torch.tensor([list(row)], device=device) for row in (chunk, range(start, start + len(chunk)))
        )
        mask_1T = torch.ones(1, start + len(chunk), dtype=torch.long, device=device)
        logits_1TV = self._compute_logits(ids_1T, mask_1T, positions_1T, cache, [adapter], len(chunk))
        return logits_1TV[0]

    @torch.inference_mode()
    def _forward(
        self, ids_BT: Tensor, mask_BT: Tensor, positions_BT: Tensor, cache: Cache, adapters: Sequence[str]
    ) -> Tensor:
        return self._compute_logits(ids_BT, mask_BT, positions_BT, cache, adapters, 1)[:, -1]

    def _compute_logits(
        self,
        ids_BT: Tensor,
        mask_BT: Tensor,
        positions_BT: Tensor,
        cache: Cache,
        adapters: Sequence[str],
        logits_to_keep: int,
    ) -> Tensor:
        """Of the ``last`` positions."""
        self._adapter_names = list(adapters)
        logits_BTV: Tensor = self._model(
            input_ids=ids_BT,
            attention_mask=mask_BT,
            position_ids=positions_BT,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=logits_to_keep,
        ).logits
        return logits_BTV


class GenerativeModel:
    """A model that writes and that clients can name: a lane's own weights, or one of its adapters."""

    def __init__(
        self, llm_engine: LLMEngine, adapter: str = BASE_ADAPTER, base_lease: AsyncExitStack | None = None
    ) -> None:
        self.llm_engine = llm_engine
        self.adapter = adapter
        # What an adapter needs for as long as it lives: its base's place in the pool.
        self._base_lease = base_lease

    async def close(self) -> None:
        """Take the adapter out of its lane, or end the lane."""
        if self._base_lease is None:
            await asyncio.to_thread(self.llm_engine.scheduler.close)
        else:
            await asyncio.to_thread(self.llm_engine.unload_adapter, self.adapter)
            await self._base_lease.aclose()
