"""Real servers for tests: Postgres, Redis and an S3 endpoint, each in its own process or thread."""

from __future__ import annotations

import asyncio
import itertools
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import boto3
from moto.server import ThreadedMotoServer

from deploy import redis_server

with warnings.catch_warnings():
    # pgserver requests a directory from platformdirs that does not exist on every machine.
    warnings.simplefilter("ignore")
    import pgserver


@dataclass
class Postgres:
    """A Postgres server. :meth:`create_database` creates an empty database and returns its URL."""

    folder: str
    _database_numbers: Iterator[int] = field(default_factory=itertools.count)

    def create_database(self) -> str:
        name = f"test_{next(self._database_numbers)}"

        async def create() -> None:
            connection = await asyncpg.connect(user="postgres", database="postgres", host=self.folder)
            await connection.execute(f"CREATE DATABASE {name}")
            await connection.close()

        asyncio.run(create())
        return f"postgresql+asyncpg://postgres:@/{name}?host={self.folder}"


@contextmanager
def run_postgres() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory(prefix="pg", ignore_cleanup_errors=True) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            yield Postgres(str(Path(folder) / "data"))
        finally:
            server.cleanup()


@contextmanager
def run_redis(folder: Path | None = None) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Yield the URL and the process of a Redis server. A test may kill the process."""
    with tempfile.TemporaryDirectory(prefix="rd") as made:
        home = folder or Path(made)
        socket_path = home / "redis.sock"
        process = subprocess.Popen(redis_server.build_command(socket_path, home), stdout=subprocess.DEVNULL)
        wait_for(socket_path.exists)
        try:
            yield f"unix://{socket_path}", process
        finally:
            process.kill()
            process.wait()


@contextmanager
def run_s3() -> Iterator[str]:
    """Yield a blob URL over real HTTP. boto3 finds the credentials; moto accepts any."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket="luthier")
    try:
        yield f"s3://luthier/here?endpoint_url={endpoint}"
    finally:
        server.stop()


def wait_for(condition, seconds: float = 10.0, interval: float = 0.02) -> None:  # type: ignore[no-untyped-def]
    """Poll until the condition is true. Raises ``TimeoutError`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{condition} did not become true in {seconds} s")
        time.sleep(interval)


@contextmanager
def run_redis_over_tcp() -> Iterator[str]:
    """Yield the URL of a Redis server on TCP loopback, as in production."""
    with tempfile.TemporaryDirectory(prefix="rd") as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        unix = redis_server.build_command(Path(folder) / "redis.sock", Path(folder))
        process = subprocess.Popen([*unix, "--port", str(port), "--bind", "127.0.0.1"], stdout=subprocess.DEVNULL)
        wait_for((Path(folder) / "redis.sock").exists)
        try:
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()
