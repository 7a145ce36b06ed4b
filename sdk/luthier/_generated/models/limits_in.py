from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define

from ..types import UNSET, Unset

T = TypeVar("T", bound="LimitsIn")


@_attrs_define
class LimitsIn:
    """Limits of a project. Null or absent means the server's limit.

    Attributes:
        requests_per_minute (int | None | Unset):
        tokens_per_minute (int | None | Unset):
        max_running_jobs (int | None | Unset):
        max_queued_requests (int | None | Unset): Unprocessed requests in all batches of the project.
        max_bytes (int | None | Unset): Total size of files, open uploads and the responses of running batches.
    """

    requests_per_minute: int | None | Unset = UNSET
    tokens_per_minute: int | None | Unset = UNSET
    max_running_jobs: int | None | Unset = UNSET
    max_queued_requests: int | None | Unset = UNSET
    max_bytes: int | None | Unset = UNSET

    def to_dict(self) -> dict[str, Any]:
        requests_per_minute: int | None | Unset
        if isinstance(self.requests_per_minute, Unset):
            requests_per_minute = UNSET
        else:
            requests_per_minute = self.requests_per_minute

        tokens_per_minute: int | None | Unset
        if isinstance(self.tokens_per_minute, Unset):
            tokens_per_minute = UNSET
        else:
            tokens_per_minute = self.tokens_per_minute

        max_running_jobs: int | None | Unset
        if isinstance(self.max_running_jobs, Unset):
            max_running_jobs = UNSET
        else:
            max_running_jobs = self.max_running_jobs

        max_queued_requests: int | None | Unset
        if isinstance(self.max_queued_requests, Unset):
            max_queued_requests = UNSET
        else:
            max_queued_requests = self.max_queued_requests

        max_bytes: int | None | Unset
        if isinstance(self.max_bytes, Unset):
            max_bytes = UNSET
        else:
            max_bytes = self.max_bytes

        field_dict: dict[str, Any] = {}

        field_dict.update({})
        if requests_per_minute is not UNSET:
            field_dict["requests_per_minute"] = requests_per_minute
        if tokens_per_minute is not UNSET:
            field_dict["tokens_per_minute"] = tokens_per_minute
        if max_running_jobs is not UNSET:
            field_dict["max_running_jobs"] = max_running_jobs
        if max_queued_requests is not UNSET:
            field_dict["max_queued_requests"] = max_queued_requests
        if max_bytes is not UNSET:
            field_dict["max_bytes"] = max_bytes

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)

        def _parse_requests_per_minute(data: object) -> int | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(int | None | Unset, data)

        requests_per_minute = _parse_requests_per_minute(d.pop("requests_per_minute", UNSET))

        def _parse_tokens_per_minute(data: object) -> int | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(int | None | Unset, data)

        tokens_per_minute = _parse_tokens_per_minute(d.pop("tokens_per_minute", UNSET))

        def _parse_max_running_jobs(data: object) -> int | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(int | None | Unset, data)

        max_running_jobs = _parse_max_running_jobs(d.pop("max_running_jobs", UNSET))

        def _parse_max_queued_requests(data: object) -> int | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(int | None | Unset, data)

        max_queued_requests = _parse_max_queued_requests(d.pop("max_queued_requests", UNSET))

        def _parse_max_bytes(data: object) -> int | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(int | None | Unset, data)

        max_bytes = _parse_max_bytes(d.pop("max_bytes", UNSET))

        limits_in = cls(
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            max_running_jobs=max_running_jobs,
            max_queued_requests=max_queued_requests,
            max_bytes=max_bytes,
        )

        return limits_in
