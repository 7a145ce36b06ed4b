"""What the engine answers, for the OpenAPI document and for tests; its JSON is passed on as it is."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class _EngineModel(BaseModel):
    model_config = ConfigDict(extra="allow")


class CompletionUsage(_EngineModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class FunctionCallOut(_EngineModel):
    name: str
    arguments: str
    """JSON of an object."""


class ToolCallOut(_EngineModel):
    id: str
    type: Literal["function"]
    function: FunctionCallOut


class ChatMessageOut(_EngineModel):
    role: Literal["assistant"]
    content: str | None
    """Null where the model only calls tools."""
    refusal: str | None
    tool_calls: list[ToolCallOut] | None = None


class ChatChoice(_EngineModel):
    index: int
    message: ChatMessageOut
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter", "function_call"]
    logprobs: dict[str, Any] | None


class ChatCompletion(_EngineModel):
    """A chat completion. With ``stream``: chunks of it as server-sent events, the last one ``[DONE]``."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: CompletionUsage


class TextLogprobs(_EngineModel):
    """One entry a token; null for a prompt's first, which nothing comes before."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]
    """Where in the choice's text the token begins, in characters."""


class TextChoice(_EngineModel):
    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Literal["stop", "length", "content_filter"] | None


class TextCompletion(_EngineModel):
    """A completion. With ``stream``: chunks of the same form as server-sent events, the last one ``[DONE]``."""

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
    """Numbers, or with ``encoding_format`` base64 their little-endian fp32 bytes."""


class Embeddings(_EngineModel):
    """Vectors in the order of the inputs."""

    object: Literal["list"]
    model: str
    data: list[Embedding]
    usage: InputUsage


class Prediction(_EngineModel):
    """The answer to one input; its other fields depend on the model's task."""

    index: int


class LabelPrediction(Prediction):
    """Of `text-classification` and `image-classification`: the likeliest label."""

    label: str
    scores: dict[str, float]
    """Label -> probability, the likeliest first."""


class LabelsPrediction(Prediction):
    """Of `text-classification` where any number of labels may fit."""

    labels: list[str]
    scores: dict[str, float]


class ValuePrediction(Prediction):
    """Of `text-regression`."""

    value: float


class Entity(_EngineModel):
    label: str
    start: int
    """First character in the text."""
    end: int
    """The character after the last."""
    text: str
    score: float


class EntitiesPrediction(Prediction):
    """Of `token-classification`."""

    entities: list[Entity]


class SpanPrediction(Prediction):
    """Of `question-answering`: where in the context the answer stands."""

    text: str
    start: int
    end: int
    score: float


class TextPrediction(Prediction):
    """Of `seq2seq`."""

    text: str


class Predictions(_EngineModel):
    """Answers in the order of the inputs, all of the form of the model's task."""

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
