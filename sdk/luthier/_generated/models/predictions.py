from __future__ import annotations

from collections.abc import Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    TypeVar,
    cast,
)

from attrs import define as _attrs_define
from attrs import field as _attrs_field

if TYPE_CHECKING:
    from ..models.entities_prediction import EntitiesPrediction
    from ..models.input_usage import InputUsage
    from ..models.label_prediction import LabelPrediction
    from ..models.labels_prediction import LabelsPrediction
    from ..models.prediction import Prediction
    from ..models.span_prediction import SpanPrediction
    from ..models.text_prediction import TextPrediction
    from ..models.value_prediction import ValuePrediction


T = TypeVar("T", bound="Predictions")


@_attrs_define
class Predictions:
    """Predictions in the order of the inputs, all in the form of the model's task.

    Attributes:
        object_ (Literal['list']):
        model (str):
        data (list[EntitiesPrediction | LabelPrediction | LabelsPrediction | Prediction | SpanPrediction |
            TextPrediction | ValuePrediction]):
        usage (InputUsage):
    """

    object_: Literal["list"]
    model: str
    data: list[
        EntitiesPrediction
        | LabelPrediction
        | LabelsPrediction
        | Prediction
        | SpanPrediction
        | TextPrediction
        | ValuePrediction
    ]
    usage: InputUsage
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        from ..models.entities_prediction import EntitiesPrediction  # noqa: PLC0415
        from ..models.label_prediction import LabelPrediction  # noqa: PLC0415
        from ..models.labels_prediction import LabelsPrediction  # noqa: PLC0415
        from ..models.span_prediction import SpanPrediction  # noqa: PLC0415
        from ..models.text_prediction import TextPrediction  # noqa: PLC0415
        from ..models.value_prediction import ValuePrediction  # noqa: PLC0415

        object_ = self.object_

        model = self.model

        data = []
        for data_item_data in self.data:
            data_item: dict[str, Any]
            if isinstance(data_item_data, LabelPrediction):
                data_item = data_item_data.to_dict()
            elif isinstance(data_item_data, LabelsPrediction):
                data_item = data_item_data.to_dict()
            elif isinstance(data_item_data, ValuePrediction):
                data_item = data_item_data.to_dict()
            elif isinstance(data_item_data, EntitiesPrediction):
                data_item = data_item_data.to_dict()
            elif isinstance(data_item_data, SpanPrediction):
                data_item = data_item_data.to_dict()
            elif isinstance(data_item_data, TextPrediction):
                data_item = data_item_data.to_dict()
            else:
                data_item = data_item_data.to_dict()

            data.append(data_item)

        usage = self.usage.to_dict()

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "object": object_,
                "model": model,
                "data": data,
                "usage": usage,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.entities_prediction import EntitiesPrediction  # noqa: PLC0415
        from ..models.input_usage import InputUsage  # noqa: PLC0415
        from ..models.label_prediction import LabelPrediction  # noqa: PLC0415
        from ..models.labels_prediction import LabelsPrediction  # noqa: PLC0415
        from ..models.prediction import Prediction  # noqa: PLC0415
        from ..models.span_prediction import SpanPrediction  # noqa: PLC0415
        from ..models.text_prediction import TextPrediction  # noqa: PLC0415
        from ..models.value_prediction import ValuePrediction  # noqa: PLC0415

        d = dict(src_dict)
        object_ = cast(Literal["list"], d.pop("object"))
        if object_ != "list":
            raise ValueError(f"object must match const 'list', got '{object_}'")

        model = d.pop("model")

        data = []
        _data = d.pop("data")
        for data_item_data in _data:

            def _parse_data_item(
                data: object,
            ) -> (
                EntitiesPrediction
                | LabelPrediction
                | LabelsPrediction
                | Prediction
                | SpanPrediction
                | TextPrediction
                | ValuePrediction
            ):
                try:
                    if not isinstance(data, dict):
                        raise TypeError()
                    data_item_type_0 = LabelPrediction.from_dict(data)

                    return data_item_type_0
                except (TypeError, ValueError, AttributeError, KeyError):
                    pass
                try:
                    if not isinstance(data, dict):
                        raise TypeError()
                    data_item_type_1 = LabelsPrediction.from_dict(data)

                    return data_item_type_1
                except (TypeError, ValueError, AttributeError, KeyError):
                    pass
                try:
                    if not isinstance(data, dict):
                        raise TypeError()
                    data_item_type_2 = ValuePrediction.from_dict(data)

                    return data_item_type_2
                except (TypeError, ValueError, AttributeError, KeyError):
                    pass
                try:
                    if not isinstance(data, dict):
                        raise TypeError()
                    data_item_type_3 = EntitiesPrediction.from_dict(data)

                    return data_item_type_3
                except (TypeError, ValueError, AttributeError, KeyError):
                    pass
                try:
                    if not isinstance(data, dict):
                        raise TypeError()
                    data_item_type_4 = SpanPrediction.from_dict(data)

                    return data_item_type_4
                except (TypeError, ValueError, AttributeError, KeyError):
                    pass
                try:
                    if not isinstance(data, dict):
                        raise TypeError()
                    data_item_type_5 = TextPrediction.from_dict(data)

                    return data_item_type_5
                except (TypeError, ValueError, AttributeError, KeyError):
                    pass
                if not isinstance(data, dict):
                    raise TypeError()
                data_item_type_6 = Prediction.from_dict(data)

                return data_item_type_6

            data_item = _parse_data_item(data_item_data)

            data.append(data_item)

        usage = InputUsage.from_dict(d.pop("usage"))

        predictions = cls(
            object_=object_,
            model=model,
            data=data,
            usage=usage,
        )

        predictions.additional_properties = d
        return predictions

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
