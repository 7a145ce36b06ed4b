"""Catalog of model families: config, tokenizer and chat template of each, and how to save a tiny
random base of it."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import GenerationConfig, PreTrainedConfig

from tests.families.tokenizers import CONTEXT_LENGTH, TokenizerSpec

TEMPLATES_DIRECTORY = Path(__file__).parent / "templates"
INITIALIZER_RANGE = 0.2
"""Standard deviation of the weights. With the usual 0.02, so narrow a model gives nearly equal
outputs for different inputs."""

GENERATIVE_TASKS = ("chat", "completion", "text-classification")

SMALL: Mapping[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT_LENGTH,
    "initializer_range": INITIALIZER_RANGE,
}
"""Sizes that most decoder configs share."""


@dataclass(frozen=True)
class Family:
    """A family of models with one architecture, tokenizer and chat template."""

    title: str
    config_class: str
    """Name in ``transformers``."""
    model_class: str
    tokenizer: TokenizerSpec
    template: str | None = None
    """File in TRL's ``chat_templates``, or in ``templates`` here if ``own_template``."""
    own_template: bool = False
    """True if the template was written here after the family's published format."""
    sizes: Mapping[str, Any] = field(default_factory=dict)
    """Config fields in addition to ``SMALL``."""
    stop_tokens: tuple[str, ...] = ()
    """End tokens of the generation config, if it has others than the tokenizer's ``eos``."""
    config_pad: bool = False
    """True if the model's config names the padding token too."""
    tasks: tuple[str, ...] = GENERATIVE_TASKS
    refused: Mapping[str, str] = field(default_factory=dict)
    """Task that is refused -> the reason, as the refusal gives it."""

    def load_template(self) -> str | None:
        """Return the text of the chat template."""
        if self.template is None:
            return None
        if self.own_template:
            return (TEMPLATES_DIRECTORY / f"{self.template}.jinja").read_text(encoding="utf-8")
        directory = importlib.resources.files("trl") / "chat_templates"
        return (directory / f"{self.template}.jinja").read_text(encoding="utf-8")

    def create_base(self, directory: Path, dtype: torch.dtype = torch.float32, **changes: Any) -> Path:
        """Save a tiny base, with the same random weights every time.

        ``changes`` go into the config.
        """
        tokenizer = self.tokenizer.build(self.load_template())
        ids = {
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id if self.config_pad else None,
        }
        values = {**SMALL, "vocab_size": len(tokenizer), **ids, **self.sizes, **changes}
        config: PreTrainedConfig = getattr(transformers, self.config_class)(**values)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = getattr(transformers, self.model_class)(config)
        stop_ids = [tokenizer.convert_tokens_to_ids(token) for token in (self.tokenizer.eos, *self.stop_tokens)]
        model.generation_config = GenerationConfig(
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=stop_ids if len(stop_ids) > 1 else stop_ids[0],
            pad_token_id=tokenizer.pad_token_id,
        )
        directory.mkdir(parents=True, exist_ok=True)
        model.to(dtype).save_pretrained(directory)
        tokenizer.save_pretrained(directory)
        return directory


_CHATML = ("<|im_start|>",)
_THINKING = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
_GEMMA = ("<start_of_turn>", "<end_of_turn>")
_QWEN2_5 = TokenizerSpec("<|im_end|>", "<|endoftext|>", control=_CHATML, added=("<tool_call>", "</tool_call>"))
_QWEN3 = TokenizerSpec("<|im_end|>", "<|endoftext|>", control=_CHATML, added=_THINKING)
_EXPERTS: Mapping[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}

DECODERS: dict[str, Family] = {
    "llama-3": Family(
        "Llama 3",
        "LlamaConfig",
        "LlamaForCausalLM",
        TokenizerSpec(
            "<|eot_id|>",
            bos="<|begin_of_text|>",
            adds_bos=True,
            control=("<|start_header_id|>", "<|end_header_id|>", "<|end_of_text|>", "<|eom_id|>", "<|python_tag|>"),
        ),
        "llama3_2",
        sizes={
            "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500000.0,
                "factor": 32.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 512,
            },
        },
        stop_tokens=("<|end_of_text|>", "<|eom_id|>"),
    ),
    "qwen2.5": Family(
        "Qwen2.5",
        "Qwen2Config",
        "Qwen2ForCausalLM",
        _QWEN2_5,
        "qwen2_5",
        sizes={"tie_word_embeddings": True},
        stop_tokens=("<|endoftext|>",),
    ),
    "qwen3": Family(
        "Qwen3",
        "Qwen3Config",
        "Qwen3ForCausalLM",
        _QWEN3,
        "qwen3",
        sizes={"head_dim": 32, "tie_word_embeddings": True},
        stop_tokens=("<|endoftext|>",),
    ),
    "qwen3-moe": Family(
        "Qwen3-MoE",
        "Qwen3MoeConfig",
        "Qwen3MoeForCausalLM",
        _QWEN3,
        "qwen3",
        sizes={**_EXPERTS, "head_dim": 32},
        stop_tokens=("<|endoftext|>",),
    ),
    "qwen3.5": Family(
        "Qwen3.5",
        "Qwen3_5TextConfig",
        "Qwen3_5ForCausalLM",
        _QWEN3,
        "qwen3_5_think",
        sizes={
            "head_dim": 32,
            "num_hidden_layers": 4,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 16,
        },
        stop_tokens=("<|endoftext|>",),
    ),
    "gemma-2": Family(
        "Gemma 2",
        "Gemma2Config",
        "Gemma2ForCausalLM",
        TokenizerSpec("<eos>", "<pad>", "<bos>", adds_bos=True, control=_GEMMA),
        "gemma",
        sizes={"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 32},
        stop_tokens=("<end_of_turn>",),
        config_pad=True,
    ),
    "gemma-3": Family(
        "Gemma 3",
        "Gemma3TextConfig",
        "Gemma3ForCausalLM",
        TokenizerSpec("<eos>", "<pad>", "<bos>", adds_bos=True, control=_GEMMA),
        "gemma3",
        sizes={"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 32, "num_hidden_layers": 6},
        stop_tokens=("<end_of_turn>",),
        config_pad=True,
    ),
    "phi-4-mini": Family(
        "Phi-4-mini",
        "Phi3Config",
        "Phi3ForCausalLM",
        TokenizerSpec(
            "<|endoftext|>",
            "<|endoftext|>",
            "<|endoftext|>",
            control=(
                "<|end|>",
                "<|system|>",
                "<|user|>",
                "<|assistant|>",
                "<|tool|>",
                "<|/tool|>",
                "<|tool_call|>",
                "<|/tool_call|>",
                "<|tool_response|>",
            ),
        ),
        "phi4_mini",
        own_template=True,
        sizes={
            "tie_word_embeddings": True,
            "original_max_position_embeddings": CONTEXT_LENGTH,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.75},
        },
        stop_tokens=("<|end|>",),
    ),
    "mistral": Family(
        "Mistral",
        "MistralConfig",
        "MistralForCausalLM",
        TokenizerSpec(
            "</s>",
            bos="<s>",
            adds_bos=True,
            sentencepiece=True,
            control=(
                "[INST]",
                "[/INST]",
                "[TOOL_CALLS]",
                "[AVAILABLE_TOOLS]",
                "[/AVAILABLE_TOOLS]",
                "[TOOL_RESULTS]",
                "[/TOOL_RESULTS]",
            ),
        ),
        "mistral",
        own_template=True,
        sizes={"sliding_window": None},
    ),
    "smollm3": Family(
        "SmolLM3",
        "SmolLM3Config",
        "SmolLM3ForCausalLM",
        TokenizerSpec("<|im_end|>", "<|im_end|>", control=_CHATML, added=_THINKING),
        "smollm3",
        own_template=True,
        sizes={"tie_word_embeddings": True, "num_hidden_layers": 4},
        config_pad=True,
    ),
    "gpt-oss": Family(
        "GPT-OSS",
        "GptOssConfig",
        "GptOssForCausalLM",
        TokenizerSpec(
            "<|return|>",
            "<|endoftext|>",
            "<|startoftext|>",
            control=("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|call|>", "<|constrain|>"),
        ),
        "gptoss",
        sizes={"head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 32},
        stop_tokens=("<|endoftext|>", "<|call|>"),
        config_pad=True,
    ),
    "gpt-neox": Family(
        "GPT-NeoX (Pythia)",
        "GPTNeoXConfig",
        "GPTNeoXForCausalLM",
        TokenizerSpec("<|endoftext|>", bos="<|endoftext|>", control=("<|padding|>",)),
        tasks=("completion", "text-classification"),
    ),
    "granite": Family(
        "Granite",
        "GraniteConfig",
        "GraniteForCausalLM",
        TokenizerSpec(
            "<|end_of_text|>",
            "<|end_of_text|>",
            "<|end_of_text|>",
            control=("<|start_of_role|>", "<|end_of_role|>", "<|tool_call|>"),
        ),
        "granite",
        own_template=True,
        sizes={
            "logits_scaling": 8.0,
            "embedding_multiplier": 12.0,
            "residual_multiplier": 0.22,
            "attention_multiplier": 0.25,
            "tie_word_embeddings": True,
        },
        config_pad=True,
        tasks=("chat", "completion"),
        refused={"text-classification": "transformers has no SequenceClassification model of the type 'granite'"},
    ),
    "olmo-2": Family(
        "OLMo 2",
        "Olmo2Config",
        "Olmo2ForCausalLM",
        TokenizerSpec("<|endoftext|>", "<|pad|>", "<|endoftext|>"),
        "olmo2",
        own_template=True,
        config_pad=True,
    ),
    "deepseek-v3": Family(
        "DeepSeek-V3",
        "DeepseekV3Config",
        "DeepseekV3ForCausalLM",
        TokenizerSpec(
            "<｜end▁of▁sentence｜>",
            "<｜end▁of▁sentence｜>",
            "<｜begin▁of▁sentence｜>",
            adds_bos=True,
            control=("<｜User｜>", "<｜Assistant｜>"),
            added=(
                "<think>",
                "</think>",
                "<｜tool▁calls▁begin｜>",
                "<｜tool▁calls▁end｜>",
                "<｜tool▁call▁begin｜>",
                "<｜tool▁call▁end｜>",
                "<｜tool▁sep｜>",
                "<｜tool▁outputs▁begin｜>",
                "<｜tool▁outputs▁end｜>",
                "<｜tool▁output▁begin｜>",
                "<｜tool▁output▁end｜>",
            ),
        ),
        "deepseekv3",
        sizes={
            "num_key_value_heads": 4,
            "n_routed_experts": 4,
            "n_group": 2,
            "topk_group": 1,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "first_k_dense_replace": 1,
            "q_lora_rank": 24,
            "kv_lora_rank": 16,
            "qk_nope_head_dim": 16,
            "qk_rope_head_dim": 8,
            "v_head_dim": 16,
        },
    ),
}
"""Decoders by a short name. Sizes beyond ``SMALL`` keep what is special about the architecture."""
