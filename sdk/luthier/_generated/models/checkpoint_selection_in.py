from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define

from ..types import UNSET, Unset

T = TypeVar("T", bound="CheckpointSelectionIn")


@_attrs_define
class CheckpointSelectionIn:
    """A selection of checkpoints: by their ids, or all before a step.

    Attributes:
        ids (list[str] | None | Unset):
        older_than_step (int | None | Unset):
    """

    ids: list[str] | None | Unset = UNSET
    older_than_step: int | None | Unset = UNSET

    def to_dict(self) -> dict[str, Any]:
        ids: list[str] | None | Unset
        if isinstance(self.ids, Unset):
            ids = UNSET
        elif isinstance(self.ids, list):
            ids = self.ids

        else:
            ids = self.ids

        older_than_step: int | None | Unset
        if isinstance(self.older_than_step, Unset):
            older_than_step = UNSET
        else:
            older_than_step = self.older_than_step

        field_dict: dict[str, Any] = {}

        field_dict.update({})
        if ids is not UNSET:
            field_dict["ids"] = ids
        if older_than_step is not UNSET:
            field_dict["older_than_step"] = older_than_step

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)

        def _parse_ids(data: object) -> list[str] | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, list):
                    raise TypeError()
                ids_type_0 = cast(list[str], data)

                return ids_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(list[str] | None | Unset, data)

        ids = _parse_ids(d.pop("ids", UNSET))

        def _parse_older_than_step(data: object) -> int | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(int | None | Unset, data)

        older_than_step = _parse_older_than_step(d.pop("older_than_step", UNSET))

        checkpoint_selection_in = cls(
            ids=ids,
            older_than_step=older_than_step,
        )

        return checkpoint_selection_in
