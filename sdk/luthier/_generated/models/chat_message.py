from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from attrs import define as _attrs_define

from ..models.chat_message_role import ChatMessageRole, check_chat_message_role
from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.text_part import TextPart


T = TypeVar("T", bound="ChatMessage")


@_attrs_define
class ChatMessage:
    """One turn. What an answer's message holds besides role and content may be sent back as it came.

    Attributes:
        role (ChatMessageRole):
        content (list[TextPart] | str):
        name (None | str | Unset):
        refusal (None | str | Unset):
        annotations (list[Any] | None | Unset):
        audio (Any | Unset):
        function_call (Any | Unset):
        tool_calls (Any | Unset):
    """

    role: ChatMessageRole
    content: list[TextPart] | str
    name: None | str | Unset = UNSET
    refusal: None | str | Unset = UNSET
    annotations: list[Any] | None | Unset = UNSET
    audio: Any | Unset = UNSET
    function_call: Any | Unset = UNSET
    tool_calls: Any | Unset = UNSET

    def to_dict(self) -> dict[str, Any]:
        role: str = self.role

        content: list[dict[str, Any]] | str
        if isinstance(self.content, list):
            content = []
            for content_type_1_item_data in self.content:
                content_type_1_item = content_type_1_item_data.to_dict()
                content.append(content_type_1_item)

        else:
            content = self.content

        name: None | str | Unset
        if isinstance(self.name, Unset):
            name = UNSET
        else:
            name = self.name

        refusal: None | str | Unset
        if isinstance(self.refusal, Unset):
            refusal = UNSET
        else:
            refusal = self.refusal

        annotations: list[Any] | None | Unset
        if isinstance(self.annotations, Unset):
            annotations = UNSET
        elif isinstance(self.annotations, list):
            annotations = self.annotations

        else:
            annotations = self.annotations

        audio = self.audio

        function_call = self.function_call

        tool_calls = self.tool_calls

        field_dict: dict[str, Any] = {}

        field_dict.update(
            {
                "role": role,
                "content": content,
            }
        )
        if name is not UNSET:
            field_dict["name"] = name
        if refusal is not UNSET:
            field_dict["refusal"] = refusal
        if annotations is not UNSET:
            field_dict["annotations"] = annotations
        if audio is not UNSET:
            field_dict["audio"] = audio
        if function_call is not UNSET:
            field_dict["function_call"] = function_call
        if tool_calls is not UNSET:
            field_dict["tool_calls"] = tool_calls

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.text_part import TextPart  # noqa: PLC0415

        d = dict(src_dict)
        role = check_chat_message_role(d.pop("role"))

        def _parse_content(data: object) -> list[TextPart] | str:
            try:
                if not isinstance(data, list):
                    raise TypeError()
                content_type_1 = []
                _content_type_1 = data
                for content_type_1_item_data in _content_type_1:
                    content_type_1_item = TextPart.from_dict(content_type_1_item_data)

                    content_type_1.append(content_type_1_item)

                return content_type_1
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(list[TextPart] | str, data)

        content = _parse_content(d.pop("content"))

        def _parse_name(data: object) -> None | str | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(None | str | Unset, data)

        name = _parse_name(d.pop("name", UNSET))

        def _parse_refusal(data: object) -> None | str | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(None | str | Unset, data)

        refusal = _parse_refusal(d.pop("refusal", UNSET))

        def _parse_annotations(data: object) -> list[Any] | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, list):
                    raise TypeError()
                annotations_type_0 = cast(list[Any], data)

                return annotations_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(list[Any] | None | Unset, data)

        annotations = _parse_annotations(d.pop("annotations", UNSET))

        audio = d.pop("audio", UNSET)

        function_call = d.pop("function_call", UNSET)

        tool_calls = d.pop("tool_calls", UNSET)

        chat_message = cls(
            role=role,
            content=content,
            name=name,
            refusal=refusal,
            annotations=annotations,
            audio=audio,
            function_call=function_call,
            tool_calls=tool_calls,
        )

        return chat_message
