"""Responses of the engine, for the OpenAPI document and tests.

The API passes its JSON on unchanged.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict

from api.schemas.base import ResponseModel


class _EngineModel(ResponseModel):
    model_config = ConfigDict(extra="allow")


class CompletionTokensDetails(_EngineModel):
    """Parts of the generated tokens."""

    reasoning_tokens: int
    """Tokens of a chat's reasoning, part of ``completion_tokens``."""


class CompletionUsage(_EngineModel):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    completion_tokens_details: CompletionTokensDetails | None = None


class FunctionCallOut(_EngineModel):
    name: str
    arguments: str
    """A JSON object as text."""


class ToolCallOut(_EngineModel):
    id: str
    type: Literal["function"]
    function: FunctionCallOut


class ChatMessageOut(_EngineModel):
    role: Literal["assistant"]
    content: str | None
    """Null if the model only calls tools."""
    reasoning_content: str | None = None
    """Reasoning before the content. Absent if the model did not reason."""
    refusal: str | None
    tool_calls: list[ToolCallOut] | None = None


class ChatChoice(_EngineModel):
    """One answer to a chat."""

    index: int
    message: ChatMessageOut
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter", "function_call"]
    logprobs: dict[str, Any] | None


class ChatCompletion(_EngineModel):
    """A chat completion.

    With ``stream``, its chunks arrive as server-sent events, and ``[DONE]`` ends them.
    """

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: CompletionUsage


class TextLogprobs(_EngineModel):
    """Log probabilities, one entry per token. The first token of a prompt has null."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]
    """Start of each token in the choice's text, in characters."""


class TextChoice(_EngineModel):
    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Literal["stop", "length", "content_filter"] | None


class TextCompletion(_EngineModel):
    """A completion.

    With ``stream``, chunks of the same form arrive as server-sent events, and ``[DONE]`` ends them.
    """

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: CompletionUsage | None = None


class InputUsage(_EngineModel):
    prompt_tokens: int
    total_tokens: int


class Embedding(_EngineModel):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str
    """A list of numbers or, with ``encoding_format`` ``base64``, their little-endian fp32 bytes."""


class Embeddings(_EngineModel):
    """Embeddings in the order of the inputs."""

    object: Literal["list"]
    model: str
    data: list[Embedding]
    usage: InputUsage


class Prediction(_EngineModel):
    """The prediction for one input. Its other fields depend on the model's task."""

    index: int


class LabelPrediction(Prediction):
    """The most likely label, for `text-classification` and `image-classification`."""

    label: str
    scores: dict[str, float]
    """Label -> probability, the most likely first."""


class LabelsPrediction(Prediction):
    """All labels that apply, for `text-classification` with several labels per row."""

    labels: list[str]
    scores: dict[str, float]


class ValuePrediction(Prediction):
    """A number, for `text-regression`."""

    value: float


class Entity(_EngineModel):
    """A labeled span of the text."""

    label: str
    start: int
    """Index of the first character."""
    end: int
    """Index after the last character."""
    text: str
    score: float


class EntitiesPrediction(Prediction):
    """The entities in a text, for `token-classification`."""

    entities: list[Entity]


class SpanPrediction(Prediction):
    """The span of the context that answers the question, for `question-answering`."""

    text: str
    start: int
    end: int
    score: float


class TextPrediction(Prediction):
    """The generated text, for `seq2seq`."""

    text: str


class Predictions(_EngineModel):
    """Predictions in the order of the inputs, all in the form of the model's task."""

    object: Literal["list"]
    model: str
    data: list[
        LabelPrediction
        | LabelsPrediction
        | ValuePrediction
        | EntitiesPrediction
        | SpanPrediction
        | TextPrediction
        | Prediction
    ]
    usage: InputUsage
