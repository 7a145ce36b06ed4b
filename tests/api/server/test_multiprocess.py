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
from storage.settings import Settings, child_environment
from tests.services import wait_for
from tests.stack import free_port, settings

CLIENTS = 60


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Where two processes listen."""
    found = settings(tmp_path_factory.mktemp("s")).model_copy(update={"api_processes": 2, "port": free_port()})
    asyncio.run(migrate.upgrade(found.database_url))
    with started(found) as process:
        wait_for(lambda: len(listeners(found.port)) == 2, 60)
        yield found
        process.terminate()


def started(found: Settings) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-W", "ignore", "-m", "api.main"]
    return subprocess.Popen(command, env=child_environment(found), stderr=subprocess.PIPE)


def listeners(port: int) -> set[int]:
    sockets = psutil.net_connections("tcp")
    return {each.pid for each in sockets if each.status == psutil.CONN_LISTEN and each.laddr.port == port and each.pid}


def held(two: Settings) -> Counter[int | None]:
    """By process, how many connections it has taken."""
    mine = listeners(two.port)
    sockets = [each for each in psutil.net_connections("tcp") if each.laddr and each.laddr.port == two.port]
    return Counter(each.pid for each in sockets if each.status == psutil.CONN_ESTABLISHED and each.pid in mine)


def test_connections_are_dealt_out(two: Settings) -> None:
    with ExitStack() as stack:
        for _ in range(CLIENTS):
            stack.enter_context(socket.create_connection((two.host, two.port)))
        wait_for(lambda: held(two).total() == CLIENTS, 10)
        # Fewer than a sixth would come to one of two by chance once in thirty million runs.
        assert min(held(two).values()) >= CLIENTS // 6
        assert len(held(two)) == 2


def test_one_that_dies_is_replaced(two: Settings) -> None:
    before = listeners(two.port)
    psutil.Process(min(before)).kill()
    wait_for(lambda: len(listeners(two.port) - before) == 1 and len(listeners(two.port)) == 2, 60)


def test_a_port_that_is_taken_is_not_shared(two: Settings, tmp_path: Path) -> None:
    other = settings(tmp_path).model_copy(update={"api_processes": 2, "port": two.port})
    with started(other) as process:
        assert process.stderr
        assert b"Address already in use" in process.stderr.read()
    assert process.returncode == 3
