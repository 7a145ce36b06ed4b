from typing import Literal

ChatRequestToolChoiceType0Type0 = Literal["auto", "none", "required"]

CHAT_REQUEST_TOOL_CHOICE_TYPE_0_TYPE_0_VALUES: set[ChatRequestToolChoiceType0Type0] = {
    "auto",
    "none",
    "required",
}


def check_chat_request_tool_choice_type_0_type_0(value: str) -> ChatRequestToolChoiceType0Type0:
    if value in CHAT_REQUEST_TOOL_CHOICE_TYPE_0_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {CHAT_REQUEST_TOOL_CHOICE_TYPE_0_TYPE_0_VALUES!r}")
