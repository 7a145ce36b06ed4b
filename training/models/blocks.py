"""Location of a model's blocks and head parameters, found from the model's structure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class BlockStack:
    """Model and the location of its list of blocks."""

    model: Any
    path: str
    """Module path of the list of blocks, a ``ModuleList``."""

    @property
    def blocks(self) -> Any:
        return self.model.get_submodule(self.path)

    @property
    def is_single_pass(self) -> bool:
        """True if a forward pass runs each block once. ALBERT runs the same blocks repeatedly."""
        layers = getattr(self.model.config.get_text_config(), "num_hidden_layers", None)
        return layers is None or layers == len(self.blocks)

    def replace(self, blocks: Any) -> None:
        """Replace the list of blocks."""
        self.model.set_submodule(self.path, blocks)

    def get_last_block_parameters(self, count: int) -> set[str]:
        """Return the names of the parameters of the last ``count`` blocks."""
        first = max(0, len(self.blocks) - count)
        prefixes = tuple(f"{self.path}.{index}." for index in range(first, len(self.blocks)))
        return {name for name, _ in self.model.named_parameters() if name.startswith(prefixes)}

    def get_head_parameters(self) -> set[str]:
        """Return the names of the parameters after the last block: final norm, pooler, head.

        An output weight tied to the embeddings comes before the blocks, so it is not included.
        """
        names = [name for name, _ in self.model.named_parameters()]
        inside = [index for index, name in enumerate(names) if name.startswith(f"{self.path}.")]
        return set(names[inside[-1] + 1 :])


def find_blocks(model: Any) -> BlockStack:
    """Find the list of modules of one type that has the most parameters; in a tie, the last one.

    In an encoder-decoder model, this is the decoder's list.

    Raises ``ValueError`` if there is none.
    """
    from torch.nn import ModuleList

    lists = {
        name: sum(parameter.numel() for parameter in module.parameters())
        for name, module in model.named_modules()
        if isinstance(module, ModuleList) and len({type(block) for block in module}) == 1
    }
    if not lists:
        raise ValueError(f"{type(model).__name__} has no list of blocks of one type; use another update")
    max_parameters = max(lists.values())
    return BlockStack(model, next(name for name in reversed(lists) if lists[name] == max_parameters))
