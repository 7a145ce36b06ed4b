"""Numbers of an architecture that decide the memory of a training step. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

_LOGIT_FIELDS = (
    "final_logit_softcapping",
    "logit_scale",
    "logits_scaling",
    "lm_head_multiplier",
    "output_logit_scale",
    "logits_scale",
    "dim_model_base",
)
"""Config fields of models that transform the logits after the output layer."""
_EXPERT_FIELDS = ("num_experts", "num_local_experts", "n_routed_experts")
_DROPOUT_FIELDS = ("attention_probs_dropout_prob", "attention_dropout", "attention_probs_dropout_rate")


@dataclass(frozen=True)
class Architecture:
    """Sizes of a transformer, per layer. A token passes ``layers`` layers."""

    parameters: int
    layers: int
    """For an encoder-decoder model, those of its longer stack: a token passes one of them."""
    width: int
    query_width: int
    """Heads times their dimension."""
    key_width: int
    """Key-value heads times their dimension."""
    intermediate: int
    """Width inside an MLP, or inside one expert."""
    vocabulary: int
    tied: bool
    """True if input and output embeddings are one matrix, or if there is no output layer."""
    experts: int = 1
    experts_per_token: int = 1
    heads: int = 1
    gated: bool = False
    """True if an MLP has three matrices instead of two."""
    fused: bool = False
    """True for Llama-like layers, whose norms and MLPs have a kernel in ``training.kernels``."""
    attention_dropout: bool = False
    cross_attention: bool = False
    full_attention: bool = False
    """True for a decoder whose layers all use full causal attention, so that rows can be packed."""
    transforms_logits: bool = False
    """True if the model's own forward computes the logits of all targets."""

    @property
    def embedding_parameters(self) -> int:
        return self.vocabulary * self.width * (1 if self.tied else 2)

    @property
    def attention_parameters(self) -> int:
        """Attention matrices of one layer."""
        return 2 * self.width * (self.query_width + self.key_width)

    @property
    def block_parameters(self) -> float:
        return max(0, self.parameters - self.embedding_parameters) / self.layers

    @property
    def linear_widths(self) -> dict[str, tuple[int, int]]:
        """Input and output width of the linear layers of a block, by their usual names."""
        width, inner = self.width, self.intermediate
        mlp = {"up_proj": (width, inner), "down_proj": (inner, width)}
        if self.gated:
            mlp["gate_proj"] = (width, inner)
        return {
            "q_proj": (width, self.query_width),
            "k_proj": (width, self.key_width),
            "v_proj": (width, self.key_width),
            "o_proj": (self.query_width, width),
            **(mlp if self.experts == 1 else {}),
        }


def read_architecture(config: Any, parameters: int) -> Architecture:
    """Read the sizes from a transformers config and the number of ``parameters``.

    Fields that an architecture lacks get the usual value, so that the result is an estimate rather
    than an error.
    """
    text = config.get_text_config()
    width = _get(text, "hidden_size", "d_model") or text.hidden_sizes[-1]
    heads = _get(text, "num_attention_heads", "num_heads") or max(1, width // 64)
    head_width = _get(text, "head_dim", "d_kv") or width // heads
    key_heads = _get(text, "num_key_value_heads") or heads
    experts = next((count for name in _EXPERT_FIELDS if (count := getattr(text, name, None))), 1)
    inner = _get(text, "intermediate_size", "d_ff", "encoder_ffn_dim") or 4 * width
    stacks = (_get(text, "num_hidden_layers", "num_layers", "encoder_layers"), _get(text, "decoder_layers"))
    silu = _get(text, "hidden_act", "hidden_activation") == "silu"
    sizes = Architecture(
        parameters=parameters,
        layers=max(*(count or 1 for count in stacks)),
        width=width,
        query_width=heads * head_width,
        key_width=key_heads * head_width,
        intermediate=(_get(text, "moe_intermediate_size") or inner) if experts > 1 else inner,
        vocabulary=_get(text, "vocab_size") or 0,
        tied=bool(getattr(text, "tie_word_embeddings", True)) or not _has_output_layer(config),
        experts=experts,
        experts_per_token=_get(text, "num_experts_per_tok", "experts_per_token") or 1,
        heads=heads,
        fused=silu and hasattr(text, "rms_norm_eps"),
        attention_dropout=any(getattr(text, name, 0) for name in _DROPOUT_FIELDS),
        cross_attention=bool(getattr(config, "is_encoder_decoder", False)),
        full_attention=_has_full_attention(text),
        transforms_logits=any(getattr(text, name, None) not in (None, 1, 1.0) for name in _LOGIT_FIELDS),
    )
    return _with_gate(sizes)


def _with_gate(sizes: Architecture) -> Architecture:
    """Count the MLP's matrices: configs do not say whether it is gated."""
    per_matrix = sizes.width * sizes.intermediate * sizes.experts
    matrices = (sizes.block_parameters - sizes.attention_parameters) / per_matrix
    return replace(sizes, gated=matrices > 2.5)


def _has_full_attention(text: Any) -> bool:
    is_windowed = getattr(text, "sliding_window", None) is not None and getattr(text, "use_sliding_window", True)
    layers = getattr(text, "layer_types", None) or ()
    return not is_windowed and set(layers) <= {"full_attention"} and not getattr(text, "is_encoder_decoder", False)


def _has_output_layer(config: Any) -> bool:
    return any("LM" in name for name in getattr(config, "architectures", None) or ())


def _get(config: Any, *names: str) -> Any:
    """Return the first of these fields that the config has, or None."""
    return next((value for name in names if (value := getattr(config, name, None)) is not None), None)
