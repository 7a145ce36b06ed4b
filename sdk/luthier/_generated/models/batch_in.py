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

from ..models.batch_in_endpoint import BatchInEndpoint, check_batch_in_endpoint
from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.batch_in_metadata_type_0 import BatchInMetadataType0
    from ..models.output_expires_after_in import OutputExpiresAfterIn


T = TypeVar("T", bound="BatchIn")


@_attrs_define
class BatchIn:
    """The body of ``POST /v1/batches``.

    Attributes:
        input_file_id (str): A file with purpose ``batch``: JSON lines ``{custom_id, method: "POST", url, body}``.
        endpoint (BatchInEndpoint): The ``url`` of every line.
        completion_window (Literal['24h']):
        metadata (BatchInMetadataType0 | None | Unset):
        output_expires_after (None | OutputExpiresAfterIn | Unset): Lifetime of the output and error files; without it,
            they do not expire.
    """

    input_file_id: str
    endpoint: BatchInEndpoint
    completion_window: Literal["24h"]
    metadata: BatchInMetadataType0 | None | Unset = UNSET
    output_expires_after: None | OutputExpiresAfterIn | Unset = UNSET

    def to_dict(self) -> dict[str, Any]:
        from ..models.batch_in_metadata_type_0 import BatchInMetadataType0  # noqa: PLC0415
        from ..models.output_expires_after_in import OutputExpiresAfterIn  # noqa: PLC0415

        input_file_id = self.input_file_id

        endpoint: str = self.endpoint

        completion_window = self.completion_window

        metadata: dict[str, Any] | None | Unset
        if isinstance(self.metadata, Unset):
            metadata = UNSET
        elif isinstance(self.metadata, BatchInMetadataType0):
            metadata = self.metadata.to_dict()
        else:
            metadata = self.metadata

        output_expires_after: dict[str, Any] | None | Unset
        if isinstance(self.output_expires_after, Unset):
            output_expires_after = UNSET
        elif isinstance(self.output_expires_after, OutputExpiresAfterIn):
            output_expires_after = self.output_expires_after.to_dict()
        else:
            output_expires_after = self.output_expires_after

        field_dict: dict[str, Any] = {}

        field_dict.update(
            {
                "input_file_id": input_file_id,
                "endpoint": endpoint,
                "completion_window": completion_window,
            }
        )
        if metadata is not UNSET:
            field_dict["metadata"] = metadata
        if output_expires_after is not UNSET:
            field_dict["output_expires_after"] = output_expires_after

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.batch_in_metadata_type_0 import BatchInMetadataType0  # noqa: PLC0415
        from ..models.output_expires_after_in import OutputExpiresAfterIn  # noqa: PLC0415

        d = dict(src_dict)
        input_file_id = d.pop("input_file_id")

        endpoint = check_batch_in_endpoint(d.pop("endpoint"))

        completion_window = cast(Literal["24h"], d.pop("completion_window"))
        if completion_window != "24h":
            raise ValueError(f"completion_window must match const '24h', got '{completion_window}'")

        def _parse_metadata(data: object) -> BatchInMetadataType0 | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                metadata_type_0 = BatchInMetadataType0.from_dict(data)

                return metadata_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(BatchInMetadataType0 | None | Unset, data)

        metadata = _parse_metadata(d.pop("metadata", UNSET))

        def _parse_output_expires_after(data: object) -> None | OutputExpiresAfterIn | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                output_expires_after_type_0 = OutputExpiresAfterIn.from_dict(data)

                return output_expires_after_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(None | OutputExpiresAfterIn | Unset, data)

        output_expires_after = _parse_output_expires_after(d.pop("output_expires_after", UNSET))

        batch_in = cls(
            input_file_id=input_file_id,
            endpoint=endpoint,
            completion_window=completion_window,
            metadata=metadata,
            output_expires_after=output_expires_after,
        )

        return batch_in
