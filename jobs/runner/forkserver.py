"""The fork server: imports torch, transformers and peft once and forks a process for each run.

Importing them takes seconds; a fork takes milliseconds. The fork server runs no tensor operation
and never touches a GPU, so a child inherits no thread pool and no CUDA context. It talks to its
worker over a socket. A request is one JSON line with two file descriptors (the child's stdout and
stderr), a response is one JSON line. The fork server and its children die with the worker.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import selectors
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import torch  # noqa: F401

from jobs.process import die_with_parent
from training import preflight, run

PRELOADED_MODULES = (
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",
    "transformers.models.qwen3.modeling_qwen3",
    "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert",
    "peft.tuners.lora",
)
"""Modules that transformers would import on first use in every child."""

PHASES = {
    "validate": run.validate,
    "train": run.train,
    "preflight": preflight.preflight,
    "preview": preflight.preview,
    "device": preflight.report_device,
}


def main(channel: socket.socket, parent_pid: int) -> None:
    """Serve until the worker closes its end of the socket."""
    die_with_parent(parent_pid)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The worker handles a stop: it has each child save, then closes the socket.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    selector = selectors.DefaultSelector()
    selector.register(channel, selectors.EVENT_READ)
    selector.register(wake_read, selectors.EVENT_READ)
    _send(channel, {"ready": os.getpid()})
    while True:
        for key, _ in selector.select():
            if key.fileobj is channel:
                line, fds, _, _ = socket.recv_fds(channel, 65536, 2)
                if not line:
                    return
                _send(channel, {"started": _fork(json.loads(line), fds, channel)})
            else:
                os.read(wake_read, 4096)
                _reap_children(channel)


def _fork(request: dict[str, Any], fds: list[int], channel: socket.socket) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        channel.close()
        _run_child(request, fds, parent)
    for fd in fds:
        os.close(fd)
    return pid


def _run_child(request: dict[str, Any], fds: list[int], parent_pid: int) -> None:
    """Run the phase in the forked child. Never returns."""
    code = 70
    try:
        signal.set_wakeup_fd(-1)
        for sig in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(sig, signal.SIG_DFL)
        die_with_parent(parent_pid)
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if request["memory"]:
            limit_memory(request["memory"])
        for source, target in zip(fds, (1, 2), strict=True):
            os.dup2(source, target)
            os.close(source)
        os.chdir(request["folder"])
        code = run.main(Path(request["folder"]), PHASES[request["phase"]])
    finally:
        # A forked process must not run the exit handlers of its parent.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def limit_memory(limit_bytes: int) -> None:
    """Limit the memory that this process may write to: an allocation beyond it fails.

    A limit of the address space (``RLIMIT_AS``) would also count what is only reserved. CUDA and
    thread stacks reserve far more than the machine has.
    """
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))


def _reap_children(channel: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _send(channel, {"exited": pid, "code": os.waitstatus_to_exitcode(status)})


def _send(channel: socket.socket, message: dict[str, Any]) -> None:
    channel.sendall(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    for name in PRELOADED_MODULES:
        importlib.import_module(name)
    main(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
