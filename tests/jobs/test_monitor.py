"""Following a child process that behaves, babbles, stalls or will not stop."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from jobs.lifecycle.lease import Lease
from jobs.runner.forkserver_client import Child
from jobs.runner.monitor import Followed, followed
from jobs.runner.scratch import scratch, sweep
from storage.settings import Settings
from training import run_events

PRELUDE = "import signal, sys, time\ndef say(text): print(text, flush=True)\n"
STEP = run_events.dump(run_events.Stopped(step=7))
FIRST = run_events.dump(
    run_events.Metrics(step=1, total_steps=9, epoch=0.1, learning_rate=0.1, train_loss=1.0, tokens=8)
)


def limits(stall: float, grace: float, gather: float = 0) -> Settings:
    return Settings(stall_seconds=stall, cancel_grace_seconds=grace, report_seconds=gather)


@asynccontextmanager
async def child(code: str) -> AsyncIterator[Child]:
    """A real process in place of a forked run."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PRELUDE + code, stdout=asyncio.subprocess.PIPE, limit=8 << 20
    )
    assert process.stdout is not None
    exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait() -> None:
        exited.set_result(await process.wait())

    waiting = asyncio.create_task(wait())
    yield Child(process.pid, process.stdout, exited)
    await waiting


async def follow(run: Followed) -> list[run_events.Line]:
    return [line async for batch in run.batches() for line in batch]


@pytest.mark.anyio
async def test_lines_come_in_order_and_other_words_are_left_out() -> None:
    code = f"say({STEP!r}); say('hello from a library'); say('{{}}'); say({STEP!r})"
    async with child(code) as one, followed(one, Lease(), asyncio.Event(), limits(10, 1)) as run:
        assert await follow(run) == [run_events.Stopped(step=7)] * 2
        assert await one.wait() == 0


@pytest.mark.anyio
async def test_steps_are_told_together_and_the_end_at_once() -> None:
    code = f"say({FIRST!r}); [(say({FIRST!r}), time.sleep(0.05)) for _ in range(6)]; say({STEP!r}); time.sleep(60)"
    async with child(code) as one, followed(one, Lease(), asyncio.Event(), limits(100, 1, gather=30)) as run:
        lines = run.batches()
        first = await anext(lines)
        rest = await asyncio.wait_for(anext(lines), 20)
        assert len(first) + len(rest) == 8
        assert rest[-1] == run_events.Stopped(step=7)
        one.kill()
        assert [batch async for batch in lines] == []


@pytest.mark.anyio
async def test_a_child_that_says_nothing_is_killed() -> None:
    async with child("time.sleep(60)") as one, followed(one, Lease(), asyncio.Event(), limits(0.3, 1)) as run:
        assert await follow(run) == []
        assert await one.wait() == -signal.SIGKILL
        assert run.stalled


@pytest.mark.anyio
async def test_a_child_that_speaks_is_not() -> None:
    code = f"for _ in range(8): say({STEP!r}); time.sleep(0.1)"
    async with child(code) as one, followed(one, Lease(), asyncio.Event(), limits(0.5, 1)) as run:
        assert len(await follow(run)) == 8
        assert not run.stalled


@pytest.mark.anyio
async def test_a_stop_is_asked_for_first() -> None:
    code = f"signal.signal(15, lambda *_: (say({STEP!r}), sys.exit(0))); say({STEP!r}); time.sleep(60)"
    stopping = asyncio.Event()
    async with child(code) as one, followed(one, Lease(), stopping, limits(10, 1)) as run:
        lines = run.batches()
        await anext(lines)
        stopping.set()
        assert [line async for batch in lines for line in batch] == [run_events.Stopped(step=7)]
        assert await one.wait() == 0


@pytest.mark.parametrize("lost", [True, False])
@pytest.mark.anyio
async def test_a_child_that_ignores_a_cancel_is_killed(lost: bool) -> None:
    code = f"signal.signal(15, signal.SIG_IGN); say({STEP!r}); time.sleep(60)"
    lease = Lease()
    async with child(code) as one, followed(one, lease, asyncio.Event(), limits(10, 0.2)) as run:
        lines = run.batches()
        await anext(lines)
        (lease.lose if lost else lease.cancel)()
        assert [line async for batch in lines for line in batch] == []
        assert await one.wait() == -signal.SIGKILL


@pytest.mark.anyio
async def test_leaving_the_block_leaves_no_child() -> None:
    async with child("time.sleep(60)") as one:
        async with followed(one, Lease(), asyncio.Event(), limits(10, 1)):
            pass
        assert await one.wait() == -signal.SIGKILL


DIES = """
import os, pathlib, sys
from jobs.scratch import scratch
with scratch(pathlib.Path(sys.argv[1])) as folder:
    (folder / "data").write_text("x")
    os._exit(1)
"""


def test_a_dead_workers_scratch_is_swept_and_a_living_ones_is_not(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", DIES, str(tmp_path)], check=False)
    [left] = tmp_path.iterdir()
    with scratch(tmp_path) as mine:
        assert not left.exists()
        sweep(tmp_path)
        assert mine.exists()
    assert list(tmp_path.iterdir()) == []
