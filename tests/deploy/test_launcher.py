"""``luthierd up``: start, readiness, restart of services, and a clean stop."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from openai import OpenAI

from storage.settings import REPOSITORY_ROOT
from tests.services import wait_for

pytestmark = pytest.mark.integration

PROCESS_PATTERNS = {
    "redis": "redis-server",
    "inference": "inference.server",
    "worker": "jobs.worker",
    "api": "api.main",
}


class Launcher:
    """Process of ``luthierd up`` and its home directory."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.output_path = home.parent / "out.txt"
        with self.output_path.open("w") as out:
            command = [sys.executable, "-m", "deploy.luthierd", "up", "--home", str(home), "--port", "0"]
            environment = {**os.environ, "COLUMNS": "400", "LUTHIER_TRAIN_THREADS": "1"}
            self.process = subprocess.Popen(command, stdout=out, stderr=out, cwd=REPOSITORY_ROOT, env=environment)

    def read_output(self) -> str:
        return self.output_path.read_text()

    def read_credentials(self) -> dict[str, str]:
        credentials: dict[str, str] = json.loads((self.home / "credentials").read_text())
        return credentials

    def find_process(self, name: str) -> psutil.Process | None:
        for child in psutil.Process(self.process.pid).children():
            # A process that has just exited can still be in the list.
            with suppress(psutil.NoSuchProcess):
                if PROCESS_PATTERNS[name] in " ".join(child.cmdline()):
                    return child
        return None

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.read_output()
        try:
            url = self.read_credentials()["base_url"].removesuffix("/v1")
            return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
        except (FileNotFoundError, httpx.TransportError):
            return False


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    up = Launcher(tmp_path_factory.mktemp("u") / "home")
    try:
        wait_for(lambda: "is ready at" in up.read_output() or up.process.poll() is not None, 240, 0.2)
        yield up
    finally:
        up.process.kill()
        up.process.wait()


def test_it_prints_its_url_its_key_and_a_command_to_try(launcher: Launcher) -> None:
    text, credentials = launcher.read_output(), launcher.read_credentials()
    assert credentials["base_url"] in text
    assert credentials["api_key"] in text, "the first start must print the key"
    assert str(launcher.home / "credentials") in text
    assert stat.S_IMODE((launcher.home / "credentials").stat().st_mode) == 0o600
    [line] = [line.strip() for line in text.splitlines() if "curl" in line]
    result = subprocess.run(["bash", "-c", line.removeprefix("try: ")], capture_output=True, text=True, check=True)
    assert "starter" in [model["id"] for model in json.loads(result.stdout)["data"]]


def test_only_the_api_listens_on_tcp_and_only_on_loopback(launcher: Launcher) -> None:
    processes = [launcher.find_process(name) for name in PROCESS_PATTERNS]
    listening: list[Any] = []
    for process in processes:
        assert process is not None
        for member in [process, *process.children(recursive=True)]:
            connections = member.net_connections("tcp")
            listening += [connection.laddr for connection in connections if connection.status == psutil.CONN_LISTEN]
    port = int(launcher.read_credentials()["base_url"].rpartition(":")[2].partition("/")[0])
    assert {(address.ip, address.port) for address in listening} == {("127.0.0.1", port)}


def test_a_second_stack_in_the_same_home_is_refused(launcher: Launcher) -> None:
    command = [sys.executable, "-m", "deploy.luthierd", "up", "--home", str(launcher.home), "--port", "0"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY_ROOT, check=False)
    assert result.returncode == 1
    assert "already" in result.stdout


def test_a_used_port_is_reported(launcher: Launcher, tmp_path: Path) -> None:
    port = launcher.read_credentials()["base_url"].rpartition(":")[2].partition("/")[0]
    command = [sys.executable, "-m", "deploy.luthierd", "up", "--home", str(tmp_path / "h"), "--port", port]
    result = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY_ROOT, check=False)
    assert result.returncode == 1
    assert port in result.stdout
    assert "--port" in result.stdout


def test_killed_processes_are_restarted(launcher: Launcher) -> None:
    before = {name: launcher.find_process(name) for name in PROCESS_PATTERNS}
    for process in before.values():
        assert process is not None
        process.kill()

    def are_all_restarted() -> bool:
        after = {name: launcher.find_process(name) for name in PROCESS_PATTERNS}
        return (
            all(after[name] is not None and after[name] != before[name] for name in PROCESS_PATTERNS)
            and launcher.is_ready()
        )

    wait_for(are_all_restarted, 240, 0.2)
    credentials = launcher.read_credentials()
    with OpenAI(base_url=credentials["base_url"], api_key=credentials["api_key"]) as client:
        completion = client.chat.completions.create(
            model="starter", messages=[{"role": "user", "content": "Hello!"}], max_tokens=8, temperature=0
        )
    assert completion.choices[0].message.content


def test_it_stops_cleanly_and_leaves_nothing_running(launcher: Launcher) -> None:
    processes = psutil.Process(launcher.process.pid).children(recursive=True)
    assert len(processes) >= len(PROCESS_PATTERNS)
    launcher.process.send_signal(signal.SIGTERM)
    assert launcher.process.wait(60) == 0
    _, alive = psutil.wait_procs(processes, timeout=5)
    assert alive == []
    assert "has stopped" in launcher.read_output()


def test_the_next_start_keeps_the_key_and_a_killed_launcher_ends_every_process(launcher: Launcher) -> None:
    key = launcher.read_credentials()["api_key"]
    again = Launcher(launcher.home)
    try:
        wait_for(again.is_ready, 240, 0.2)
        assert again.read_credentials()["api_key"] == key
        assert key not in again.read_output()
        processes = psutil.Process(again.process.pid).children(recursive=True)
    finally:
        again.process.kill()
        again.process.wait()
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert alive == []
