from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..types import UNSET, Unset

T = TypeVar("T", bound="MetricOut")


@_attrs_define
class MetricOut:
    """Metrics of one training step, including those of the task.

    Validation metrics are null for steps without validation.

        Attributes:
            step (int):
            total_steps (int):
            epoch (float):
            learning_rate (float):
            train_loss (float):
            train_accuracy (float | None | Unset):
            valid_loss (float | None | Unset):
            valid_accuracy (float | None | Unset):
            general_loss (float | None | Unset):
            grad_norm (float | None | Unset):
            tokens (int | None | Unset):
            tokens_per_second (float | None | Unset):
            eta_seconds (float | None | Unset):
    """

    step: int
    total_steps: int
    epoch: float
    learning_rate: float
    train_loss: float
    train_accuracy: float | None | Unset = UNSET
    valid_loss: float | None | Unset = UNSET
    valid_accuracy: float | None | Unset = UNSET
    general_loss: float | None | Unset = UNSET
    grad_norm: float | None | Unset = UNSET
    tokens: int | None | Unset = UNSET
    tokens_per_second: float | None | Unset = UNSET
    eta_seconds: float | None | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        step = self.step

        total_steps = self.total_steps

        epoch = self.epoch

        learning_rate = self.learning_rate

        train_loss = self.train_loss

        train_accuracy: float | None | Unset
        if isinstance(self.train_accuracy, Unset):
            train_accuracy = UNSET
        else:
            train_accuracy = self.train_accuracy

        valid_loss: float | None | Unset
        if isinstance(self.valid_loss, Unset):
            valid_loss = UNSET
        else:
            valid_loss = self.valid_loss

        valid_accuracy: float | None | Unset
        if isinstance(self.valid_accuracy, Unset):
            valid_accuracy = UNSET
        else:
            valid_accuracy = self.valid_accuracy

        general_loss: float | None | Unset
        if isinstance(self.general_loss, Unset):
            general_loss = UNSET
        else:
            general_loss = self.general_loss

        grad_norm: float | None | Unset
        if isinstance(self.grad_norm, Unset):
            grad_norm = UNSET
        else:
            grad_norm = self.grad_norm

        tokens: int | None | Unset
        if isinstance(self.tokens, Unset):
            tokens = UNSET
        else:
            tokens = self.tokens

        tokens_per_second: float | None | Unset
        if isinstance(self.tokens_per_second, Unset):
            tokens_per_second = UNSET
        else:
            tokens_per_second = self.tokens_per_second

        eta_seconds: float | None | Unset
        if isinstance(self.eta_seconds, Unset):
            eta_seconds = UNSET
        else:
            eta_seconds = self.eta_seconds

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "step": step,
                "total_steps": total_steps,
                "epoch": epoch,
                "learning_rate": learning_rate,
                "train_loss": train_loss,
            }
        )
        if train_accuracy is not UNSET:
            field_dict["train_accuracy"] = train_accuracy
        if valid_loss is not UNSET:
            field_dict["valid_loss"] = valid_loss
        if valid_accuracy is not UNSET:
            field_dict["valid_accuracy"] = valid_accuracy
        if general_loss is not UNSET:
            field_dict["general_loss"] = general_loss
        if grad_norm is not UNSET:
            field_dict["grad_norm"] = grad_norm
        if tokens is not UNSET:
            field_dict["tokens"] = tokens
        if tokens_per_second is not UNSET:
            field_dict["tokens_per_second"] = tokens_per_second
        if eta_seconds is not UNSET:
            field_dict["eta_seconds"] = eta_seconds

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        step = d.pop("step")

        total_steps = d.pop("total_steps")

        epoch = d.pop("epoch")

        learning_rate = d.pop("learning_rate")

        train_loss = d.pop("train_loss")

        def _parse_train_accuracy(data: object) -> float | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(float | None | Unset, data)

        train_accuracy = _parse_train_accuracy(d.pop("train_accuracy", UNSET))

        def _parse_valid_loss(data: object) -> float | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(float | None | Unset, data)

        valid_loss = _parse_valid_loss(d.pop("valid_loss", UNSET))

        def _parse_valid_accuracy(data: object) -> float | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(float | None | Unset, data)

        valid_accuracy = _parse_valid_accuracy(d.pop("valid_accuracy", UNSET))

        def _parse_general_loss(data: object) -> float | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(float | None | Unset, data)

        general_loss = _parse_general_loss(d.pop("general_loss", UNSET))

        def _parse_grad_norm(data: object) -> float | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(float | None | Unset, data)

        grad_norm = _parse_grad_norm(d.pop("grad_norm", UNSET))

        def _parse_tokens(data: object) -> int | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(int | None | Unset, data)

        tokens = _parse_tokens(d.pop("tokens", UNSET))

        def _parse_tokens_per_second(data: object) -> float | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(float | None | Unset, data)

        tokens_per_second = _parse_tokens_per_second(d.pop("tokens_per_second", UNSET))

        def _parse_eta_seconds(data: object) -> float | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(float | None | Unset, data)

        eta_seconds = _parse_eta_seconds(d.pop("eta_seconds", UNSET))

        metric_out = cls(
            step=step,
            total_steps=total_steps,
            epoch=epoch,
            learning_rate=learning_rate,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            valid_loss=valid_loss,
            valid_accuracy=valid_accuracy,
            general_loss=general_loss,
            grad_norm=grad_norm,
            tokens=tokens,
            tokens_per_second=tokens_per_second,
            eta_seconds=eta_seconds,
        )

        metric_out.additional_properties = d
        return metric_out

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
