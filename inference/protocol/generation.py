"""What clients may ask of a model that writes: OpenAI's chat and completions bodies. Every field is bounded.

A field that neither documents is refused by name. A field that OpenAI documents and that has no effect here is
accepted; one whose effect would be missed is refused with the code ``unsupported_parameter`` (``HARMLESS``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, Tag, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from inference.protocol.fields import (
    JSON_TYPE_DISCRIMINATOR,
    TEXTS_OR_TOKENS_DISCRIMINATOR,
    UNSUPPORTED_FIELDS,
    FieldName,
    Label,
    StopString,
    StrictModel,
    Text,
    TokenId,
    TokenIds,
    config_with_examples,
    reject_unsupported,
    to_input_list,
)
from inference.protocol.messages import MAX_TOOLS, ChatMessage, Tool, validate_tool_messages
from inference.protocol.response_format import ResponseFormat, ToolChoice, get_tool_names, is_call_required

MAX_CHOICES = 16
MAX_PROMPTS = 256


class StreamOptions(StrictModel):
    include_usage: bool = False
    include_obfuscation: bool = False
    """Accepted, no effect: chunks carry no padding."""


class BaseCompletionRequest(StrictModel):
    """What the bodies of chat and completions share."""

    model: str = Field(min_length=1, max_length=256)
    temperature: float | None = Field(default=None, ge=0, le=2)
    """0 takes the likeliest token; None is 1."""
    top_p: float | None = Field(default=None, ge=0, le=1)
    """Sample among the likeliest tokens that together have this probability."""
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    """Answers to give."""
    stop: (
        Annotated[
            Annotated[StopString, Tag("~text")] | Annotated[list[StopString], Field(max_length=4), Tag("~list")],
            JSON_TYPE_DISCRIMINATOR,
        ]
        | None
    ) = None
    """An answer ends before the first of these strings."""
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    """The same seed and request give the same answer on the same machine."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    """Taken from a token's logit for each time it stands in the answer so far."""
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    """Taken from a token's logit once it stands in the answer so far."""
    logit_bias: Annotated[dict[TokenId, Annotated[float, Field(ge=-100, le=100)]] | None, Field(max_length=1024)] = None
    """Token id -> what is added to its logit."""
    user: Label | None = None

    @field_validator("stream_options")
    @classmethod
    def _require_stream(cls, value: StreamOptions | None, info: ValidationInfo) -> StreamOptions | None:
        if value is not None and not info.data.get("stream"):
            raise ValueError("it needs 'stream': true")
        return value

    @property
    def num_choices(self) -> int:
        """Answers to give to each prompt."""
        return self.n or 1

    @property
    def stop_strings(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def has_usage_chunk(self) -> bool:
        """Whether a stream ends in a chunk of its own for the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)


_KIND_SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["animal", "color"]}},
    "required": ["kind"],
    "additionalProperties": False,
}
_KIND_EXAMPLE = {
    "model": "starter",
    "messages": [{"role": "user", "content": "What kind of word is 'cat'?"}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "kind", "schema": _KIND_SCHEMA}},
}
_CALL_EXAMPLE = {
    "model": "ft:qwen3-0.6b:luthier:words:abc12345",
    "messages": [{"role": "user", "content": "What kind of word is 'cat'?"}],
    "tools": [{"type": "function", "function": {"name": "sort_word", "parameters": _KIND_SCHEMA}}],
    "tool_choice": {"type": "function", "function": {"name": "sort_word"}},
}


class ChatCompletionRequest(BaseCompletionRequest):
    """The body of ``POST /v1/chat/completions``."""

    model_config = config_with_examples(
        _KIND_EXAMPLE,
        _CALL_EXAMPLE,
        model="starter",
        messages=[{"role": "user", "content": "Say hello."}],
        max_tokens=16,
    )

    messages: list[ChatMessage] = Field(min_length=1, max_length=2048)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    """Tokens of one answer at most; None: until the model ends it or its context is full."""
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    """The older name of ``max_completion_tokens``."""
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)

    metadata: Annotated[dict[FieldName, Label] | None, Field(max_length=16)] = None
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    """Functions that the model may call."""
    tool_choice: ToolChoice | None = None
    """``required`` and a function by name: the answer is a call. ``none``: no tool is shown to the model, and nothing
    that it writes is a call."""
    response_format: ResponseFormat | None = None
    """What an answer that is no call is held to."""
    parallel_tool_calls: bool | None = None
    """False: an answer ends with its first call."""
    audio: Annotated[dict[FieldName, Any] | None, Field(max_length=16)] = None
    """How speech would sound: it is asked for with ``modalities``."""
    prediction: Annotated[dict[FieldName, Any] | None, Field(max_length=16)] = None
    """What an answer may be like: it would be given sooner, not otherwise."""
    prompt_cache_key: Label | None = None
    prompt_cache_options: Annotated[dict[FieldName, Any] | None, Field(max_length=16)] = None
    prompt_cache_retention: Label | None = None
    reasoning_effort: Label | None = None
    safety_identifier: Label | None = None
    service_tier: Label | None = None
    verbosity: Label | None = None

    function_call: Any = None
    functions: Any = None
    modalities: Any = None
    moderation: Any = None
    store: Any = None
    web_search_options: Any = None

    _reject_unsupported = field_validator(*sorted(UNSUPPORTED_FIELDS.keys() - {"audio", "suffix"}))(reject_unsupported)

    @field_validator("top_logprobs")
    @classmethod
    def _require_logprobs(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and not info.data.get("logprobs"):
            raise ValueError("it needs 'logprobs': true")
        return value

    @field_validator("tool_choice")
    @classmethod
    def _validate_tool_choice(cls, value: ToolChoice | None, info: ValidationInfo) -> ToolChoice | None:
        # Tools that are wrong themselves are not in `data`.
        offered = {tool.function.name for tool in info.data.get("tools") or ()}
        if "tools" in info.data and is_call_required(value) and not offered:
            raise ValueError("it forces a call, so 'tools' must hold a function to call")
        if "tools" in info.data and not offered.issuperset(get_tool_names(value) or ()):
            raise ValueError("it names a function that is not among 'tools'; add it there or correct its name")
        return value

    @field_validator("messages")
    @classmethod
    def _validate_tool_messages(cls, value: list[ChatMessage]) -> list[ChatMessage]:
        validate_tool_messages(value)
        return value

    @property
    def offered_tools(self) -> list[Tool]:
        """The tools that the model is shown."""
        return [] if self.tool_choice == "none" else self.tools or []

    @property
    def allowed_tools(self) -> list[Tool]:
        """Those of them that this answer may call."""
        names = get_tool_names(self.tool_choice)
        return [tool for tool in self.offered_tools if names is None or tool.function.name in names]

    @property
    def must_call(self) -> bool:
        return is_call_required(self.tool_choice)

    @property
    def max_new_tokens(self) -> int | None:
        """The limit under either of its names."""
        return self.max_completion_tokens or self.max_tokens


class CompletionRequest(BaseCompletionRequest):
    """The body of ``POST /v1/completions``."""

    model_config = config_with_examples(model="starter", prompt="Once upon a time", max_tokens=16)

    prompt: Annotated[
        Annotated[Text, Tag("~text")]
        | Annotated[list[Text], Field(min_length=1, max_length=MAX_PROMPTS), Tag("~texts")]
        | Annotated[TokenIds, Tag("~tokens")]
        | Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_PROMPTS), Tag("~lists")],
        TEXTS_OR_TOKENS_DISCRIMINATOR,
    ]
    """What the model continues: a text, its token ids, or several of either."""
    max_tokens: int | None = Field(default=None, ge=0, le=1_000_000)
    """Tokens of one answer at most; None is 16, and 0 with ``echo`` only scores the prompt."""
    logprobs: int | None = Field(default=None, ge=0, le=5)
    """Alternatives to tell beside each token and its log-probability."""
    echo: bool | None = None
    """Give the prompt back before the answer, with ``logprobs`` its tokens' too."""
    best_of: int | None = Field(default=None, ge=1, le=20)
    """Only as many as ``n``: no more are made than are given."""
    suffix: Any = None

    _reject_unsupported = field_validator("suffix")(reject_unsupported)

    @field_validator("prompt")
    @classmethod
    def _limit_prompts(cls, value: Any, info: ValidationInfo) -> Any:
        if (
            isinstance(value, list)
            and type(value[0]) is not int
            and len(value) * (info.data.get("n") or 1) > MAX_PROMPTS
        ):
            raise ValueError(f"prompts times 'n' may be {MAX_PROMPTS} at most; send them in several requests")
        return value

    @field_validator("best_of")
    @classmethod
    def _validate_best_of(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and value != (info.data.get("n") or 1):
            raise PydanticCustomError(
                "unsupported_parameter", "'best_of' is supported only where it equals 'n'; remove it."
            )
        return value

    @property
    def prompts(self) -> Sequence[str | list[int]]:
        """As a list."""
        return to_input_list(self.prompt)
