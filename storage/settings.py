"""Every setting, and the only reader of the environment.

A setting ``x`` is the variable ``LUTHIER_X``. Embedded and production differ in four of them, the URLs; the defaults
are the embedded ones and lie under ``home``.
"""

from __future__ import annotations

import os
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from storage.registry import Registry

REPOSITORY_ROOT = Path(__file__).resolve().parent.parent

Network = IPv4Network | IPv6Network


class Settings(BaseSettings):
    """Read once at the start of a process and handed down; nothing else looks at the environment."""

    model_config = SettingsConfigDict(env_prefix="LUTHIER_", extra="ignore", use_attribute_docstrings=True)

    home: Path = Field(default_factory=lambda: Path.home() / ".luthier")
    """Where the embedded stack keeps everything, and where every stack keeps base models and scratch space."""
    database_url: str = ""
    """``sqlite+aiosqlite:///…`` or ``postgresql+asyncpg://…``; empty: a file under ``home``."""
    blob_url: str = ""
    """``file:///…`` or ``s3://bucket/prefix?endpoint_url=…&region=…``; empty: a folder under ``home``."""
    redis_url: str = ""
    """``redis://…`` or ``unix://…``; empty: the socket of the Redis that the launcher starts."""
    inference_url: str = ""
    """``http://host:port`` or ``unix://…``; empty: the socket of the engine that the launcher starts."""
    inference_token: SecretStr = SecretStr("")
    """Shared by API, workers and engine where the engine listens on a network; empty: no check."""

    host: str = "127.0.0.1"
    """Address the API listens on."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port the API listens on; ``luthierd up --port 0`` takes a free one."""
    inference_bind: str = ""
    """Where the engine listens (``unix://…`` or ``http://host:port``); empty: at ``inference_url``."""
    api_processes: int = Field(default=1, ge=1, le=64)
    """Processes that share the API's port, each with a listener of its own."""
    max_requests: int = Field(default=1024, ge=1)
    """Requests that one API process works on at a time; to more it answers 503 `overloaded`."""
    max_event_streams: int = Field(default=1024, ge=1)
    """Event streams of jobs that one API process serves at a time, beside those requests."""
    body_seconds: float = Field(default=30.0, gt=0)
    """How long a request's body may be waited for, besides a second for each 16 KB of it; then 408."""
    max_upload_bytes: int = Field(default=512 * 2**20, ge=1)
    """One file, as OpenAI's limit."""
    max_assembled_bytes: int = Field(default=8 * 2**30, ge=1)
    """One file that comes in parts, as OpenAI's limit."""
    max_body_bytes: int = Field(default=16 * 2**20, ge=1024)
    """One JSON body."""

    requests_per_minute: int | None = Field(default=None, ge=1)
    """Of each project that has no limit of its own; empty: as many as come."""
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Tokens read and written by models, of each project that has no limit of its own; empty: as many as come."""
    max_running_jobs: int | None = Field(default=None, ge=1)
    """Jobs that one project trains at a time, where it has no limit of its own; empty: as many as there are slots."""
    max_queued_requests: int | None = Field(default=None, ge=1)
    """Unanswered requests in one project's batches, where it has no limit of its own; empty: as many as come."""
    max_bytes: int | None = Field(default=None, ge=1)
    """Files of one project together, where it has no limit of its own; empty: as many as fit."""

    models_file: Path = REPOSITORY_ROOT / "models.toml"
    """The operator's list of base models; ``home/models.toml`` adds to it."""

    worker_slots: int = Field(default=1, ge=1, le=64)
    """Jobs that one worker trains at a time."""
    lease_seconds: float = Field(default=15.0, gt=0)
    """A worker silent for so long has lost its job; it beats three times as often."""
    poll_seconds: float = Field(default=2.0, gt=0)
    """How long a job waits at most when its ring was lost."""
    reaper_interval_seconds: float = Field(default=5.0, gt=0)
    """Between two looks for expired leases."""
    cancel_grace_seconds: float = Field(default=5.0, ge=0)
    """Between asking a child to stop and killing it."""
    stall_seconds: float = Field(default=600.0, gt=0)
    """A child that says nothing for so long is killed: run code ``stalled``."""
    progress_flush_seconds: float = Field(default=0.5, ge=0)
    """Steps of a job that are done within so long are written together."""
    max_failures: int = Field(default=3, ge=1)
    """Abnormal ends without a new checkpoint between them before a job fails: run code ``crash_loop``."""
    save_seconds: float = Field(default=30.0, gt=0)
    """Work that a crash may cost."""
    train_threads: int | None = None
    """CPU threads of a training child; empty: what torch chooses."""
    validate_memory_bytes: int = Field(default=8 * 2**30, ge=2**28)
    """Address space of the child that reads a client's file."""

    engine_models: int = Field(default=16, ge=2)
    """Models and adapters the engine keeps loaded; the least recently used goes."""
    engine_batch: int = Field(default=16, ge=1, le=256)
    """Sequences the engine decodes together."""
    engine_threads: int | None = None
    """CPU threads of the engine; empty: what torch chooses."""

    wandb_api_key: SecretStr = SecretStr("")
    """Of Weights & Biases, for jobs that ask for that integration; empty: not offered."""
    wandb_offline: bool = False
    """Keep such runs under `home/wandb`, for `wandb sync`, instead of sending them; needs no key."""
    mlflow_uri: str = ""
    """Tracking server (`https://…`) or database (`sqlite:///…`) of MLflow, for jobs that ask for that integration;
    empty: not offered. A server's credentials are MLflow's own variables."""

    webhook_networks: str = ""
    """Networks that are not the internet's and yet may be sent webhooks, over plain http too: `10.1.0.0/16,::1/128`."""

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
        """What the engine has fetched and verified."""
        return self.home / "cache"

    def create_registry(self) -> Registry:
        return Registry([self.models_file, self.home / "models.toml"], self.models_dir)

    @property
    def credentials_file(self) -> Path:
        return self.home / "credentials"


def parse_networks(text: str) -> tuple[Network, ...]:
    """Of a list such as ``10.1.0.0/16,::1/128``. Raises ``ValueError``."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


# OpenMP's threads wait for each other by spinning, which starves whoever else wants the core, the other thread of the
# same step among them. What sleeping costs on an idle machine has not been measured.
_THREAD_VARIABLES = {"OMP_WAIT_POLICY": "PASSIVE"}

_OFFLINE_VARIABLES = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def build_child_environment(settings: Settings, **extra: str) -> dict[str, str]:
    """The environment of a process of ours: this one's, every setting spelled out, no reaching for a model hub."""
    secrets = {name: getattr(settings, name).get_secret_value() for name in ("inference_token", "wandb_api_key")}
    values: dict[str, Any] = {**settings.model_dump(), **secrets}
    ours = {f"LUTHIER_{name.upper()}": str(value) for name, value in values.items() if value is not None}
    return {**os.environ, **ours, **_OFFLINE_VARIABLES, **_THREAD_VARIABLES, **extra}


def build_integration_environment(settings: Settings) -> dict[str, str]:
    """The environment of a process that sends figures to another service: that service's variables and no other's."""
    allowed = ["PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH", "SSL_CERT_FILE"]
    allowed += ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"]
    theirs = [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]
    kept = {name: os.environ[name] for name in [*allowed, *theirs] if name in os.environ}
    key = settings.wandb_api_key.get_secret_value()
    given = {
        "WANDB_API_KEY": key,
        "WANDB_DIR": str(settings.home),
        "WANDB_MODE": "offline" if settings.wandb_offline else "",
        "WANDB_ERROR_REPORTING": "false",
        "MLFLOW_TRACKING_URI": settings.mlflow_uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "quiet",
    }
    return {**kept, **{name: value for name, value in given.items() if value}, **_THREAD_VARIABLES}


def build_training_environment(settings: Settings) -> dict[str, str]:
    """The environment of a process that reads clients' data: no URL, no secret, no credential."""
    allowed = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "VIRTUAL_ENV")
    kept = {name: os.environ[name] for name in allowed if name in os.environ}
    return {
        **kept,
        **_OFFLINE_VARIABLES,
        **_THREAD_VARIABLES,
        # The warm parent forks, so it may have no threads of its own.
        "OPENBLAS_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "PYTHONUNBUFFERED": "1",
    }
