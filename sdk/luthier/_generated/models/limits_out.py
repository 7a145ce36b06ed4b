from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

T = TypeVar("T", bound="LimitsOut")


@_attrs_define
class LimitsOut:
    """
    Attributes:
        requests_per_minute (int | None):
        tokens_per_minute (int | None):
        max_running_jobs (int | None):
        max_queued_requests (int | None):
        max_bytes (int | None):
    """

    requests_per_minute: int | None
    tokens_per_minute: int | None
    max_running_jobs: int | None
    max_queued_requests: int | None
    max_bytes: int | None
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        requests_per_minute: int | None
        requests_per_minute = self.requests_per_minute

        tokens_per_minute: int | None
        tokens_per_minute = self.tokens_per_minute

        max_running_jobs: int | None
        max_running_jobs = self.max_running_jobs

        max_queued_requests: int | None
        max_queued_requests = self.max_queued_requests

        max_bytes: int | None
        max_bytes = self.max_bytes

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "requests_per_minute": requests_per_minute,
                "tokens_per_minute": tokens_per_minute,
                "max_running_jobs": max_running_jobs,
                "max_queued_requests": max_queued_requests,
                "max_bytes": max_bytes,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)

        def _parse_requests_per_minute(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        requests_per_minute = _parse_requests_per_minute(d.pop("requests_per_minute"))

        def _parse_tokens_per_minute(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        tokens_per_minute = _parse_tokens_per_minute(d.pop("tokens_per_minute"))

        def _parse_max_running_jobs(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        max_running_jobs = _parse_max_running_jobs(d.pop("max_running_jobs"))

        def _parse_max_queued_requests(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        max_queued_requests = _parse_max_queued_requests(d.pop("max_queued_requests"))

        def _parse_max_bytes(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        max_bytes = _parse_max_bytes(d.pop("max_bytes"))

        limits_out = cls(
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            max_running_jobs=max_running_jobs,
            max_queued_requests=max_queued_requests,
            max_bytes=max_bytes,
        )

        limits_out.additional_properties = d
        return limits_out

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
