"""Monitoring of processes that run normally, print other output, stall or ignore a stop."""

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
from jobs.runner.forkserver_client import TrainingProcess
from jobs.runner.monitor import ProcessMonitor, monitor
from jobs.runner.scratch import create_scratch_folder, sweep
from storage.settings import Settings
from training import run_events

PRELUDE = "import signal, sys, time\ndef say(text): print(text, flush=True)\n"
STOPPED_LINE = run_events.dump_event(run_events.Stopped(step=7))
METRICS_LINE = run_events.dump_event(
    run_events.Metrics(step=1, total_steps=9, epoch=0.1, learning_rate=0.1, train_loss=1.0, tokens=8)
)


def build_settings(stall_seconds: float, grace_seconds: float, flush_seconds: float = 0) -> Settings:
    return Settings(
        stall_seconds=stall_seconds, cancel_grace_seconds=grace_seconds, progress_flush_seconds=flush_seconds
    )


@asynccontextmanager
async def spawn_child(code: str) -> AsyncIterator[TrainingProcess]:
    """Run a Python process in place of a forked run."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PRELUDE + code, stdout=asyncio.subprocess.PIPE, limit=8 << 20
    )
    assert process.stdout is not None
    exit_code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait() -> None:
        exit_code.set_result(await process.wait())

    wait_task = asyncio.create_task(wait())
    yield TrainingProcess(process.pid, process.stdout, exit_code)
    await wait_task


async def collect_events(process_monitor: ProcessMonitor) -> list[run_events.RunEvent]:
    return [event async for batch in process_monitor.read_batches() for event in batch]


@pytest.mark.anyio
async def test_events_come_in_order_and_other_output_is_left_out() -> None:
    code = f"say({STOPPED_LINE!r}); say('hello from a library'); say('{{}}'); say({STOPPED_LINE!r})"
    async with (
        spawn_child(code) as process,
        monitor(process, Lease(), asyncio.Event(), build_settings(10, 1)) as process_monitor,
    ):
        assert await collect_events(process_monitor) == [run_events.Stopped(step=7)] * 2
        assert await process.wait() == 0


@pytest.mark.anyio
async def test_steps_are_reported_together_and_the_end_immediately() -> None:
    code = (
        f"say({METRICS_LINE!r}); [(say({METRICS_LINE!r}), time.sleep(0.05)) for _ in range(6)]; "
        f"say({STOPPED_LINE!r}); time.sleep(60)"
    )
    async with (
        spawn_child(code) as process,
        monitor(process, Lease(), asyncio.Event(), build_settings(100, 1, flush_seconds=30)) as process_monitor,
    ):
        batches = process_monitor.read_batches()
        first = await anext(batches)
        rest = await asyncio.wait_for(anext(batches), 20)
        assert len(first) + len(rest) == 8
        assert rest[-1] == run_events.Stopped(step=7)
        process.kill()
        assert [batch async for batch in batches] == []


@pytest.mark.anyio
async def test_a_child_that_prints_nothing_is_killed() -> None:
    async with (
        spawn_child("time.sleep(60)") as process,
        monitor(process, Lease(), asyncio.Event(), build_settings(0.3, 1)) as process_monitor,
    ):
        assert await collect_events(process_monitor) == []
        assert await process.wait() == -signal.SIGKILL
        assert process_monitor.stalled


@pytest.mark.anyio
async def test_a_child_that_prints_is_not_killed() -> None:
    code = f"for _ in range(8): say({STOPPED_LINE!r}); time.sleep(0.1)"
    async with (
        spawn_child(code) as process,
        monitor(process, Lease(), asyncio.Event(), build_settings(0.5, 1)) as process_monitor,
    ):
        assert len(await collect_events(process_monitor)) == 8
        assert not process_monitor.stalled


def build_phase_line(max_silence_seconds: float) -> str:
    return run_events.dump_event(
        run_events.PhaseProgress(phase="training", done=1, total=9, max_silence_seconds=max_silence_seconds)
    )


@pytest.mark.anyio
async def test_a_phase_with_long_units_may_be_silent_for_longer() -> None:
    code = f"say({build_phase_line(30)!r}); time.sleep(1.5); say({STOPPED_LINE!r})"
    async with (
        spawn_child(code) as process,
        monitor(process, Lease(), asyncio.Event(), build_settings(0.7, 1)) as process_monitor,
    ):
        events = await collect_events(process_monitor)
        assert events[-1] == run_events.Stopped(step=7)
        assert not process_monitor.stalled


@pytest.mark.anyio
async def test_a_hang_in_a_phase_is_killed() -> None:
    code = f"say({build_phase_line(30)!r}); say({build_phase_line(0)!r}); time.sleep(60)"
    async with (
        spawn_child(code) as process,
        monitor(process, Lease(), asyncio.Event(), build_settings(0.7, 1)) as process_monitor,
    ):
        assert len(await collect_events(process_monitor)) == 2
        assert await process.wait() == -signal.SIGKILL
        assert process_monitor.stalled
        assert process_monitor.max_silence_seconds == 0.7


@pytest.mark.anyio
async def test_a_stop_is_requested_first() -> None:
    code = f"signal.signal(15, lambda *_: (say({STOPPED_LINE!r}), sys.exit(0))); say({STOPPED_LINE!r}); time.sleep(60)"
    stop_event = asyncio.Event()
    async with (
        spawn_child(code) as process,
        monitor(process, Lease(), stop_event, build_settings(10, 1)) as process_monitor,
    ):
        batches = process_monitor.read_batches()
        await anext(batches)
        stop_event.set()
        assert [event async for batch in batches for event in batch] == [run_events.Stopped(step=7)]
        assert await process.wait() == 0


@pytest.mark.parametrize("lost", [True, False])
@pytest.mark.anyio
async def test_a_child_that_ignores_a_cancel_is_killed(lost: bool) -> None:
    code = f"signal.signal(15, signal.SIG_IGN); say({STOPPED_LINE!r}); time.sleep(60)"
    lease = Lease()
    async with (
        spawn_child(code) as process,
        monitor(process, lease, asyncio.Event(), build_settings(10, 0.2)) as process_monitor,
    ):
        batches = process_monitor.read_batches()
        await anext(batches)
        (lease.mark_lost if lost else lease.mark_cancelled)()
        assert [event async for batch in batches for event in batch] == []
        assert await process.wait() == -signal.SIGKILL


@pytest.mark.anyio
async def test_leaving_the_block_leaves_no_child() -> None:
    async with spawn_child("time.sleep(60)") as process:
        async with monitor(process, Lease(), asyncio.Event(), build_settings(10, 1)):
            pass
        assert await process.wait() == -signal.SIGKILL


CRASHING_SCRIPT = """
import os, pathlib, sys
from jobs.runner.scratch import create_scratch_folder
with create_scratch_folder(pathlib.Path(sys.argv[1])) as folder:
    (folder / "data").write_text("x")
    os._exit(1)
"""


def test_a_dead_workers_scratch_is_swept_and_a_living_ones_is_not(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", CRASHING_SCRIPT, str(tmp_path)], check=False)
    [abandoned] = tmp_path.iterdir()
    with create_scratch_folder(tmp_path) as folder:
        assert not abandoned.exists()
        sweep(tmp_path)
        assert folder.exists()
    assert list(tmp_path.iterdir()) == []
