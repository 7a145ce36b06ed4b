from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

T = TypeVar("T", bound="SpanPrediction")


@_attrs_define
class SpanPrediction:
    """The span of the context that answers the question, for `question-answering`.

    Attributes:
        index (int):
        text (str):
        start (int):
        end (int):
        score (float):
    """

    index: int
    text: str
    start: int
    end: int
    score: float
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        index = self.index

        text = self.text

        start = self.start

        end = self.end

        score = self.score

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "index": index,
                "text": text,
                "start": start,
                "end": end,
                "score": score,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        index = d.pop("index")

        text = d.pop("text")

        start = d.pop("start")

        end = d.pop("end")

        score = d.pop("score")

        span_prediction = cls(
            index=index,
            text=text,
            start=start,
            end=end,
            score=score,
        )

        span_prediction.additional_properties = d
        return span_prediction

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
