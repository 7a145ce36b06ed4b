"""Request bodies of ``/v1/predictions`` and ``/v1/embeddings``. Every field is bounded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, Tag, field_validator

from inference.protocol.fields import (
    TEXT_OR_LIST_DISCRIMINATOR,
    TEXT_OR_OBJECT_DISCRIMINATOR,
    TEXTS_OR_TOKENS_DISCRIMINATOR,
    ShortKey,
    ShortText,
    StrictModel,
    Text,
    TokenIds,
    config_with_examples,
    to_input_list,
)

MAX_INPUTS = 1024
MAX_TEXTS = 2048
MAX_TOTAL_CHARACTERS = 16_000_000
"""Maximum characters of all inputs of a request together."""

Content = Annotated[str, StringConstraints(max_length=12_000_000)]
"""Text, or a file of up to 9 MB in base64.

``inference.serving.predictions`` limits a text to a million characters.
"""
InputValue = Annotated[
    Annotated[Content, Tag("~text")] | Annotated[list[ShortText], Field(max_length=8192), Tag("~list")],
    TEXT_OR_LIST_DISCRIMINATOR,
]
InputRow = Annotated[dict[ShortKey, InputValue], Field(min_length=1, max_length=16)]
Input = Annotated[Annotated[Content, Tag("~text")] | Annotated[InputRow, Tag("~object")], TEXT_OR_OBJECT_DISCRIMINATOR]
InputText = Annotated[Text, Field(min_length=1)]


class PredictionRequest(StrictModel):
    """The body of ``POST /v1/predictions``."""

    model_config = config_with_examples(
        model="ft:minilm-l6:luthier:intents:abc12345", inputs=["Where is my card?"], top_k=5
    )

    model: str = Field(min_length=1, max_length=256)
    inputs: list[Input] = Field(min_length=1, max_length=MAX_INPUTS)
    """Texts, images in base64, or objects with the fields of the task: ``{"text": …, "text_pair":
    …}``."""
    top_k: int | None = Field(default=None, ge=1, le=1000)
    """Return the scores of this many most likely labels; None returns all.

    No effect on tasks without labels.
    """

    @field_validator("inputs")
    @classmethod
    def _limit_total_characters(cls, value: list[Any]) -> list[Any]:
        if sum(map(_count_characters, value)) > MAX_TOTAL_CHARACTERS:
            raise ValueError(
                f"the inputs have more than {MAX_TOTAL_CHARACTERS:,} characters; send them in several requests"
            )
        return value

    def to_rows(self, default_field: str) -> list[dict[str, Any]]:
        """Return the inputs as rows. A bare string becomes the field ``default_field``."""
        return [{default_field: value} if isinstance(value, str) else dict(value) for value in self.inputs]


class EmbeddingRequest(StrictModel):
    """The body of ``POST /v1/embeddings``."""

    model_config = config_with_examples(model="minilm-l6", input=["Where is my card?", "I lost my card."])

    model: str = Field(min_length=1, max_length=256)
    input: Annotated[
        Annotated[InputText, Tag("~text")]
        | Annotated[list[InputText], Field(min_length=1, max_length=MAX_TEXTS), Tag("~texts")]
        | Annotated[TokenIds, Tag("~tokens")]
        | Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_TEXTS), Tag("~lists")],
        TEXTS_OR_TOKENS_DISCRIMINATOR,
    ]
    """One text, its token ids, several texts or several lists of token ids.

    Token ids are used unchanged and must include the model's special tokens.
    """
    encoding_format: Literal["float", "base64"] | None = None
    """``base64`` encodes the vector as little-endian fp32. None is ``float``."""
    dimensions: int | None = Field(default=None, ge=1, le=1_000_000)
    """Truncate the vector to this many dimensions and normalize it to length 1."""
    user: ShortText | None = None

    @property
    def inputs(self) -> Sequence[str | list[int]]:
        """The inputs as a list."""
        return to_input_list(self.input)


def _count_characters(value: str | Mapping[str, Any]) -> int:
    if isinstance(value, str):
        return len(value)
    return sum(len(field) if isinstance(field, str) else sum(map(len, field)) for field in value.values())
