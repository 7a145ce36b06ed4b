"""Client of the fork server: starts and stops training processes and reads their output."""

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

from storage.settings import Settings, build_training_environment

log = logging.getLogger("luthier.forkserver")

MAX_LINE_BYTES = 8 << 20


class TrainingProcess:
    """A process forked for one run."""

    def __init__(self, pid: int, stdout: asyncio.StreamReader, exit_code: asyncio.Future[int]) -> None:
        self.pid = pid
        self._stdout = stdout
        self._exit_code = exit_code

    async def read_lines(self) -> AsyncIterator[bytes]:
        """Yield the lines of its stdout until it ends."""
        while line := await self._stdout.readline():
            yield line

    async def wait(self) -> int:
        """Return the exit code. A negative one is the signal that ended the process."""
        return await asyncio.shield(self._exit_code)

    def terminate(self) -> None:
        """Have the process save at the end of the current step and exit."""
        self._send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self._send_signal(signal.SIGKILL)

    def _send_signal(self, sig: signal.Signals) -> None:
        if not self._exit_code.done():
            with suppress(ProcessLookupError):
                os.kill(self.pid, sig)


class _PipeProtocol(asyncio.StreamReaderProtocol):
    """Closes the pipe at the end of the output. uvloop would leave it open for writing."""

    def eof_received(self) -> bool:
        super().eof_received()
        return False


class ForkServer:
    """One fork server and its children. A fork server that dies is replaced at the next start."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._reader_task: asyncio.Task[None] | None = None
        self._start_lock = asyncio.Lock()
        self._ready: asyncio.Future[None] | None = None
        self._started_pid: asyncio.Future[int] | None = None
        self._exit_codes: dict[int, asyncio.Future[int]] = {}

    async def ensure_running(self) -> None:
        """Start the fork server and wait until it has imported everything."""
        if self._process is None or self._process.poll() is not None:
            await self._spawn()
        assert self._ready is not None
        await self._ready

    async def start_process(self, folder: Path, phase: str, memory_bytes: int | None = None) -> TrainingProcess:
        """Fork a child for the run in ``folder``.

        ``phase`` is a key of ``jobs.runner.forkserver.PHASES``. ``memory_bytes`` limits the memory
        that the child may write to.
        """
        async with self._start_lock:
            await self.ensure_running()
            assert self._channel is not None
            loop = asyncio.get_running_loop()
            self._started_pid = loop.create_future()
            read_end, write_end = os.pipe()
            with (folder / "stderr.log").open("ab") as errors:
                request = {"folder": str(folder), "phase": phase, "memory": memory_bytes}
                socket.send_fds(self._channel, [json.dumps(request).encode()], [write_end, errors.fileno()])
            os.close(write_end)
            pid = await self._started_pid
            exit_code = self._exit_codes.setdefault(pid, loop.create_future())
        reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
        await loop.connect_read_pipe(lambda: _PipeProtocol(reader), os.fdopen(read_end, "rb"))
        return TrainingProcess(pid, reader, exit_code)

    async def close(self) -> None:
        """Stop the fork server. It exits when its socket closes, and its children die with it."""
        if self._reader_task:
            self._reader_task.cancel()
        if self._channel:
            self._channel.close()
        if self._process:
            await asyncio.to_thread(self._process.wait)

    async def _spawn(self) -> None:
        if self._channel:
            self._channel.close()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        command = [sys.executable, "-m", "jobs.runner.forkserver", str(theirs.fileno()), str(os.getpid())]
        # Popen does not block. asyncio's subprocesses would tie the process to a child watcher.
        self._process = subprocess.Popen(  # noqa: ASYNC220
            command,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env=build_training_environment(self._settings),
        )
        theirs.close()
        self._channel = ours
        self._ready = asyncio.get_running_loop().create_future()
        self._reader_task = asyncio.create_task(self._read_messages(ours))

    async def _read_messages(self, channel: socket.socket) -> None:
        loop, rest = asyncio.get_running_loop(), b""
        while data := await loop.sock_recv(channel, 65536):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._handle_message(json.loads(line))
        self._handle_exit()

    def _handle_message(self, message: dict[str, Any]) -> None:
        assert self._ready is not None
        match message:
            case {"ready": int(pid)}:
                log.info("✓ fork server %d has imported torch, transformers and peft", pid)
                self._ready.set_result(None)
            case {"started": int(pid)}:
                assert self._started_pid is not None
                self._started_pid.set_result(pid)
            case {"exited": int(pid), "code": int(code)}:
                # A child may end before start_process resumes and registers its future.
                self._exit_codes.setdefault(pid, asyncio.get_running_loop().create_future()).set_result(code)

    def _handle_exit(self) -> None:
        log.error("! the fork server died, and its children with it")
        pending: list[asyncio.Future[Any]] = [f for f in (self._ready, self._started_pid) if f is not None]
        for future in pending:
            if not future.done():
                future.set_exception(ChildProcessError("the fork server died"))
        for exit_code in self._exit_codes.values():
            if not exit_code.done():
                exit_code.set_result(-int(signal.SIGKILL))
