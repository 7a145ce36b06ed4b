"""Reference to a model: all that the engine needs to locate the weights without a database."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from storage.tables import Model

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
BlobPrefix = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,899}$")]
Variant = Literal["adapter", "merged"]


class ModelRef(BaseModel):
    """Reference to a base model of the registry or to a training result in the blob store."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(min_length=1, max_length=256)
    """Model name in responses: ``starter``, ``ft:starter:…``."""
    base: str = Field(min_length=1, max_length=256)
    """Id of the base model in the registry."""
    task: str = Field(min_length=1, max_length=64)
    update: str = Field(min_length=1, max_length=32)
    """Kind of update that training made (``lora``, ``full``, …); ``none`` for a base model."""
    prefix: BlobPrefix | None = None
    """Blob prefix of a folder with a ``manifest.json``; None for a base model."""
    part: Literal["", "model/"] = ""
    """Subfolder that contains the model: none for a result, ``model/`` for a checkpoint."""
    manifest_sha256: Sha256 | None = None
    """SHA-256 of the folder's manifest; None for a base model."""

    @model_validator(mode="after")
    def _validate_consistency(self) -> Self:
        base_model_signs = (self.prefix is None, self.manifest_sha256 is None, self.update == "none")
        if len(set(base_model_signs)) != 1:
            raise ValueError(
                "a result requires prefix, manifest_sha256 and an update; a base model requires update 'none' only"
            )
        return self

    @classmethod
    def from_base(cls, base: str, task: str) -> ModelRef:
        """Create a reference to a base model."""
        return cls(id=base, base=base, task=task, update="none")

    @classmethod
    def from_model(cls, model: Model) -> ModelRef:
        """Create a reference to a fine-tuned model."""
        return cls(
            id=model.id,
            base=model.base_model,
            task=model.task,
            update=model.update,
            prefix=model.prefix,
            manifest_sha256=model.manifest_sha256,
        )
