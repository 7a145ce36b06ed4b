"""Where else a job's figures go: the kinds that the operator can set up, and what is missing where one is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from storage.settings import Settings


@dataclass(frozen=True)
class IntegrationKind:
    title: str
    package: str
    """What has to be installed; ``luthier[…]`` of the same name brings it."""
    is_configured: Callable[[Settings], bool]
    setting: str
    """What has to be set."""


INTEGRATION_KINDS: Mapping[str, IntegrationKind] = {
    "wandb": IntegrationKind(
        "Weights & Biases",
        "wandb",
        lambda settings: settings.wandb_offline or bool(settings.wandb_api_key.get_secret_value()),
        "LUTHIER_WANDB_API_KEY",
    ),
    "mlflow": IntegrationKind("MLflow", "mlflow", lambda settings: bool(settings.mlflow_uri), "LUTHIER_MLFLOW_URI"),
}
"""By the ``type`` of a job's integration."""


def describe_missing_setup(kind: str, settings: Settings) -> str | None:
    """What the operator has to do before this kind can be used; None where it can be."""
    one = INTEGRATION_KINDS[kind]
    if find_spec(one.package) is None:
        return f"{one.title} is not installed on this server; the operator can run: pip install 'luthier[{kind}]'."
    if not one.is_configured(settings):
        return f"{one.title} is not set up on this server; the operator has to set {one.setting}."
    return None
