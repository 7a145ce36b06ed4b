from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.hyperparameters_out_batch_size_type_1 import (
    HyperparametersOutBatchSizeType1,
    check_hyperparameters_out_batch_size_type_1,
)
from ..models.hyperparameters_out_learning_rate_multiplier_type_1 import (
    HyperparametersOutLearningRateMultiplierType1,
    check_hyperparameters_out_learning_rate_multiplier_type_1,
)
from ..models.hyperparameters_out_n_epochs_type_1 import (
    HyperparametersOutNEpochsType1,
    check_hyperparameters_out_n_epochs_type_1,
)

T = TypeVar("T", bound="HyperparametersOut")


@_attrs_define
class HyperparametersOut:
    """OpenAI's three hyperparameters: as requested, or as used once the files are validated.

    Attributes:
        n_epochs (HyperparametersOutNEpochsType1 | int | None):
        batch_size (HyperparametersOutBatchSizeType1 | int | None):
        learning_rate_multiplier (float | HyperparametersOutLearningRateMultiplierType1 | None):
    """

    n_epochs: HyperparametersOutNEpochsType1 | int | None
    batch_size: HyperparametersOutBatchSizeType1 | int | None
    learning_rate_multiplier: float | HyperparametersOutLearningRateMultiplierType1 | None
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        n_epochs: int | None | str
        if isinstance(self.n_epochs, str):
            n_epochs = self.n_epochs
        else:
            n_epochs = self.n_epochs

        batch_size: int | None | str
        if isinstance(self.batch_size, str):
            batch_size = self.batch_size
        else:
            batch_size = self.batch_size

        learning_rate_multiplier: float | None | str
        if isinstance(self.learning_rate_multiplier, str):
            learning_rate_multiplier = self.learning_rate_multiplier
        else:
            learning_rate_multiplier = self.learning_rate_multiplier

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "n_epochs": n_epochs,
                "batch_size": batch_size,
                "learning_rate_multiplier": learning_rate_multiplier,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)

        def _parse_n_epochs(data: object) -> HyperparametersOutNEpochsType1 | int | None:
            if data is None:
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                n_epochs_type_1 = check_hyperparameters_out_n_epochs_type_1(data)

                return n_epochs_type_1
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(HyperparametersOutNEpochsType1 | int | None, data)

        n_epochs = _parse_n_epochs(d.pop("n_epochs"))

        def _parse_batch_size(data: object) -> HyperparametersOutBatchSizeType1 | int | None:
            if data is None:
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                batch_size_type_1 = check_hyperparameters_out_batch_size_type_1(data)

                return batch_size_type_1
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(HyperparametersOutBatchSizeType1 | int | None, data)

        batch_size = _parse_batch_size(d.pop("batch_size"))

        def _parse_learning_rate_multiplier(
            data: object,
        ) -> float | HyperparametersOutLearningRateMultiplierType1 | None:
            if data is None:
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                learning_rate_multiplier_type_1 = check_hyperparameters_out_learning_rate_multiplier_type_1(data)

                return learning_rate_multiplier_type_1
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(float | HyperparametersOutLearningRateMultiplierType1 | None, data)

        learning_rate_multiplier = _parse_learning_rate_multiplier(d.pop("learning_rate_multiplier"))

        hyperparameters_out = cls(
            n_epochs=n_epochs,
            batch_size=batch_size,
            learning_rate_multiplier=learning_rate_multiplier,
        )

        hyperparameters_out.additional_properties = d
        return hyperparameters_out

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
