"""``luthierd up`` as a person starts it: one command, ready, restarted parts, a clean end."""

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

from storage.settings import REPOSITORY
from tests.services import wait_for

PARTS = {"redis": "redis-server", "inference": "inference.server", "worker": "jobs.worker", "api": "api.main"}


class Up:
    """A launcher and its home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.out = home.parent / "out.txt"
        with self.out.open("w") as out:
            command = [sys.executable, "-m", "deploy.luthierd", "up", "--home", str(home), "--port", "0"]
            environment = {**os.environ, "COLUMNS": "400", "LUTHIER_TRAIN_THREADS": "1"}
            self.process = subprocess.Popen(command, stdout=out, stderr=out, cwd=REPOSITORY, env=environment)

    def text(self) -> str:
        return self.out.read_text()

    def credentials(self) -> dict[str, str]:
        held: dict[str, str] = json.loads((self.home / "credentials").read_text())
        return held

    def part(self, name: str) -> psutil.Process | None:
        for child in psutil.Process(self.process.pid).children():
            # One that has just died is still in the list for a moment.
            with suppress(psutil.NoSuchProcess):
                if PARTS[name] in " ".join(child.cmdline()):
                    return child
        return None

    def ready(self) -> bool:
        assert self.process.poll() is None, self.text()
        try:
            url = self.credentials()["base_url"].removesuffix("/v1")
            return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
        except (FileNotFoundError, httpx.TransportError):
            return False


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    up = Up(tmp_path_factory.mktemp("u") / "home")
    try:
        wait_for(lambda: "is ready at" in up.text() or up.process.poll() is not None, 240, 0.2)
        yield up
    finally:
        up.process.kill()
        up.process.wait()


def test_it_says_where_it_is_where_the_key_is_and_what_to_try(up: Up) -> None:
    text, held = up.text(), up.credentials()
    assert held["base_url"] in text
    assert held["api_key"] in text, "shown once, on the first start"
    assert str(up.home / "credentials") in text
    assert stat.S_IMODE((up.home / "credentials").stat().st_mode) == 0o600
    [line] = [line.strip() for line in text.splitlines() if "curl" in line]
    ran = subprocess.run(["bash", "-c", line.removeprefix("try: ")], capture_output=True, text=True, check=True)
    assert "starter" in [model["id"] for model in json.loads(ran.stdout)["data"]]


def test_only_the_api_listens_on_tcp_and_only_on_loopback(up: Up) -> None:
    everyone = [up.part(name) for name in PARTS]
    listening: list[Any] = []
    for process in everyone:
        assert process is not None
        for one in [process, *process.children(recursive=True)]:
            listening += [it.laddr for it in one.net_connections("tcp") if it.status == psutil.CONN_LISTEN]
    port = int(up.credentials()["base_url"].rpartition(":")[2].partition("/")[0])
    assert {(address.ip, address.port) for address in listening} == {("127.0.0.1", port)}


def test_a_second_stack_in_the_same_home_is_refused(up: Up) -> None:
    command = [sys.executable, "-m", "deploy.luthierd", "up", "--home", str(up.home), "--port", "0"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert ran.returncode == 1
    assert "already" in ran.stdout


def test_a_taken_port_is_named(up: Up, tmp_path: Path) -> None:
    port = up.credentials()["base_url"].rpartition(":")[2].partition("/")[0]
    command = [sys.executable, "-m", "deploy.luthierd", "up", "--home", str(tmp_path / "h"), "--port", port]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert ran.returncode == 1
    assert port in ran.stdout
    assert "--port" in ran.stdout


def test_whatever_dies_is_started_again(up: Up) -> None:
    before = {name: up.part(name) for name in PARTS}
    for process in before.values():
        assert process is not None
        process.kill()

    def all_back() -> bool:
        now = {name: up.part(name) for name in PARTS}
        return all(now[name] is not None and now[name] != before[name] for name in PARTS) and up.ready()

    wait_for(all_back, 240, 0.2)
    held = up.credentials()
    with OpenAI(base_url=held["base_url"], api_key=held["api_key"]) as client:
        answer = client.chat.completions.create(
            model="starter", messages=[{"role": "user", "content": "Hello!"}], max_tokens=8, temperature=0
        )
    assert answer.choices[0].message.content


def test_it_stops_cleanly_and_leaves_nothing_running(up: Up) -> None:
    everyone = psutil.Process(up.process.pid).children(recursive=True)
    assert len(everyone) >= len(PARTS)
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(60) == 0
    _, alive = psutil.wait_procs(everyone, timeout=5)
    assert alive == []
    assert "has stopped" in up.text()


def test_the_next_start_keeps_the_key_and_a_killed_launcher_takes_all_with_it(up: Up) -> None:
    key = up.credentials()["api_key"]
    again = Up(up.home)
    try:
        wait_for(again.ready, 240, 0.2)
        assert again.credentials()["api_key"] == key
        assert key not in again.text()
        everyone = psutil.Process(again.process.pid).children(recursive=True)
    finally:
        again.process.kill()
        again.process.wait()
    _, alive = psutil.wait_procs(everyone, timeout=60)
    assert alive == []
