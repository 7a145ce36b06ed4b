"""What the engine answers, for the OpenAPI document and for tests; its JSON is passed on as it is."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class _FromEngine(BaseModel):
    model_config = ConfigDict(extra="allow")


class CompletionUsage(_FromEngine):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CalledFunction(_FromEngine):
    name: str
    arguments: str
    """JSON of an object."""


class CalledTool(_FromEngine):
    id: str
    type: Literal["function"]
    function: CalledFunction


class ChatAnswer(_FromEngine):
    role: Literal["assistant"]
    content: str | None
    """Null where the model only calls tools."""
    refusal: str | None
    tool_calls: list[CalledTool] | None = None


class ChatChoice(_FromEngine):
    index: int
    message: ChatAnswer
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter", "function_call"]
    logprobs: dict[str, Any] | None


class ChatCompletion(_FromEngine):
    """A chat completion. With ``stream``: chunks of it as server-sent events, the last one ``[DONE]``."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: CompletionUsage


class TextLogprobs(_FromEngine):
    """One entry a token; null for a prompt's first, which nothing comes before."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]
    """Where in the choice's text the token begins, in characters."""


class TextChoice(_FromEngine):
    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Literal["stop", "length", "content_filter"] | None


class TextCompletion(_FromEngine):
    """A completion. With ``stream``: chunks of the same form as server-sent events, the last one ``[DONE]``."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: CompletionUsage | None = None


class InputUsage(_FromEngine):
    prompt_tokens: int
    total_tokens: int


class Embedding(_FromEngine):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str
    """Numbers, or with ``encoding_format`` base64 their little-endian fp32 bytes."""


class Embeddings(_FromEngine):
    """Vectors in the order of the inputs."""

    object: Literal["list"]
    model: str
    data: list[Embedding]
    usage: InputUsage


class Prediction(_FromEngine):
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


class Entity(_FromEngine):
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


class Predictions(_FromEngine):
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
