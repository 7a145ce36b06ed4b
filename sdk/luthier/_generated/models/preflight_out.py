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

from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.dataset_error import DatasetError
    from ..models.estimate_out import EstimateOut
    from ..models.preflight_out_files import PreflightOutFiles
    from ..models.preflight_out_hyperparameters_type_0 import (
        PreflightOutHyperparametersType0,
    )
    from ..models.preflight_out_update import PreflightOutUpdate
    from ..models.problem import Problem


T = TypeVar("T", bound="PreflightOut")


@_attrs_define
class PreflightOut:
    """Result of checking a job without creating it.

    Attributes:
        valid (bool): True if the files would pass ``validating_files``.
        error (None | Problem): Error with which the job would fail.
        model (str):
        task (str):
        method (str):
        update (PreflightOutUpdate):
        files (PreflightOutFiles): Reports on ``training_file`` and, if sent, ``validation_file`` and ``general_file``.
        faults (list[DatasetError]): The first 100 errors, each with its physical line, its field, and what to change.
        fault_count (int):
        warnings (list[str]):
        total_steps (int | None):
        total_tokens (int | None): Tokens trained on in all steps.
        hyperparameters (None | PreflightOutHyperparametersType0): Hyperparameters with every ``auto`` replaced by the
            value that the job would use on the
            workers' device.
        trainable_parameters (int | None): Null for a large base model, which would have to be loaded to count them.
        total_parameters (int | None):
        estimate (EstimateOut | None):
        servable_by (list[str]):
        object_ (Literal['fine_tuning.preflight'] | Unset):  Default: 'fine_tuning.preflight'.
    """

    valid: bool
    error: None | Problem
    model: str
    task: str
    method: str
    update: PreflightOutUpdate
    files: PreflightOutFiles
    faults: list[DatasetError]
    fault_count: int
    warnings: list[str]
    total_steps: int | None
    total_tokens: int | None
    hyperparameters: None | PreflightOutHyperparametersType0
    trainable_parameters: int | None
    total_parameters: int | None
    estimate: EstimateOut | None
    servable_by: list[str]
    object_: Literal["fine_tuning.preflight"] | Unset = "fine_tuning.preflight"
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        from ..models.estimate_out import EstimateOut  # noqa: PLC0415
        from ..models.preflight_out_hyperparameters_type_0 import (
            PreflightOutHyperparametersType0,  # noqa: PLC0415
        )
        from ..models.problem import Problem  # noqa: PLC0415

        valid = self.valid

        error: dict[str, Any] | None
        if isinstance(self.error, Problem):
            error = self.error.to_dict()
        else:
            error = self.error

        model = self.model

        task = self.task

        method = self.method

        update = self.update.to_dict()

        files = self.files.to_dict()

        faults = []
        for faults_item_data in self.faults:
            faults_item = faults_item_data.to_dict()
            faults.append(faults_item)

        fault_count = self.fault_count

        warnings = self.warnings

        total_steps: int | None
        total_steps = self.total_steps

        total_tokens: int | None
        total_tokens = self.total_tokens

        hyperparameters: dict[str, Any] | None
        if isinstance(self.hyperparameters, PreflightOutHyperparametersType0):
            hyperparameters = self.hyperparameters.to_dict()
        else:
            hyperparameters = self.hyperparameters

        trainable_parameters: int | None
        trainable_parameters = self.trainable_parameters

        total_parameters: int | None
        total_parameters = self.total_parameters

        estimate: dict[str, Any] | None
        if isinstance(self.estimate, EstimateOut):
            estimate = self.estimate.to_dict()
        else:
            estimate = self.estimate

        servable_by = self.servable_by

        object_ = self.object_

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "valid": valid,
                "error": error,
                "model": model,
                "task": task,
                "method": method,
                "update": update,
                "files": files,
                "faults": faults,
                "fault_count": fault_count,
                "warnings": warnings,
                "total_steps": total_steps,
                "total_tokens": total_tokens,
                "hyperparameters": hyperparameters,
                "trainable_parameters": trainable_parameters,
                "total_parameters": total_parameters,
                "estimate": estimate,
                "servable_by": servable_by,
            }
        )
        if object_ is not UNSET:
            field_dict["object"] = object_

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.dataset_error import DatasetError  # noqa: PLC0415
        from ..models.estimate_out import EstimateOut  # noqa: PLC0415
        from ..models.preflight_out_files import PreflightOutFiles  # noqa: PLC0415
        from ..models.preflight_out_hyperparameters_type_0 import (
            PreflightOutHyperparametersType0,  # noqa: PLC0415
        )
        from ..models.preflight_out_update import PreflightOutUpdate  # noqa: PLC0415
        from ..models.problem import Problem  # noqa: PLC0415

        d = dict(src_dict)
        valid = d.pop("valid")

        def _parse_error(data: object) -> None | Problem:
            if data is None:
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                error_type_0 = Problem.from_dict(data)

                return error_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(None | Problem, data)

        error = _parse_error(d.pop("error"))

        model = d.pop("model")

        task = d.pop("task")

        method = d.pop("method")

        update = PreflightOutUpdate.from_dict(d.pop("update"))

        files = PreflightOutFiles.from_dict(d.pop("files"))

        faults = []
        _faults = d.pop("faults")
        for faults_item_data in _faults:
            faults_item = DatasetError.from_dict(faults_item_data)

            faults.append(faults_item)

        fault_count = d.pop("fault_count")

        warnings = cast(list[str], d.pop("warnings"))

        def _parse_total_steps(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        total_steps = _parse_total_steps(d.pop("total_steps"))

        def _parse_total_tokens(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        total_tokens = _parse_total_tokens(d.pop("total_tokens"))

        def _parse_hyperparameters(data: object) -> None | PreflightOutHyperparametersType0:
            if data is None:
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                hyperparameters_type_0 = PreflightOutHyperparametersType0.from_dict(data)

                return hyperparameters_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(None | PreflightOutHyperparametersType0, data)

        hyperparameters = _parse_hyperparameters(d.pop("hyperparameters"))

        def _parse_trainable_parameters(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        trainable_parameters = _parse_trainable_parameters(d.pop("trainable_parameters"))

        def _parse_total_parameters(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        total_parameters = _parse_total_parameters(d.pop("total_parameters"))

        def _parse_estimate(data: object) -> EstimateOut | None:
            if data is None:
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                estimate_type_0 = EstimateOut.from_dict(data)

                return estimate_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(EstimateOut | None, data)

        estimate = _parse_estimate(d.pop("estimate"))

        servable_by = cast(list[str], d.pop("servable_by"))

        object_ = cast(Literal["fine_tuning.preflight"] | Unset, d.pop("object", UNSET))
        if object_ != "fine_tuning.preflight" and not isinstance(object_, Unset):
            raise ValueError(f"object must match const 'fine_tuning.preflight', got '{object_}'")

        preflight_out = cls(
            valid=valid,
            error=error,
            model=model,
            task=task,
            method=method,
            update=update,
            files=files,
            faults=faults,
            fault_count=fault_count,
            warnings=warnings,
            total_steps=total_steps,
            total_tokens=total_tokens,
            hyperparameters=hyperparameters,
            trainable_parameters=trainable_parameters,
            total_parameters=total_parameters,
            estimate=estimate,
            servable_by=servable_by,
            object_=object_,
        )

        preflight_out.additional_properties = d
        return preflight_out

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
