from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

if TYPE_CHECKING:
    from ..models.labels_prediction_scores import LabelsPredictionScores


T = TypeVar("T", bound="LabelsPrediction")


@_attrs_define
class LabelsPrediction:
    """All labels that apply, for `text-classification` with several labels per row.

    Attributes:
        index (int):
        labels (list[str]):
        scores (LabelsPredictionScores):
    """

    index: int
    labels: list[str]
    scores: LabelsPredictionScores
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        index = self.index

        labels = self.labels

        scores = self.scores.to_dict()

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "index": index,
                "labels": labels,
                "scores": scores,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.labels_prediction_scores import LabelsPredictionScores  # noqa: PLC0415

        d = dict(src_dict)
        index = d.pop("index")

        labels = cast(list[str], d.pop("labels"))

        scores = LabelsPredictionScores.from_dict(d.pop("scores"))

        labels_prediction = cls(
            index=index,
            labels=labels,
            scores=scores,
        )

        labels_prediction.additional_properties = d
        return labels_prediction

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
