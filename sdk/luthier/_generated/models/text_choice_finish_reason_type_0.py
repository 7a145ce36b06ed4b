from typing import Literal

TextChoiceFinishReasonType0 = Literal["content_filter", "length", "stop"]

TEXT_CHOICE_FINISH_REASON_TYPE_0_VALUES: set[TextChoiceFinishReasonType0] = {
    "content_filter",
    "length",
    "stop",
}


def check_text_choice_finish_reason_type_0(value: str) -> TextChoiceFinishReasonType0:
    if value in TEXT_CHOICE_FINISH_REASON_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {TEXT_CHOICE_FINISH_REASON_TYPE_0_VALUES!r}")
