"""Request bodies of ``/v1/chat/completions`` and ``/v1/completions``. Every field is bounded.

Unknown fields are rejected by name. OpenAI's fields without an effect here are accepted. If a
client would rely on the effect, the field is rejected with the code ``unsupported_parameter``
(``UNSUPPORTED_FIELDS``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, Tag, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from inference.protocol.fields import (
    TEXT_OR_LIST_DISCRIMINATOR,
    TEXTS_OR_TOKENS_DISCRIMINATOR,
    UNSUPPORTED_FIELDS,
    ShortKey,
    ShortText,
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
from training.tasks.chat_format.reasoning import TEMPLATE_OPTIONS

ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]

MAX_CHOICES = 16
MAX_PROMPTS = 256


class StreamOptions(StrictModel):
    include_usage: bool = False
    include_obfuscation: bool = False
    """Accepted, no effect: chunks carry no padding."""


class BaseCompletionRequest(StrictModel):
    """Fields shared by the bodies of chat completions and completions."""

    model: str = Field(min_length=1, max_length=256)
    temperature: float | None = Field(default=None, ge=0, le=2)
    """Sampling temperature. 0 selects the most likely token; None is 1."""
    top_p: float | None = Field(default=None, ge=0, le=1)
    """Sample from the most likely tokens whose probabilities sum to this value (nucleus
    sampling)."""
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    """Number of choices per prompt."""
    stop: (
        Annotated[
            Annotated[StopString, Tag("~text")] | Annotated[list[StopString], Field(max_length=4), Tag("~list")],
            TEXT_OR_LIST_DISCRIMINATOR,
        ]
        | None
    ) = None
    """Generation ends before the first of these strings."""
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    """The same seed and request produce the same output on the same machine."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    """Subtracted from a token's logit once per occurrence in the output so far."""
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    """Subtracted from a token's logit if the token occurs in the output so far."""
    logit_bias: Annotated[dict[TokenId, Annotated[float, Field(ge=-100, le=100)]] | None, Field(max_length=1024)] = None
    """Token id -> value added to its logit."""
    user: ShortText | None = None

    @field_validator("stream_options")
    @classmethod
    def _require_stream(cls, value: StreamOptions | None, info: ValidationInfo) -> StreamOptions | None:
        if value is not None and not info.data.get("stream"):
            raise ValueError("it requires 'stream': true")
        return value

    @property
    def num_choices(self) -> int:
        """Number of choices per prompt."""
        return self.n or 1

    @property
    def stop_strings(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def has_usage_chunk(self) -> bool:
        """True if a stream ends with a separate chunk for the usage."""
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
    """Maximum tokens of one choice. None: until the model stops or its context is full."""
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    """Deprecated name of ``max_completion_tokens``."""
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)

    metadata: Annotated[dict[ShortKey, ShortText] | None, Field(max_length=16)] = None
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    """Functions that the model may call."""
    tool_choice: ToolChoice | None = None
    """``required`` or a named function forces a tool call.

    With ``none`` the prompt contains no tools and the output is never parsed as a call.
    """
    response_format: ResponseFormat | None = None
    """Constraint on output that is not a tool call."""
    parallel_tool_calls: bool | None = None
    """False: output ends after the first tool call."""
    audio: Annotated[dict[ShortKey, Any] | None, Field(max_length=16)] = None
    """Accepted, no effect: clients request speech with ``modalities``, which is rejected."""
    prediction: Annotated[dict[ShortKey, Any] | None, Field(max_length=16)] = None
    """Accepted, no effect: predicted output changes only the latency."""
    prompt_cache_key: ShortText | None = None
    prompt_cache_options: Annotated[dict[ShortKey, Any] | None, Field(max_length=16)] = None
    prompt_cache_retention: ShortText | None = None
    reasoning_effort: ReasoningEffort | None = None
    """``none`` disables the reasoning of a model that reasons, any other value enables it.

    None: as the model was trained; a base model does not reason. A model that reads an effort gets
    ``low``, ``medium`` or ``high``. Models that do not reason ignore the field.
    """
    chat_template_kwargs: Annotated[
        dict[ShortKey, bool | ShortText] | None, Field(max_length=len(TEMPLATE_OPTIONS))
    ] = None
    """Variables of the model's chat template: ``enable_thinking``, ``thinking`` and
    ``reasoning_effort``, as far as the template reads them. They override ``reasoning_effort``."""
    safety_identifier: ShortText | None = None
    service_tier: ShortText | None = None
    verbosity: ShortText | None = None

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
            raise ValueError("it requires 'logprobs': true")
        return value

    @field_validator("chat_template_kwargs")
    @classmethod
    def _validate_template_kwargs(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        for name, option in (value or {}).items():
            if name not in TEMPLATE_OPTIONS:
                raise ValueError(f"'{name}' is not one of {', '.join(TEMPLATE_OPTIONS)}; remove it")
            kind = str if name == "reasoning_effort" else bool
            if not isinstance(option, kind):
                raise ValueError(f"'{name}' must be {'a string' if kind is str else 'true or false'}")
        return value

    @field_validator("tool_choice")
    @classmethod
    def _validate_tool_choice(cls, value: ToolChoice | None, info: ValidationInfo) -> ToolChoice | None:
        # Invalid tools are not in `data`.
        offered = {tool.function.name for tool in info.data.get("tools") or ()}
        if "tools" in info.data and is_call_required(value) and not offered:
            raise ValueError("it forces a call, so 'tools' must contain a function")
        if "tools" in info.data and not offered.issuperset(get_tool_names(value) or ()):
            raise ValueError("it names a function that is not in 'tools'; add it there or correct its name")
        return value

    @field_validator("messages")
    @classmethod
    def _validate_tool_messages(cls, value: list[ChatMessage]) -> list[ChatMessage]:
        validate_tool_messages(value)
        return value

    @property
    def offered_tools(self) -> list[Tool]:
        """Tools in the prompt."""
        return [] if self.tool_choice == "none" else self.tools or []

    @property
    def allowed_tools(self) -> list[Tool]:
        """Offered tools that the model may call."""
        names = get_tool_names(self.tool_choice)
        return [tool for tool in self.offered_tools if names is None or tool.function.name in names]

    @property
    def must_call(self) -> bool:
        return is_call_required(self.tool_choice)

    @property
    def max_new_tokens(self) -> int | None:
        """The limit on new tokens, from either of its fields."""
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
    """One text, its token ids, several texts or several lists of token ids."""
    max_tokens: int | None = Field(default=None, ge=0, le=1_000_000)
    """Maximum new tokens of one choice.

    None is 16. 0 with ``echo`` only computes the prompt's logprobs.
    """
    logprobs: int | None = Field(default=None, ge=0, le=5)
    """Number of alternative tokens reported with each token's logprob."""
    echo: bool | None = None
    """Return the prompt before the output, and with ``logprobs`` the logprobs of its tokens."""
    best_of: int | None = Field(default=None, ge=1, le=20)
    """Must equal ``n``: the engine does not generate candidates that it discards."""
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
            raise ValueError(f"prompts times 'n' must be at most {MAX_PROMPTS}; send them in several requests")
        return value

    @field_validator("best_of")
    @classmethod
    def _validate_best_of(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and value != (info.data.get("n") or 1):
            raise PydanticCustomError(
                "unsupported_parameter", "'best_of' is supported only if it equals 'n'; remove it."
            )
        return value

    @property
    def prompts(self) -> Sequence[str | list[int]]:
        """The prompts as a list."""
        return to_input_list(self.prompt)
