"""What the engine answers, for the OpenAPI document and for tests; its JSON is passed on as it is."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class _FromEngine(BaseModel):
    model_config = ConfigDict(extra="allow")


class ChatUsage(_FromEngine):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatAnswer(_FromEngine):
    role: Literal["assistant"]
    content: str | None
    refusal: str | None


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
    usage: ChatUsage


class Prediction(_FromEngine):
    """The answer to one input; its fields depend on the model's task."""

    index: int
    label: str | None = None
    scores: dict[str, float] | None = None


class PredictionUsage(_FromEngine):
    prompt_tokens: int
    total_tokens: int


class Predictions(_FromEngine):
    """Answers in the order of the inputs."""

    object: Literal["list"]
    model: str
    data: list[Prediction]
    usage: PredictionUsage
