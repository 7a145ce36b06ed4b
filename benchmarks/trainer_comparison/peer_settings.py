"""Stages of the search for a peer's settings: in each stage, the options for one group of them.

The optimizer's step always has the same rows. Precision of the products, recomputation, the number
of micro-batches, the layout of rows, allocator and compilation change its time and memory only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from ctypes.util import find_library
from math import ceil
from typing import NamedTuple

from benchmarks.trainer_comparison.config import TrainerSettings

HF_TRAINER, TRL = "hf_trainer", "trl_best"
PRELOADED_ALLOCATORS = ("jemalloc", "tcmalloc_minimal", "tcmalloc", "mimalloc")

Options = Mapping[str, TrainerSettings]


class Stage(NamedTuple):
    """Options for one group of settings."""

    name: str
    list_options: Callable[[TrainerSettings], Options]
    """Return the options by name, given the fastest settings so far. Each option contains only its
    changes."""
    is_ordered: bool = False
    """True if an option that is not faster makes the next ones pointless."""
    compiles: bool = False
    """True if the first step compiles, so that its time says nothing about the others."""


class PeerRows(NamedTuple):
    """Rows of a peer's trial."""

    lengths: Sequence[int]
    """Tokens of each row."""
    batch_size: int
    """Rows of an optimizer step."""


def build_start(has_bf16: bool) -> TrainerSettings:
    """Build the settings that the search starts from: the first option of every stage."""
    first = next(iter(_list_precisions(has_bf16).values()))
    return first.merge(_change(gradient_checkpointing=False))


def build_stages(peer: str, names: Sequence[str], rows: PeerRows, has_bf16: bool) -> list[Stage]:
    """Build the stages of a peer that are in ``names``, in the order of the search."""
    list_layouts = {HF_TRAINER: _list_layouts, TRL: _list_trl_layouts}[peer]
    stages = [
        Stage("precision", lambda settings: _list_precisions(has_bf16)),
        Stage("checkpointing", lambda settings: {"activations recomputed": _change(gradient_checkpointing=True)}),
        Stage("micro-batch", lambda settings: dict(_iter_micro_batches(rows.batch_size)), is_ordered=True),
        Stage("rows", lambda settings: list_layouts(rows, settings)),
        Stage("allocator", lambda settings: _list_allocators()),
        Stage("compile", lambda settings: {"compiled": _change(torch_compile=True)}, compiles=True),
    ]
    return [stage for stage in stages if stage.name in names]


def _change(**arguments: object) -> TrainerSettings:
    return TrainerSettings(arguments=arguments)


def _list_precisions(has_bf16: bool) -> Options:
    """List the precisions, the most likely first: a slower one then stops after its first step.

    The adapter's weights and the optimizer's state are float32 in all of them.
    """
    options = {
        "bf16, frozen weights in bf16": TrainerSettings(arguments={"bf16": True}, weights_dtype="bfloat16"),
        "bf16, weights in fp32": TrainerSettings(arguments={"bf16": True}, weights_dtype="float32"),
        "fp32": TrainerSettings(arguments={"bf16": False}, weights_dtype="float32"),
    }
    return options if has_bf16 else dict(reversed(options.items()))


def _iter_micro_batches(batch_size: int) -> Iterator[tuple[str, TrainerSettings]]:
    """Yield the batch as 2, 4, … micro-batches, down to single rows."""
    rows = batch_size // 2
    while rows:
        yield (
            f"{batch_size // rows} micro-batches of {rows}",
            _change(per_device_train_batch_size=rows, gradient_accumulation_steps=batch_size // rows),
        )
        rows //= 2


def _list_layouts(rows: PeerRows, settings: TrainerSettings) -> Options:
    return {"padded, by length": _change(train_sampling_strategy="group_by_length")}


def _list_trl_layouts(rows: PeerRows, settings: TrainerSettings) -> Options:
    """List TRL's layouts.

    A pack has as many tokens as an average micro-batch, but holds the longest row. A step trains on
    about as many tokens as without packing.
    """
    mean = sum(rows.lengths) / len(rows.lengths)
    micro_batch = settings.arguments.get("per_device_train_batch_size", rows.batch_size)
    pack = max(ceil(micro_batch * mean), *rows.lengths)
    packs = max(1, round(rows.batch_size * mean / pack))
    return {
        **_list_layouts(rows, settings),
        "padding-free": _change(padding_free=True, max_length=None),
        "packed": _change(
            packing=True, max_length=pack, per_device_train_batch_size=1, gradient_accumulation_steps=packs
        ),
    }


def _list_allocators() -> Options:
    """List the C library's defaults and the installed allocators that can be preloaded."""
    libraries = {name: find_library(name) for name in PRELOADED_ALLOCATORS}
    return {
        "C library's defaults": TrainerSettings(allocator={}),
        **{name: TrainerSettings(allocator={"LD_PRELOAD": path}) for name, path in libraries.items() if path},
    }
