"""How a model is named to the engine: everything it needs to find the bytes, so that it needs no database."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from storage.tables import Model

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
BlobPrefix = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,899}$")]
Variant = Literal["adapter", "merged"]


class ModelRef(BaseModel):
    """A base model of the registry, or a result of training that lies in the blob store."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(min_length=1, max_length=256)
    """The name that answers carry: ``starter``, ``ft:starter:…``."""
    base: str = Field(min_length=1, max_length=256)
    """Id of the base model in the registry."""
    task: str = Field(min_length=1, max_length=64)
    update: str = Field(min_length=1, max_length=32)
    """How the result was made (``lora``, ``full``, …); ``none`` for a base model."""
    prefix: BlobPrefix | None = None
    """Blob prefix of a folder that has a ``manifest.json``; None for a base model."""
    part: Literal["", "model/"] = ""
    """The part of that folder which is the model: all of it for a result, ``model/`` for a checkpoint."""
    manifest_sha256: Sha256 | None = None
    """Hash of the folder's manifest."""

    @model_validator(mode="after")
    def _validate_consistency(self) -> Self:
        of_a_base = (self.prefix is None, self.manifest_sha256 is None, self.update == "none")
        if len(set(of_a_base)) != 1:
            raise ValueError("prefix and manifest_sha256 belong to a result, and update 'none' to a base model")
        return self

    @classmethod
    def from_base(cls, base: str, task: str) -> ModelRef:
        """The base model itself, untuned."""
        return cls(id=base, base=base, task=task, update="none")

    @classmethod
    def from_model(cls, model: Model) -> ModelRef:
        """What a job made."""
        return cls(
            id=model.id,
            base=model.base_model,
            task=model.task,
            update=model.update,
            prefix=model.prefix,
            manifest_sha256=model.manifest_sha256,
        )
