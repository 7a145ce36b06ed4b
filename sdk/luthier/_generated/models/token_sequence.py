from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

if TYPE_CHECKING:
    from ..models.token import Token


T = TypeVar("T", bound="TokenSequence")


@_attrs_define
class TokenSequence:
    """One token sequence of a row, such as the input or the output.

    Attributes:
        name (str): ``input``, or the task's own name: ``preferred_output``, ``source``, …
        rendered (str): Decoded text, special tokens included: a chat as its template renders it.
        length (int): Number of tokens. For a very long row, ``tokens`` holds only the first.
        tokens (list[Token]):
    """

    name: str
    rendered: str
    length: int
    tokens: list[Token]
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        name = self.name

        rendered = self.rendered

        length = self.length

        tokens = []
        for tokens_item_data in self.tokens:
            tokens_item = tokens_item_data.to_dict()
            tokens.append(tokens_item)

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "name": name,
                "rendered": rendered,
                "length": length,
                "tokens": tokens,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.token import Token  # noqa: PLC0415

        d = dict(src_dict)
        name = d.pop("name")

        rendered = d.pop("rendered")

        length = d.pop("length")

        tokens = []
        _tokens = d.pop("tokens")
        for tokens_item_data in _tokens:
            tokens_item = Token.from_dict(tokens_item_data)

            tokens.append(tokens_item)

        token_sequence = cls(
            name=name,
            rendered=rendered,
            length=length,
            tokens=tokens,
        )

        token_sequence.additional_properties = d
        return token_sequence

    @property
    def additional_keys(self) -> list[str]:
        return list(self.additional_properties.keys())

    def __getitem__(self, key: str) -> Any:
        return self.additional_properties[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.additional_properties[key] = value

    def __delitem__(self, key: str) -> None:
        del self.additional_properties[key]

    def __contains__(self, key: str) -> bool:
        return key in self.additional_properties
