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

from ..models.batch_out_status import BatchOutStatus, check_batch_out_status
from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.batch_errors_out import BatchErrorsOut
    from ..models.batch_out_metadata_type_0 import BatchOutMetadataType0
    from ..models.batch_usage_out import BatchUsageOut
    from ..models.request_counts_out import RequestCountsOut


T = TypeVar("T", bound="BatchOut")


@_attrs_define
class BatchOut:
    """A batch, which processes the requests of an input file and writes an output file.

    Attributes:
        id (str):
        endpoint (str):
        model (None | str): Model of all lines; null if the lines name several models, or before validation.
        errors (BatchErrorsOut | None):
        input_file_id (str):
        completion_window (str):
        status (BatchOutStatus):
        output_file_id (None | str): Responses in the order of the lines; null until the batch ends, and if no line
            succeeded.
        error_file_id (None | str): Lines that failed or expired; null until the batch ends, and if there are none.
        created_at (int):
        in_progress_at (int | None):
        expires_at (int):
        finalizing_at (int | None):
        completed_at (int | None):
        failed_at (int | None):
        expired_at (int | None):
        cancelling_at (int | None):
        cancelled_at (int | None):
        request_counts (RequestCountsOut): Counts of the batch's requests. ``completed`` and ``failed`` lag by a few
            seconds at most.
        usage (BatchUsageOut):
        metadata (BatchOutMetadataType0 | None):
        object_ (Literal['batch'] | Unset):  Default: 'batch'.
    """

    id: str
    endpoint: str
    model: None | str
    errors: BatchErrorsOut | None
    input_file_id: str
    completion_window: str
    status: BatchOutStatus
    output_file_id: None | str
    error_file_id: None | str
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCountsOut
    usage: BatchUsageOut
    metadata: BatchOutMetadataType0 | None
    object_: Literal["batch"] | Unset = "batch"
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        from ..models.batch_errors_out import BatchErrorsOut  # noqa: PLC0415
        from ..models.batch_out_metadata_type_0 import BatchOutMetadataType0  # noqa: PLC0415

        id = self.id

        endpoint = self.endpoint

        model: None | str
        model = self.model

        errors: dict[str, Any] | None
        if isinstance(self.errors, BatchErrorsOut):
            errors = self.errors.to_dict()
        else:
            errors = self.errors

        input_file_id = self.input_file_id

        completion_window = self.completion_window

        status: str = self.status

        output_file_id: None | str
        output_file_id = self.output_file_id

        error_file_id: None | str
        error_file_id = self.error_file_id

        created_at = self.created_at

        in_progress_at: int | None
        in_progress_at = self.in_progress_at

        expires_at = self.expires_at

        finalizing_at: int | None
        finalizing_at = self.finalizing_at

        completed_at: int | None
        completed_at = self.completed_at

        failed_at: int | None
        failed_at = self.failed_at

        expired_at: int | None
        expired_at = self.expired_at

        cancelling_at: int | None
        cancelling_at = self.cancelling_at

        cancelled_at: int | None
        cancelled_at = self.cancelled_at

        request_counts = self.request_counts.to_dict()

        usage = self.usage.to_dict()

        metadata: dict[str, Any] | None
        if isinstance(self.metadata, BatchOutMetadataType0):
            metadata = self.metadata.to_dict()
        else:
            metadata = self.metadata

        object_ = self.object_

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "id": id,
                "endpoint": endpoint,
                "model": model,
                "errors": errors,
                "input_file_id": input_file_id,
                "completion_window": completion_window,
                "status": status,
                "output_file_id": output_file_id,
                "error_file_id": error_file_id,
                "created_at": created_at,
                "in_progress_at": in_progress_at,
                "expires_at": expires_at,
                "finalizing_at": finalizing_at,
                "completed_at": completed_at,
                "failed_at": failed_at,
                "expired_at": expired_at,
                "cancelling_at": cancelling_at,
                "cancelled_at": cancelled_at,
                "request_counts": request_counts,
                "usage": usage,
                "metadata": metadata,
            }
        )
        if object_ is not UNSET:
            field_dict["object"] = object_

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.batch_errors_out import BatchErrorsOut  # noqa: PLC0415
        from ..models.batch_out_metadata_type_0 import BatchOutMetadataType0  # noqa: PLC0415
        from ..models.batch_usage_out import BatchUsageOut  # noqa: PLC0415
        from ..models.request_counts_out import RequestCountsOut  # noqa: PLC0415

        d = dict(src_dict)
        id = d.pop("id")

        endpoint = d.pop("endpoint")

        def _parse_model(data: object) -> None | str:
            if data is None:
                return data
            return cast(None | str, data)

        model = _parse_model(d.pop("model"))

        def _parse_errors(data: object) -> BatchErrorsOut | None:
            if data is None:
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                errors_type_0 = BatchErrorsOut.from_dict(data)

                return errors_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(BatchErrorsOut | None, data)

        errors = _parse_errors(d.pop("errors"))

        input_file_id = d.pop("input_file_id")

        completion_window = d.pop("completion_window")

        status = check_batch_out_status(d.pop("status"))

        def _parse_output_file_id(data: object) -> None | str:
            if data is None:
                return data
            return cast(None | str, data)

        output_file_id = _parse_output_file_id(d.pop("output_file_id"))

        def _parse_error_file_id(data: object) -> None | str:
            if data is None:
                return data
            return cast(None | str, data)

        error_file_id = _parse_error_file_id(d.pop("error_file_id"))

        created_at = d.pop("created_at")

        def _parse_in_progress_at(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        in_progress_at = _parse_in_progress_at(d.pop("in_progress_at"))

        expires_at = d.pop("expires_at")

        def _parse_finalizing_at(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        finalizing_at = _parse_finalizing_at(d.pop("finalizing_at"))

        def _parse_completed_at(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        completed_at = _parse_completed_at(d.pop("completed_at"))

        def _parse_failed_at(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        failed_at = _parse_failed_at(d.pop("failed_at"))

        def _parse_expired_at(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        expired_at = _parse_expired_at(d.pop("expired_at"))

        def _parse_cancelling_at(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        cancelling_at = _parse_cancelling_at(d.pop("cancelling_at"))

        def _parse_cancelled_at(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        cancelled_at = _parse_cancelled_at(d.pop("cancelled_at"))

        request_counts = RequestCountsOut.from_dict(d.pop("request_counts"))

        usage = BatchUsageOut.from_dict(d.pop("usage"))

        def _parse_metadata(data: object) -> BatchOutMetadataType0 | None:
            if data is None:
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                metadata_type_0 = BatchOutMetadataType0.from_dict(data)

                return metadata_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(BatchOutMetadataType0 | None, data)

        metadata = _parse_metadata(d.pop("metadata"))

        object_ = cast(Literal["batch"] | Unset, d.pop("object", UNSET))
        if object_ != "batch" and not isinstance(object_, Unset):
            raise ValueError(f"object must match const 'batch', got '{object_}'")

        batch_out = cls(
            id=id,
            endpoint=endpoint,
            model=model,
            errors=errors,
            input_file_id=input_file_id,
            completion_window=completion_window,
            status=status,
            output_file_id=output_file_id,
            error_file_id=error_file_id,
            created_at=created_at,
            in_progress_at=in_progress_at,
            expires_at=expires_at,
            finalizing_at=finalizing_at,
            completed_at=completed_at,
            failed_at=failed_at,
            expired_at=expired_at,
            cancelling_at=cancelling_at,
            cancelled_at=cancelled_at,
            request_counts=request_counts,
            usage=usage,
            metadata=metadata,
            object_=object_,
        )

        batch_out.additional_properties = d
        return batch_out

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
