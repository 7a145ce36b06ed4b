"""What clients may ask of a model that does not write token by token: the bodies of predictions and embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, Tag, field_validator

from inference.protocol.fields import (
    JSON_TYPE_DISCRIMINATOR,
    TEXTS_OR_TOKENS_DISCRIMINATOR,
    FieldName,
    Label,
    StrictModel,
    Text,
    TokenIds,
    config_with_examples,
    to_input_list,
)

MAX_INPUTS = 1024
MAX_TEXTS = 2048
MAX_TOTAL_CHARACTERS = 16_000_000
"""Of all inputs of a request together."""

Content = Annotated[str, StringConstraints(max_length=12_000_000)]
"""A text or, in base64, the bytes of a file: 9 MB of them. A text is held to a million characters where it is read."""
InputValue = Annotated[
    Annotated[Content, Tag("~text")] | Annotated[list[Label], Field(max_length=8192), Tag("~list")],
    JSON_TYPE_DISCRIMINATOR,
]
InputRow = Annotated[dict[FieldName, InputValue], Field(min_length=1, max_length=16)]
Input = Annotated[Annotated[Content, Tag("~text")] | Annotated[InputRow, Tag("~object")], JSON_TYPE_DISCRIMINATOR]
InputText = Annotated[Text, Field(min_length=1)]


class PredictionRequest(StrictModel):
    """The body of ``POST /v1/predictions``."""

    model_config = config_with_examples(
        model="ft:minilm-l6:luthier:intents:abc12345", inputs=["Where is my card?"], top_k=5
    )

    model: str = Field(min_length=1, max_length=256)
    inputs: list[Input] = Field(min_length=1, max_length=MAX_INPUTS)
    """Each a text (an image in base64), or the fields that the task asks for: ``{"text": …, "text_pair": …}``."""
    top_k: int | None = Field(default=None, ge=1, le=1000)
    """Scores of only the likeliest labels; None: of all. No effect on answers that have no scores of labels."""

    @field_validator("inputs")
    @classmethod
    def _limit_total_characters(cls, value: list[Any]) -> list[Any]:
        if sum(map(_count_characters, value)) > MAX_TOTAL_CHARACTERS:
            raise ValueError(
                f"the inputs hold more than {MAX_TOTAL_CHARACTERS:,} characters; send them in several requests"
            )
        return value

    def to_rows(self, default_field: str) -> list[dict[str, Any]]:
        """The inputs as rows; one without fields is the field ``bare``."""
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
    """A text, its token ids (read as they are: with the model's own control tokens), or several of either."""
    encoding_format: Literal["float", "base64"] | None = None
    """``base64``: of the numbers as little-endian fp32. None is ``float``."""
    dimensions: int | None = Field(default=None, ge=1, le=1_000_000)
    """Keep this many of the numbers, scaled to length 1 again."""
    user: Label | None = None

    @property
    def inputs(self) -> Sequence[str | list[int]]:
        """As a list."""
        return to_input_list(self.input)


def _count_characters(value: str | Mapping[str, Any]) -> int:
    if isinstance(value, str):
        return len(value)
    return sum(len(part) if isinstance(part, str) else sum(map(len, part)) for part in value.values())
