"""Where a model's blocks are, found by its structure: what stands before them, the blocks, what stands after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class BlockStack:
    """A model and the list of its blocks."""

    model: Any
    path: str
    """Name of the list of blocks, a ``ModuleList``."""

    @property
    def blocks(self) -> Any:
        return self.model.get_submodule(self.path)

    @property
    def is_single_pass(self) -> bool:
        """Whether a forward pass goes through each block once; ALBERT goes through the same ones again and again."""
        layers = getattr(self.model.config.get_text_config(), "num_hidden_layers", None)
        return layers is None or layers == len(self.blocks)

    def replace(self, blocks: Any) -> None:
        """Put another list in the place of the blocks."""
        self.model.set_submodule(self.path, blocks)

    def get_last_block_parameters(self, count: int) -> set[str]:
        """Names of the parameters of the last ``count`` blocks."""
        first = max(0, len(self.blocks) - count)
        prefixes = tuple(f"{self.path}.{index}." for index in range(first, len(self.blocks)))
        return {name for name, _ in self.model.named_parameters() if name.startswith(prefixes)}

    def get_head_parameters(self) -> set[str]:
        """Names of the parameters behind the last block: final norm, pooler, head. A weight that an output layer shares
        with the embeddings stands before the blocks."""
        names = [name for name, _ in self.model.named_parameters()]
        inside = [index for index, name in enumerate(names) if name.startswith(f"{self.path}.")]
        return set(names[inside[-1] + 1 :])


def find_blocks(model: Any) -> BlockStack:
    """The blocks are the list of like modules that holds most parameters; of an encoder and a decoder, the decoder's.

    Raises ``ValueError`` where there is none.
    """
    from torch.nn import ModuleList

    lists = {
        name: sum(parameter.numel() for parameter in module.parameters())
        for name, module in model.named_modules()
        if isinstance(module, ModuleList) and len({type(block) for block in module}) == 1
    }
    if not lists:
        raise ValueError(f"{type(model).__name__} has no list of like blocks")
    most = max(lists.values())
    return BlockStack(model, next(name for name in reversed(lists) if lists[name] == most))
