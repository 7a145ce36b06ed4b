"""Entry point ``python -m api.main``: the API as one process, or as several that share a port."""

from __future__ import annotations

import uvicorn

from api.server.multiprocess import ReusePortSupervisor
from api.server.timeouts import TimeoutProtocol
from storage import logs
from storage.settings import Settings

GRACEFUL_SHUTDOWN_SECONDS = 10
"""Time in which responses in flight may finish after the server receives the signal to stop."""


def main() -> None:
    logs.configure()
    settings = Settings()
    config = uvicorn.Config(
        "api.app:create_app_from_environment",
        factory=True,
        http=TimeoutProtocol,
        host=settings.host,
        port=settings.port,
        workers=settings.api_processes,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_SECONDS,
    )
    server: uvicorn.Server | ReusePortSupervisor = (
        ReusePortSupervisor(config) if settings.api_processes > 1 else uvicorn.Server(config)
    )
    server.run()


if __name__ == "__main__":
    main()
