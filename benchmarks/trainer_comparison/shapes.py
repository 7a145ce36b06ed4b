"""The bases that are trained, and what a row costs on each.

Useful work, counted alike for whoever does it: of a row of T tokens and N targets on a frozen base with adapters,

* blocks: 2·P·T forward and 2·P·T backward, P the weights of their linear layers; a frozen weight has no gradient,
* adapters: 2·A·T forward and 4·A·T backward (into the input and into their own A weights),
* attention: scores and mixing of the positions that causality leaves, 2·T²·D a layer forward, twice that backward,
* output layer: 4·V·H·N, forward and into its input, at targets only.

Recomputing, padding and logits where nothing is learnt are no useful work. Norms, softmax and the optimizer are left
out: they are no matrix products.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

VOCAB_SIZE = 50_257
CONTEXT_LENGTH = 1024
EOS_TOKEN = "<|endoftext|>"
CHAT_TEMPLATE = (
    "{%- for message in messages -%}{{ '### ' + message['role'] + '\\n' + message['content'] + '" + EOS_TOKEN + "' }}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{ '### assistant\\n' }}{%- endif -%}"
)


@dataclass(frozen=True)
class ModelShape:
    """A Llama with the GPT-2 vocabulary, input and output embedding tied, and how much of it is trained."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    rows: int
    epochs: int
    rounds: int
    """At most."""
    minutes: int
    """For the rounds: no further one is begun that would not fit, by the time that those before it took."""
    held_out_rows: int
    """Rows that the adapters are judged on."""

    @property
    def llama_config(self) -> dict[str, Any]:
        """Of ``transformers.LlamaConfig``."""
        return {
            "vocab_size": VOCAB_SIZE,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "intermediate_size": self.intermediate,
            "max_position_embeddings": CONTEXT_LENGTH,
            "tie_word_embeddings": True,
        }

    @property
    def linear_shapes(self) -> list[tuple[int, int]]:
        """Inputs and outputs of a block's linear layers."""
        narrow = self.hidden // self.heads * self.kv_heads
        attention = [(self.hidden, self.hidden), (self.hidden, narrow), (self.hidden, narrow)]
        wide = [(self.hidden, self.intermediate), (self.hidden, self.intermediate), (self.intermediate, self.hidden)]
        return [*attention, (self.hidden, self.hidden), *wide]

    @property
    def linear_weight_count(self) -> int:
        """Of all blocks' linear layers."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.linear_shapes)

    def count_adapter_weights(self, rank: int) -> int:
        """Weights of LoRA on all of them."""
        return self.layers * sum(rank * (inputs + outputs) for inputs, outputs in self.linear_shapes)

    def count_flops(self, lengths: Sequence[int], targets: int, rank: int) -> int:
        """Useful floating-point operations of rows of these lengths, with so many targets in all."""
        tokens = sum(lengths)
        blocks = 4 * self.linear_weight_count * tokens
        adapters = 6 * self.count_adapter_weights(rank) * tokens
        attention = 6 * self.layers * self.hidden * sum(length**2 for length in lengths)
        output = 4 * VOCAB_SIZE * self.hidden * targets
        return blocks + adapters + attention + output


SHAPES: Mapping[str, ModelShape] = {
    "20m": ModelShape(288, 6, 6, 6, 768, rows=96, epochs=1, rounds=5, minutes=9, held_out_rows=64),
    "135m": ModelShape(576, 30, 9, 3, 1536, rows=24, epochs=1, rounds=3, minutes=14, held_out_rows=16),
}
