"""Python client for Luthier.

from pathlib import Path

from luthier import Luthier

with Luthier() as client:
    job = client.jobs.create(model="starter", training_file=Path("rows.jsonl")).wait()
    print(client.chat(job.fine_tuned_model, "Hello!").choices[0].message.content)
"""

from luthier._async.client import AsyncLuthier
from luthier._async.job import AsyncJob
from luthier._display import Display, Quiet
from luthier._sync.client import Luthier
from luthier._sync.job import Job
from luthier.errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    ConflictError,
    CorruptDownloadError,
    InternalServerError,
    JobFailedError,
    LuthierError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    TooLargeError,
    WaitTimeoutError,
)

__all__ = [
    "APIConnectionError",
    "APIStatusError",
    "APITimeoutError",
    "AsyncJob",
    "AsyncLuthier",
    "AuthenticationError",
    "BadRequestError",
    "ConfigurationError",
    "ConflictError",
    "CorruptDownloadError",
    "Display",
    "InternalServerError",
    "Job",
    "JobFailedError",
    "Luthier",
    "LuthierError",
    "NotFoundError",
    "PermissionDeniedError",
    "Quiet",
    "RateLimitError",
    "TooLargeError",
    "WaitTimeoutError",
]
