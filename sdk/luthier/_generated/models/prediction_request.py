from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from attrs import define as _attrs_define

from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.prediction_request_inputs_item_type_1 import (
        PredictionRequestInputsItemType1,
    )


T = TypeVar("T", bound="PredictionRequest")


@_attrs_define
class PredictionRequest:
    """The body of ``POST /v1/predictions``.

    Attributes:
        model (str):
        inputs (list[PredictionRequestInputsItemType1 | str]): Texts, images in base64, or objects with the fields of
            the task: ``{"text": …, "text_pair":
            …}``.
        top_k (int | None | Unset): Return the scores of this many most likely labels; None returns all.

            No effect on tasks without labels.
    """

    model: str
    inputs: list[PredictionRequestInputsItemType1 | str]
    top_k: int | None | Unset = UNSET

    def to_dict(self) -> dict[str, Any]:
        from ..models.prediction_request_inputs_item_type_1 import (
            PredictionRequestInputsItemType1,  # noqa: PLC0415
        )

        model = self.model

        inputs = []
        for inputs_item_data in self.inputs:
            inputs_item: dict[str, Any] | str
            if isinstance(inputs_item_data, PredictionRequestInputsItemType1):
                inputs_item = inputs_item_data.to_dict()
            else:
                inputs_item = inputs_item_data
            inputs.append(inputs_item)

        top_k: int | None | Unset
        if isinstance(self.top_k, Unset):
            top_k = UNSET
        else:
            top_k = self.top_k

        field_dict: dict[str, Any] = {}

        field_dict.update(
            {
                "model": model,
                "inputs": inputs,
            }
        )
        if top_k is not UNSET:
            field_dict["top_k"] = top_k

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.prediction_request_inputs_item_type_1 import (
            PredictionRequestInputsItemType1,  # noqa: PLC0415
        )

        d = dict(src_dict)
        model = d.pop("model")

        inputs = []
        _inputs = d.pop("inputs")
        for inputs_item_data in _inputs:

            def _parse_inputs_item(data: object) -> PredictionRequestInputsItemType1 | str:
                try:
                    if not isinstance(data, dict):
                        raise TypeError()
                    inputs_item_type_1 = PredictionRequestInputsItemType1.from_dict(data)

                    return inputs_item_type_1
                except (TypeError, ValueError, AttributeError, KeyError):
                    pass
                return cast(PredictionRequestInputsItemType1 | str, data)

            inputs_item = _parse_inputs_item(inputs_item_data)

            inputs.append(inputs_item)

        def _parse_top_k(data: object) -> int | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(int | None | Unset, data)

        top_k = _parse_top_k(d.pop("top_k", UNSET))

        prediction_request = cls(
            model=model,
            inputs=inputs,
            top_k=top_k,
        )

        return prediction_request
