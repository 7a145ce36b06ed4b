"""Jobs: create, wait, control and follow."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

import luthier
from luthier import AsyncLuthier, Luthier, Quiet
from luthier._display import BarDisplay, LineDisplay, choose_display, format_sparkline
from tests.api.stack import Stack
from tests.sdk.faulty_proxy import run_faulty_proxy
from tests.sdk.simulated_worker import add_metrics, run_worker

pytestmark = pytest.mark.integration

ROWS = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n' * 10


class Terminal(io.StringIO):
    """Text stream that reports to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(ROWS)
    return path


def create_client(stack: Stack) -> Luthier:
    return Luthier(base_url=stack.url, api_key=stack.tenant.key)


def test_a_job_from_a_path_to_a_completion(fresh_stack: Stack, rows: Path) -> None:
    with run_worker(fresh_stack), create_client(fresh_stack) as client:
        job = client.jobs.create(
            model="starter", training_file=rows, suffix="mine", seed=7, metadata={"who": "me"}, update={"type": "lora"}
        )
        assert not job.ended
        assert client.files.retrieve(job.training_file).filename == "rows.jsonl"
        assert job.wait(poll=0.02, display=Quiet()) is job
        assert (job.status, job.seed, job.user_provided_suffix) == ("succeeded", 7, "mine")
        assert job.fine_tuned_model is not None
        completion = client.chat(job.fine_tuned_model, "Hello!", max_tokens=5)
        assert completion.choices[0].message.content == "You said Hello!."
        assert [listed.id for listed in client.jobs.list(metadata={"who": "me"})] == [job.id]
        assert not list(client.jobs.list(metadata={"who": "you"}))


def test_a_lost_response_creates_one_job(fresh_stack: Stack) -> None:
    with (
        run_faulty_proxy(fresh_stack.url) as server,
        Luthier(base_url=server.url, api_key=fresh_stack.tenant.key) as client,
    ):
        file = client.files.upload(ROWS)
        server.faults = ["lose", "lose"]
        job = client.jobs.create(model="starter", training_file=file.id)
        assert [listed.id for listed in client.jobs.list()] == [job.id]


def test_a_failed_job_raises_its_error(fresh_stack: Stack, rows: Path) -> None:
    with run_worker(fresh_stack, fail=True), create_client(fresh_stack) as client:
        job = client.jobs.create(model="starter", training_file=rows)
        with pytest.raises(luthier.JobFailedError, match="Give it 10 rows") as raised:
            job.wait(poll=0.02, display=Quiet())
    assert raised.value.job is job
    assert raised.value.code == "too_few_rows"


def test_waiting_may_end_before_the_job(fresh_stack: Stack, rows: Path) -> None:
    with create_client(fresh_stack) as client:
        job = client.jobs.create(model="starter", training_file=rows)
        with pytest.raises(luthier.WaitTimeoutError, match="it is still"):
            job.wait(timeout=0.1, poll=0.02, display=Quiet())
        assert job.cancel() is job
        assert (job.status, job.ended) == ("cancelled", True)
        with pytest.raises(luthier.JobFailedError, match="cancelled"):
            job.wait(display=Quiet())


def test_waiting_survives_a_server_outage(fresh_stack: Stack, rows: Path) -> None:
    with (
        run_faulty_proxy(fresh_stack.url) as server,
        Luthier(base_url=server.url, api_key=fresh_stack.tenant.key, max_retries=0) as client,
    ):
        job = client.jobs.create(model="starter", training_file=rows)
        server.faults = ["refuse"] * 5
        with run_worker(fresh_stack):
            assert job.wait(poll=0.02, display=Quiet()).status == "succeeded"


def test_a_terminal_gets_a_progress_bar(fresh_stack: Stack, rows: Path) -> None:
    out = Terminal()
    display = choose_display(out)
    assert isinstance(display, BarDisplay)
    with run_worker(fresh_stack), create_client(fresh_stack) as client:
        client.jobs.create(model="starter", training_file=rows).wait(poll=0.01, display=display)
    output = out.getvalue()
    assert output.count("\n") == 1
    assert "4/4 steps" in output
    assert "━" * 24 in output
    assert "loss 0.500 █▃▁▁" in output


def test_a_log_gets_a_line_per_state(fresh_stack: Stack, rows: Path) -> None:
    out = io.StringIO()
    display = choose_display(out)
    assert isinstance(display, LineDisplay)
    with run_worker(fresh_stack), create_client(fresh_stack) as client:
        job = client.jobs.create(model="starter", training_file=rows).wait(poll=0.01, display=display)
    lines = out.getvalue().splitlines()
    assert [line.split()[:2] for line in lines][-2:] == [[job.id, "running"], [job.id, "succeeded"]]
    assert len(lines) <= 4
    assert "\x1b" not in out.getvalue()


def test_the_display_does_not_write_to_stdout(
    fresh_stack: Stack, rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with run_worker(fresh_stack), create_client(fresh_stack) as client:
        job = client.jobs.create(model="starter", training_file=rows).wait(poll=0.02)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert job.id in captured.err


def test_events_and_checkpoints(fresh_stack: Stack) -> None:
    job = fresh_stack.insert_job(state="succeeded")
    for seq in range(1, 4):
        fresh_stack.insert_event(job, seq, type="metrics", data={"step": seq, "train_loss": 1.0})
    checkpoint = fresh_stack.insert_checkpoint(job, 20)
    with create_client(fresh_stack) as client:
        retrieved = client.jobs.retrieve(job.id)
        events = list(retrieved.events())
        assert [event.message for event in events] == ["event 3", "event 2", "event 1"]
        assert events[0].data is not None
        assert events[0].data["train_loss"] == 1.0
        checkpoints = list(retrieved.checkpoints())
    assert [(listed.id, listed.step_number) for listed in checkpoints] == [(checkpoint.id, 20)]


def test_metrics_page_by_page(fresh_stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    job = fresh_stack.insert_job(state="succeeded")

    async def add(session: AsyncSession) -> None:
        for step in range(1, 12):
            add_metrics(session, job, step)

    fresh_stack.run_in_session(add)
    monkeypatch.setattr("luthier._sync.jobs.METRICS_PAGE_SIZE", 4)
    with create_client(fresh_stack) as client:
        retrieved = client.jobs.retrieve(job.id)
        assert [step["step"] for step in retrieved.metrics()] == list(range(1, 12))
        assert [step["step"] for step in client.jobs.metrics(job.id, step_from=3, step_to=5)] == [3, 4, 5]
        assert retrieved.metrics()[3]["train_loss"] == 0.5


def test_a_metrics_stream_reconnects(fresh_stack: Stack, rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier._sync.streams.RECONNECT_DELAY_SECONDS", 0.01)
    with (
        run_faulty_proxy(fresh_stack.url) as server,
        Luthier(base_url=server.url, api_key=fresh_stack.tenant.key) as client,
    ):
        job = client.jobs.create(model="starter", training_file=rows)
        with run_worker(fresh_stack):
            server.faults = ["cut", "cut", "refuse"]
            assert [step["step"] for step in job.stream_metrics()] == [1, 2, 3, 4]
        last_ids = [headers.get("last-event-id") for _, path, headers in server.requests if path.endswith("/stream")]
    assert last_ids[0] is None
    assert len(last_ids) == 4
    assert int(last_ids[-1] or 0) > 100


def test_a_stream_without_progress_is_given_up(fresh_stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier._sync.streams.RECONNECT_DELAY_SECONDS", 0.01)
    job = fresh_stack.insert_job(state="succeeded")
    with (
        run_faulty_proxy(fresh_stack.url) as server,
        Luthier(base_url=server.url, api_key=fresh_stack.tenant.key) as client,
    ):
        server.faults = ["cut"] * 9
        with pytest.raises(luthier.APIConnectionError):
            list(client.jobs.stream_metrics(job.id))
        assert len(server.requests) == 3


def test_a_job_is_paused_resumed_cloned(fresh_stack: Stack, rows: Path) -> None:
    with create_client(fresh_stack) as client:
        job = client.jobs.create(model="starter", training_file=rows, suffix="mine", auto_start=False)
        assert job.pause().state == "paused"
        assert job.resume().status in {"validating_files", "queued"}
        assert job.start() is job
        copy = job.clone(suffix="other", seed=5)
        assert (copy.user_provided_suffix, copy.seed, copy.model) == ("other", 5, "starter")
        assert copy.training_file == job.training_file


def test_the_async_client_waits_too(fresh_stack: Stack, rows: Path) -> None:
    async def run() -> str:
        async with AsyncLuthier(base_url=fresh_stack.url, api_key=fresh_stack.tenant.key) as client:
            jobs = await asyncio.gather(*(client.jobs.create(model="starter", training_file=rows) for _ in range(3)))
            finished = await asyncio.gather(*(job.wait(poll=0.02, display=Quiet()) for job in jobs))
            assert [job.status for job in finished] == ["succeeded"] * 3
            assert [step["step"] async for step in finished[0].stream_metrics()] == [1, 2, 3, 4]
            return "".join([text async for text in client.chat_stream(finished[0].fine_tuned_model, "Hello")])

    with run_worker(fresh_stack):
        assert asyncio.run(run()) == "You said Hello"


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [
        ([], 8, ""),
        ([1.0], 8, "▁"),
        ([2.0, 2.0], 8, "▁▁"),
        ([1.0, 2.0, 3.0], 8, "▁▄█"),
        ([4.0, 3.0, 2.0, 1.0], 2, "█▁"),
        ([float(n) for n in range(100)], 8, "▁▂▃▄▅▆▇█"),
    ],
)
def test_a_sparkline(values: list[float], width: int, line: str) -> None:
    assert format_sparkline(values, width) == line
