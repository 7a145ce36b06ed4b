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

if TYPE_CHECKING:
    from ..models.mlflow_in import MlflowIn


T = TypeVar("T", bound="MlflowIntegration")


@_attrs_define
class MlflowIntegration:
    """
    Attributes:
        type_ (Literal['mlflow']):
        mlflow (MlflowIn): A run in MLflow.
    """

    type_: Literal["mlflow"]
    mlflow: MlflowIn

    def to_dict(self) -> dict[str, Any]:
        type_ = self.type_

        mlflow = self.mlflow.to_dict()

        field_dict: dict[str, Any] = {}

        field_dict.update(
            {
                "type": type_,
                "mlflow": mlflow,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.mlflow_in import MlflowIn  # noqa: PLC0415

        d = dict(src_dict)
        type_ = cast(Literal["mlflow"], d.pop("type"))
        if type_ != "mlflow":
            raise ValueError(f"type must match const 'mlflow', got '{type_}'")

        mlflow = MlflowIn.from_dict(d.pop("mlflow"))

        mlflow_integration = cls(
            type_=type_,
            mlflow=mlflow,
        )

        return mlflow_integration
