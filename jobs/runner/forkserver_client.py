"""The worker's side of the warm parent: start a run, read its lines, stop it, learn how it ended."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from storage.settings import Settings, training_environment

log = logging.getLogger("luthier.children")

LINE_LIMIT = 8 << 20


class Child:
    """A running run."""

    def __init__(self, pid: int, lines: asyncio.StreamReader, exited: asyncio.Future[int]) -> None:
        self.pid = pid
        self._lines = lines
        self._exited = exited

    async def lines(self) -> AsyncIterator[bytes]:
        """What it prints, until it ends."""
        while line := await self._lines.readline():
            yield line

    async def wait(self) -> int:
        """Exit code; negative: the signal that ended it."""
        return await asyncio.shield(self._exited)

    def ask_to_stop(self) -> None:
        """It saves at the next step's end and leaves."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, sig: signal.Signals) -> None:
        if not self._exited.done():
            with suppress(ProcessLookupError):
                os.kill(self.pid, sig)


class _Lines(asyncio.StreamReaderProtocol):
    """A pipe that is closed with its last line; uvloop would leave it open for writing."""

    def eof_received(self) -> bool:
        super().eof_received()
        return False


class Children:
    """One warm parent and the children it has forked. A parent that dies is replaced at the next start."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._parent: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._reader: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._ready: asyncio.Future[None] | None = None
        self._started: asyncio.Future[int] | None = None
        self._exits: dict[int, asyncio.Future[int]] = {}

    async def warm(self) -> None:
        """Start the parent and wait until it has imported everything."""
        if self._parent is None or self._parent.poll() is not None:
            await self._spawn()
        assert self._ready is not None
        await self._ready

    async def start(self, folder: Path, phase: str, memory: int | None = None) -> Child:
        """Fork a child for the run in ``folder``.

        ``phase`` is one of ``jobs.runner.forkserver.PHASES``; ``memory`` limits its address space, in bytes.
        """
        async with self._starting:
            await self.warm()
            assert self._channel is not None
            loop = asyncio.get_running_loop()
            self._started = loop.create_future()
            read_end, write_end = os.pipe()
            with (folder / "stderr.log").open("ab") as errors:
                request = {"folder": str(folder), "phase": phase, "memory": memory}
                socket.send_fds(self._channel, [json.dumps(request).encode()], [write_end, errors.fileno()])
            os.close(write_end)
            pid = await self._started
            exited = self._exits.setdefault(pid, loop.create_future())
        reader = asyncio.StreamReader(limit=LINE_LIMIT)
        await loop.connect_read_pipe(lambda: _Lines(reader), os.fdopen(read_end, "rb"))
        return Child(pid, reader, exited)

    async def close(self) -> None:
        """The parent leaves when its socket closes, and takes what still runs with it."""
        if self._reader:
            self._reader.cancel()
        if self._channel:
            self._channel.close()
        if self._parent:
            await asyncio.to_thread(self._parent.wait)

    async def _spawn(self) -> None:
        if self._channel:
            self._channel.close()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        command = [sys.executable, "-m", "jobs.runner.forkserver", str(theirs.fileno()), str(os.getpid())]
        # A fork and an exec, not a wait; asyncio's own subprocesses would tie the parent to a child watcher.
        self._parent = subprocess.Popen(  # noqa: ASYNC220
            command,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env=training_environment(self._settings),
        )
        theirs.close()
        self._channel = ours
        self._ready = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read(ours))

    async def _read(self, channel: socket.socket) -> None:
        loop, rest = asyncio.get_running_loop(), b""
        while data := await loop.sock_recv(channel, 65536):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._heard(json.loads(line))
        self._parent_died()

    def _heard(self, message: dict[str, Any]) -> None:
        assert self._ready is not None
        match message:
            case {"ready": int(pid)}:
                log.info("✓ warm parent %d has imported torch, transformers and peft", pid)
                self._ready.set_result(None)
            case {"started": int(pid)}:
                assert self._started is not None
                self._started.set_result(pid)
            case {"exited": int(pid), "code": int(code)}:
                # A child may end before its start is heard of.
                self._exits.setdefault(pid, asyncio.get_running_loop().create_future()).set_result(code)

    def _parent_died(self) -> None:
        log.error("! the warm parent died; its children with it")
        waiting: list[asyncio.Future[Any]] = [f for f in (self._ready, self._started) if f is not None]
        for future in waiting:
            if not future.done():
                future.set_exception(ChildProcessError("the warm parent died"))
        for exited in self._exits.values():
            if not exited.done():
                exited.set_result(-int(signal.SIGKILL))
