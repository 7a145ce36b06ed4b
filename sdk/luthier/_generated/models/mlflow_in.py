from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define

from ..types import UNSET, Unset

T = TypeVar("T", bound="MlflowIn")


@_attrs_define
class MlflowIn:
    """A run in MLflow.

    Attributes:
        experiment (str): Name of the experiment; created if it does not exist.
        run_name (None | str | Unset): Name of the run; by default the job's id.
    """

    experiment: str
    run_name: None | str | Unset = UNSET

    def to_dict(self) -> dict[str, Any]:
        experiment = self.experiment

        run_name: None | str | Unset
        if isinstance(self.run_name, Unset):
            run_name = UNSET
        else:
            run_name = self.run_name

        field_dict: dict[str, Any] = {}

        field_dict.update(
            {
                "experiment": experiment,
            }
        )
        if run_name is not UNSET:
            field_dict["run_name"] = run_name

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        experiment = d.pop("experiment")

        def _parse_run_name(data: object) -> None | str | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(None | str | Unset, data)

        run_name = _parse_run_name(d.pop("run_name", UNSET))

        mlflow_in = cls(
            experiment=experiment,
            run_name=run_name,
        )

        return mlflow_in
