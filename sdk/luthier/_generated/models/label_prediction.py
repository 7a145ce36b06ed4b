from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

if TYPE_CHECKING:
    from ..models.label_prediction_scores import LabelPredictionScores


T = TypeVar("T", bound="LabelPrediction")


@_attrs_define
class LabelPrediction:
    """The most likely label, for `text-classification` and `image-classification`.

    Attributes:
        index (int):
        label (str):
        scores (LabelPredictionScores): Label -> probability, the most likely first.
    """

    index: int
    label: str
    scores: LabelPredictionScores
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        index = self.index

        label = self.label

        scores = self.scores.to_dict()

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "index": index,
                "label": label,
                "scores": scores,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.label_prediction_scores import LabelPredictionScores  # noqa: PLC0415

        d = dict(src_dict)
        index = d.pop("index")

        label = d.pop("label")

        scores = LabelPredictionScores.from_dict(d.pop("scores"))

        label_prediction = cls(
            index=index,
            label=label,
            scores=scores,
        )

        label_prediction.additional_properties = d
        return label_prediction

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
