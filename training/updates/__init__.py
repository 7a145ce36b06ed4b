"""The ways of updating a model: one class each, its wire schema and its behaviour together."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from training.updates.full import FullUpdate
from training.updates.lora import LoraUpdate

UPDATES: dict[str, type[LoraUpdate] | type[FullUpdate]] = {"lora": LoraUpdate, "full": FullUpdate}

Update = Annotated[LoraUpdate | FullUpdate, Field(discriminator="type")]
