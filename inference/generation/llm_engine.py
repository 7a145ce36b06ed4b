"""LLM engine: one base model, the adapters that share its weights, and their scheduler."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

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
from training.tasks.base import TaskState
from training.tasks.chat_format.template import ChatTemplate
from training.tasks.chat_format.tool_calls import ToolCallFormat, infer_format

if TYPE_CHECKING:
    # Only the type: its module needs storage, which a bare GPU machine lacks.
    from inference.threads import ThreadPools

BASE_ADAPTER = "__base__"
"""PEFT's name for sequences without an adapter in a mixed batch."""

PROMPT_CHUNK = 256
"""Prompt tokens per forward pass when logprobs of a prompt are computed: the logits of each token
have vocabulary size."""


@runtime_checkable
class SupportsGeneration(Protocol):
    """Interface of tasks whose models generate tokens."""

    def encode_prompt(self, prompt: Any, renderer: Any, /) -> list[int]:
        """Return the token ids of a prompt.

        ``renderer`` is the tokenizer, or of a chat the chat template.
        """

    def stop_tokens(self, model: Any, tokenizer: Any) -> set[int]:
        """Return the ids of the tokens that end generation."""


class LLMEngine:
    """Loaded model of one task with its scheduler.

    Adapters are loaded and unloaded between two steps.
    """

    def __init__(
        self,
        served_model: serving.ServedModel,
        context: int,
        max_num_seqs: int,
        name: str,
        handle_outputs: OutputHandler,
    ) -> None:
        self.served_model = served_model
        self.max_model_len = min(context, served_model.base.context_length)
        self.tokenizer = served_model.context.processor
        self.vocab_size = served_model.vocab_size
        self.token_decoder = TokenDecoder(self.tokenizer)
        # The forward pass runs `_model`. `_peft_model` is PEFT's wrapper around the same layers,
        # from the first adapter on.
        self._model: Any = served_model.model
        self._peft_model: Any = None
        self._adapter_names: list[str] = []
        self._hooked_layers: set[nn.Module] = set()
        self._adapter_counter = itertools.count()
        assert isinstance(served_model.task, SupportsGeneration)
        self.task: SupportsGeneration = served_model.task
        self._layer_types: Sequence[str] = (
            getattr(served_model.model.config.get_text_config(), "layer_types", None) or ()
        )
        self._stop_token_ids = self.task.stop_tokens(served_model.model, self.tokenizer)
        self.scheduler = Scheduler(
            ModelRunner(self._forward, served_model.model.device, self._layer_types),
            self._stop_token_ids,
            max_num_seqs,
            name,
            handle_outputs,
        )

    @cached_property
    def chat_template(self) -> ChatTemplate:
        """Chat template of the tokenizer."""
        return ChatTemplate(self.tokenizer)

    @cached_property
    def tool_call_format(self) -> ToolCallFormat:
        """Format of tool calls in the chat template. Raises ``jinja2.TemplateError``."""
        return infer_format(self.chat_template)

    @cached_property
    def grammar_compiler(self) -> GrammarCompiler:
        """Compiler of grammars for constrained decoding.

        Raises ``ValueError`` for a tokenizer whose tokens are not bytes.
        """
        return GrammarCompiler(self.tokenizer, self._stop_token_ids)

    def load_adapter(self, directory: Path) -> str:
        """Load an adapter and return its name in this engine.

        Blocks. Raises the errors of loading.
        """
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
        """Unload an adapter that no sequence uses. Blocks."""
        with self.scheduler.pause():
            self._delete_adapter(name)

    def _delete_adapter(self, name: str) -> None:
        if self._peft_model is None:
            self._remove_lora_layers()
        elif name in self._peft_model.peft_config:
            self._peft_model.delete_adapter(name)

    def _remove_lora_layers(self) -> None:
        """Remove the layers that PEFT inserted before its first adapter failed.

        PEFT returns no handle that could remove them.
        """
        layers = [(name, layer) for name, layer in self._model.named_modules() if isinstance(layer, LoraLayer)]
        for name, layer in layers:
            self._model.set_submodule(name, layer.base_layer)
        vars(self._model).pop("peft_config", None)

    def _register_hooks(self) -> None:
        """Pass the adapter of each sequence to every LoRA layer.

        PEFT itself registers hooks at every call.
        """
        new_layers = {layer for layer in self._model.modules() if isinstance(layer, LoraLayer)} - self._hooked_layers
        for layer in new_layers:
            layer.register_forward_pre_hook(self._inject_adapter_names, with_kwargs=True)
        self._hooked_layers |= new_layers

    def _inject_adapter_names(self, layer: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, "adapter_names": self._adapter_names}

    def compute_prompt_logprobs(self, prompt: Sequence[int], adapter: str, num_logprobs: int) -> list[SampledToken]:
        """Compute the logprob of every prompt token except the first, given the tokens before it.

        Blocks.
        """
        cache, sampled_tokens = create_cache(self._layer_types), list[SampledToken]()
        for start in range(0, len(prompt) - 1, PROMPT_CHUNK):
            chunk = prompt[start : start + PROMPT_CHUNK]
            with self.scheduler.pause():
                logits_TV = self._forward_chunk(chunk, start, adapter, cache)
            next_tokens = zip(logits_TV, prompt[start + 1 : start + PROMPT_CHUNK + 1], strict=False)
            sampled_tokens += [
                build_sampled_token(logits_V.float(), token, num_logprobs) for logits_V, token in next_tokens
            ]
        return sampled_tokens

    @torch.inference_mode()
    def _forward_chunk(self, chunk: Sequence[int], start: int, adapter: str, cache: Cache) -> Tensor:
        """Return the logits (T, V) after each token of ``chunk``.

        ``cache`` holds the ``start`` tokens before it.
        """
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
        """Return the logits (B, logits_to_keep, V) of the last positions.

        Rows of the output layer beyond the vocabulary are never generated.
        """
        self._adapter_names = list(adapters)
        logits_BTV: Tensor = self._model(
            input_ids=ids_BT,
            attention_mask=mask_BT,
            position_ids=positions_BT,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=logits_to_keep,
        ).logits
        logits_BTV[..., self.vocab_size :] = -torch.inf
        return logits_BTV


class GenerativeModel:
    """Generative model that clients select: an engine's own weights, or one of its adapters."""

    def __init__(
        self,
        llm_engine: LLMEngine,
        pools: ThreadPools,
        adapter: str = BASE_ADAPTER,
        base_lease: AsyncExitStack | None = None,
        state: TaskState | None = None,
    ) -> None:
        """``state``: state of the task in the result's metadata. None for a base model."""
        self.llm_engine = llm_engine
        self.pools = pools
        self.adapter = adapter
        self.thinks = bool((state or {}).get("thinking"))
        """True if chats that do not say otherwise are answered with reasoning."""
        # An adapter holds its base model's slot in the pool until it is closed.
        self._base_lease = base_lease

    async def close(self) -> None:
        """Unload the adapter, or stop the engine's scheduler if this is the base model."""
        if self._base_lease is None:
            await self.pools.load.run(self.llm_engine.scheduler.close)
        else:
            await self.pools.load.run(self.llm_engine.unload_adapter, self.adapter)
            await self._base_lease.aclose()
