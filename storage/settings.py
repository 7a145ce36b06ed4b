"""All settings. Only this module reads the environment.

A setting ``x`` is the variable ``LUTHIER_X``. The embedded and the production stack differ in the
four URLs. The default URLs are those of the embedded stack, under ``home``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from storage.registry import Registry

REPOSITORY_ROOT = Path(__file__).resolve().parent.parent

Network = IPv4Network | IPv6Network


class Settings(BaseSettings):
    """Settings, read once at the start of a process and passed down."""

    model_config = SettingsConfigDict(env_prefix="LUTHIER_", extra="ignore", use_attribute_docstrings=True)

    home: Path = Field(default_factory=lambda: Path.home() / ".luthier")
    """Folder for all data of the embedded stack, and for base models and scratch space of every
    stack."""
    database_url: str = ""
    """``sqlite+aiosqlite:///…`` or ``postgresql+asyncpg://…``; empty: a file under ``home``."""
    blob_url: str = ""
    """``file:///…`` or ``s3://bucket/prefix?endpoint_url=…&region=…``; empty: a folder under
    ``home``."""
    redis_url: str = ""
    """``redis://…`` or ``unix://…``; empty: the socket of the Redis that the launcher starts."""
    inference_url: str = ""
    """``http://host:port`` or ``unix://…``; empty: the socket of the engine that the launcher
    starts."""
    inference_token: SecretStr = SecretStr("")
    """Secret shared by API, workers and engine, for an engine that listens on a network; empty:
    no check."""

    host: str = "127.0.0.1"
    """Address the API listens on."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port the API listens on; ``luthierd up --port 0`` selects a free one."""
    inference_bind: str = ""
    """URL the engine listens on (``unix://…`` or ``http://host:port``); empty:
    ``inference_url``."""
    api_processes: int = Field(default=1, ge=1, le=64)
    """API processes. They share the port, each with its own listener."""
    max_requests: int = Field(default=1024, ge=1)
    """Concurrent requests per API process; excess requests get 503 `overloaded`."""
    max_event_streams: int = Field(default=1024, ge=1)
    """Concurrent event streams of jobs per API process, in addition to `LUTHIER_MAX_REQUESTS`."""
    body_seconds: float = Field(default=30.0, gt=0)
    """Seconds to wait for a request's body, plus one second per 16 KB of it; then 408."""
    max_upload_bytes: int = Field(default=512 * 2**20, ge=1)
    """Maximum size of a file. The default is OpenAI's limit."""
    max_assembled_bytes: int = Field(default=8 * 2**30, ge=1)
    """Maximum size of a file that is uploaded in parts. The default is OpenAI's limit."""
    max_body_bytes: int = Field(default=16 * 2**20, ge=1024)
    """Maximum size of a JSON body, and of a line of a batch."""

    requests_per_minute: int | None = Field(default=None, ge=1)
    """Requests per minute of a project without its own limit; empty: no limit."""
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Input and output tokens per minute of a project without its own limit; empty: no limit."""
    max_running_jobs: int | None = Field(default=None, ge=1)
    """Jobs that train at a time, of a project without its own limit; empty: limited by the
    worker slots only."""
    max_queued_requests: int | None = Field(default=None, ge=1)
    """Queued requests in batches of a project without its own limit; empty: no limit."""
    max_bytes: int | None = Field(default=None, ge=1)
    """Total size of the files of a project without its own limit; empty: no limit."""

    models_file: Path = REPOSITORY_ROOT / "models.toml"
    """The operator's list of base models; ``home/models.toml`` adds to it."""

    worker_slots: int = Field(default=1, ge=1, le=64)
    """Jobs that one worker trains at a time."""
    lease_seconds: float = Field(default=15.0, gt=0)
    """A worker without a heartbeat for this long loses its job. Heartbeats are at least three
    times as frequent."""
    poll_seconds: float = Field(default=2.0, gt=0)
    """Interval at which idle workers poll the database, in case a wake-up was lost."""
    reaper_interval_seconds: float = Field(default=5.0, gt=0)
    """Interval between checks for expired leases."""
    cancel_grace_seconds: float = Field(default=5.0, ge=0)
    """Seconds between the stop signal and the kill of a cancelled job's training process."""
    stall_seconds: float = Field(default=600.0, gt=0)
    """A training process that does no unit of work for this long is killed: run code ``stalled``. A
    process whose units take long may be silent for ten times the longest."""
    progress_flush_seconds: float = Field(default=0.5, ge=0)
    """A job's steps within this interval are written in one transaction."""
    max_failures: int = Field(default=3, ge=1)
    """A job fails after this many abnormal ends without a new checkpoint between them: run code
    ``crash_loop``."""
    save_seconds: float = Field(default=30.0, gt=0)
    """Interval between checkpoints: the maximum work that a crash can cost."""
    train_threads: int | None = None
    """CPU threads of a training process; empty: torch's default."""
    encoded_cache_bytes: int = Field(default=10 * 2**30, ge=0)
    """Maximum size of the encoded data files under `home/encoded`, which save later runs with the
    same file and base the time to tokenize it; those not used for longest are deleted first."""
    validate_memory_bytes: int = Field(default=8 * 2**30, ge=2**28)
    """Maximum writable memory of the process that reads a client's file."""

    engine_models: int = Field(default=16, ge=2)
    """Models and adapters that the engine keeps loaded; the least recently used is unloaded
    first."""
    engine_batch: int = Field(default=16, ge=1, le=256)
    """Sequences that the engine decodes together."""
    engine_threads: int | None = None
    """CPU threads of the engine; empty: torch's default."""

    wandb_api_key: SecretStr = SecretStr("")
    """API key of Weights & Biases, for jobs that request this integration; empty: not available."""
    wandb_offline: bool = False
    """Store Weights & Biases runs under `home/wandb` for `wandb sync` instead of sending them;
    needs no key."""
    mlflow_uri: str = ""
    """Tracking server (`https://…`) or database (`sqlite:///…`) of MLflow, for jobs that request
    this integration; empty: not available. MLflow's own variables hold a server's credentials."""

    webhook_networks: str = ""
    """Non-public networks that may receive webhooks, also over plain http, such as
    `10.1.0.0/16,::1/128`."""

    @model_validator(mode="after")
    def _set_default_urls(self) -> Self:
        self.home = self.home.expanduser().resolve()
        self.database_url = self.database_url or f"sqlite+aiosqlite:///{self.home}/luthier.db"
        self.blob_url = self.blob_url or f"file://{self.home}/blobs"
        self.redis_url = self.redis_url or f"unix://{self.home}/run/redis.sock"
        self.inference_url = self.inference_url or f"unix://{self.home}/run/engine.sock"
        self.inference_bind = self.inference_bind or self.inference_url
        return self

    @field_validator("webhook_networks")
    @classmethod
    def _validate_networks(cls, value: str) -> str:
        parse_networks(value)
        return value

    @property
    def models_dir(self) -> Path:
        return self.home / "models"

    @property
    def work_dir(self) -> Path:
        """Scratch space of workers."""
        return self.home / "work"

    @property
    def cache_dir(self) -> Path:
        """Models that the engine has fetched and verified."""
        return self.home / "cache"

    @property
    def encoded_dir(self) -> Path:
        """Data files that workers have encoded for training."""
        return self.home / "encoded"

    def create_registry(self) -> Registry:
        return Registry([self.models_file, self.home / "models.toml"], self.models_dir)

    @property
    def credentials_file(self) -> Path:
        return self.home / "credentials"


def parse_networks(text: str) -> tuple[Network, ...]:
    """Parse a list such as ``10.1.0.0/16,::1/128``. Raises ``ValueError``."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


# OpenMP threads spin while they wait for each other. This starves other threads of the core,
# including those of the same step. The cost of sleeping on an idle machine has not been measured.
_THREAD_VARIABLES = {"OMP_WAIT_POLICY": "PASSIVE"}

_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
"""Exists while Linux has the NVIDIA driver loaded. Under WSL it does not exist: there, CUDA has no
expandable segments."""

_OFFLINE_VARIABLES = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def build_child_environment(settings: Settings, **extra: str) -> dict[str, str]:
    """Build the environment of a Luthier process.

    It is this process's environment with every setting made explicit, and without access to a model
    hub.
    """
    secrets = {name: getattr(settings, name).get_secret_value() for name in ("inference_token", "wandb_api_key")}
    values: dict[str, Any] = {**settings.model_dump(), **secrets}
    variables = {f"LUTHIER_{name.upper()}": str(value) for name, value in values.items() if value is not None}
    return {**os.environ, **variables, **_OFFLINE_VARIABLES, **_THREAD_VARIABLES, **extra}


def build_integration_environment(settings: Settings) -> dict[str, str]:
    """Build the environment of a process that sends metrics to another service.

    It contains the variables of these services, but no others of this process.
    """
    allowed = ["PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH", "SSL_CERT_FILE"]
    allowed += ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"]
    service_names = [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]
    key = settings.wandb_api_key.get_secret_value()
    configured = {
        "WANDB_API_KEY": key,
        "WANDB_DIR": str(settings.home),
        "WANDB_MODE": "offline" if settings.wandb_offline else "",
        "WANDB_ERROR_REPORTING": "false",
        "MLFLOW_TRACKING_URI": settings.mlflow_uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "quiet",
    }
    return {
        **_inherit([*allowed, *service_names]),
        **{name: value for name, value in configured.items() if value},
        **_THREAD_VARIABLES,
    }


def _inherit(names: Sequence[str]) -> dict[str, str]:
    return {name: os.environ[name] for name in names if name in os.environ}


def _build_allocator_variables() -> dict[str, str]:
    """Return the operator's settings of torch's allocator, or the default for CUDA.

    With expandable segments, batches of different lengths leave no gaps that fit no other batch.
    """
    chosen = _inherit(["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
    default = {"PYTORCH_ALLOC_CONF": "expandable_segments:True"} if _NVIDIA_DRIVER.exists() else {}
    return chosen or default


def build_training_environment(settings: Settings) -> dict[str, str]:
    """Build the environment of a process that reads clients' data, without URLs and secrets."""
    allowed = ["PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV"]
    allowed += ["CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"]
    return {
        **_inherit(allowed),
        **_build_allocator_variables(),
        **_OFFLINE_VARIABLES,
        **_THREAD_VARIABLES,
        # The fork server forks, so it must not have other threads.
        "OPENBLAS_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "PYTHONUNBUFFERED": "1",
    }
