"""Update methods: one class each, with its schema in the API and its behavior."""

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
