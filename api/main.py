"""``python -m api.main``: the API as a process, or as several that share a port."""

from __future__ import annotations

import uvicorn

from api.patience import Impatient
from storage import logs
from storage.settings import Settings

STOP_SECONDS = 10
"""How long running answers may take to end once the server is told to stop."""


def main() -> None:
    logs.configure()
    settings = Settings()
    uvicorn.run(
        "api.app:create_app_from_environment",
        factory=True,
        http=Impatient,
        host=settings.host,
        port=settings.port,
        workers=settings.api_processes,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=STOP_SECONDS,
    )


if __name__ == "__main__":
    main()
