"""Metric integrations that the operator can configure, and what a missing one needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from storage.settings import Settings


@dataclass(frozen=True)
class IntegrationKind:
    title: str
    package: str
    """Required Python package. The ``luthier[…]`` extra named like the integration installs it."""
    is_configured: Callable[[Settings], bool]
    setting: str
    """Environment variable that configures the integration."""


INTEGRATION_KINDS: Mapping[str, IntegrationKind] = {
    "wandb": IntegrationKind(
        "Weights & Biases",
        "wandb",
        lambda settings: settings.wandb_offline or bool(settings.wandb_api_key.get_secret_value()),
        "LUTHIER_WANDB_API_KEY",
    ),
    "mlflow": IntegrationKind("MLflow", "mlflow", lambda settings: bool(settings.mlflow_uri), "LUTHIER_MLFLOW_URI"),
}
"""Keyed by the ``type`` of a job's integration."""


def describe_missing_setup(kind: str, settings: Settings) -> str | None:
    """Return the operator's next setup step for an integration, or None if it is ready to use."""
    integration = INTEGRATION_KINDS[kind]
    title = integration.title
    if find_spec(integration.package) is None:
        return f"{title} is not installed on this server. The operator can run: pip install 'luthier[{kind}]'."
    if not integration.is_configured(settings):
        return f"{title} is not configured on this server. The operator has to set {integration.setting}."
    return None
