"""The ways of updating a model: one class each, its wire schema and its behaviour together."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from training.updates.full import FullUpdate
from training.updates.head import HeadUpdate
from training.updates.layers import LayersUpdate
from training.updates.lora import LoraUpdate

AnyUpdate = LoraUpdate | FullUpdate | HeadUpdate | LayersUpdate

UPDATES: dict[str, type[AnyUpdate]] = {
    "lora": LoraUpdate,
    "full": FullUpdate,
    "head": HeadUpdate,
    "layers": LayersUpdate,
}

Update = Annotated[AnyUpdate, Field(discriminator="type")]
