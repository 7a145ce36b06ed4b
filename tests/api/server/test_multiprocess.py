"""Several API processes on one port."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from storage import migrate
from storage.settings import Settings, build_child_environment
from tests.services import wait_for
from tests.stack import build_settings, find_free_port

pytestmark = pytest.mark.integration

CONNECTIONS = 60


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a port on which two API processes listen."""
    settings = build_settings(tmp_path_factory.mktemp("s")).model_copy(
        update={"api_processes": 2, "port": find_free_port()}
    )
    asyncio.run(migrate.upgrade(settings.database_url))
    with start_api(settings) as process:
        wait_for(lambda: len(find_listeners(settings.port)) == 2, 60)
        yield settings
        process.terminate()


def start_api(settings: Settings) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-W", "ignore", "-m", "api.main"]
    return subprocess.Popen(command, env=build_child_environment(settings), stderr=subprocess.PIPE)


def find_listeners(port: int) -> set[int]:
    sockets = psutil.net_connections("tcp")
    return {
        listener.pid
        for listener in sockets
        if listener.status == psutil.CONN_LISTEN and listener.laddr.port == port and listener.pid
    }


def count_connections(settings: Settings) -> Counter[int | None]:
    """Count the connections that each process has accepted."""
    listeners = find_listeners(settings.port)
    sockets = [
        connection
        for connection in psutil.net_connections("tcp")
        if connection.laddr and connection.laddr.port == settings.port
    ]
    return Counter(
        connection.pid
        for connection in sockets
        if connection.status == psutil.CONN_ESTABLISHED and connection.pid in listeners
    )


def test_connections_are_distributed(two_processes: Settings) -> None:
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(socket.create_connection((two_processes.host, two_processes.port)))
        wait_for(lambda: count_connections(two_processes).total() == CONNECTIONS, 10)
        # By chance, one of two gets less than a sixth once in thirty million runs.
        assert min(count_connections(two_processes).values()) >= CONNECTIONS // 6
        assert len(count_connections(two_processes)) == 2


def test_a_process_that_dies_is_replaced(two_processes: Settings) -> None:
    before = find_listeners(two_processes.port)
    psutil.Process(min(before)).kill()
    wait_for(
        lambda: len(find_listeners(two_processes.port) - before) == 1 and len(find_listeners(two_processes.port)) == 2,
        60,
    )


def test_a_port_that_is_taken_is_not_shared(two_processes: Settings, tmp_path: Path) -> None:
    other = build_settings(tmp_path).model_copy(update={"api_processes": 2, "port": two_processes.port})
    with start_api(other) as process:
        assert process.stderr
        assert b"Address already in use" in process.stderr.read()
    assert process.returncode == 3
