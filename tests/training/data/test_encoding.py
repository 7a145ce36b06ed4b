"""Tests for encoded files: stored = in memory, several processes = one, and the cache."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.tiny import build_byte_tokenizer
from tests.training.run_folders import CHAT_ROWS, LORA, create_run_folder, run_training, to_jsonl
from tests.training.sample_rows import SAMPLES
from training.data import dataset, encoding
from training.data.dataset import Dataset, DatasetReader
from training.data.encoding import RowEncoder
from training.data.encoding_key import compute_key
from training.data.example_cache import LOCK_FILE, STAGING_PREFIX, ExampleCache
from training.progress import Report, ignore_progress
from training.run_events import Result
from training.tasks import TASKS_BY_METHOD
from training.tasks.chat import Chat
from training.tasks.completion import Completion

pytestmark = pytest.mark.integration

STORABLE_TASKS = [
    (method, name) for method, tasks in TASKS_BY_METHOD.items() for name, task in tasks.items() if task.example_type
]
ENCODER = RowEncoder(Chat(), build_byte_tokenizer(), {}, 200)


def describe(data: Dataset) -> dict[str, Any]:
    """Return every fact of a dataset."""
    names = ("num_rows", "num_examples", "num_tokens", "longest_row_tokens", "truncated_rows", "split_rows")
    facts = {name: getattr(data, name) for name in (*names, "split_parts", "error_count", "errors")}
    return {**facts, "examples": list(data.examples), "lines": list(data.lines)}


def read(
    path: Path, cache: ExampleCache | None, encoder: RowEncoder = ENCODER, report: Report = ignore_progress
) -> Dataset:
    return DatasetReader(encoder, report, cache).read(path, "training_file")


def write_rows(path: Path, rows: list[Any] = CHAT_ROWS) -> Path:
    path.write_text(to_jsonl(rows))
    return path


def list_entries(cache: ExampleCache) -> list[Path]:
    return sorted(cache.directory.iterdir())


@pytest.fixture
def cache(tmp_path: Path) -> ExampleCache:
    return ExampleCache(tmp_path / "cache")


@pytest.fixture
def encodes_nothing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function after which encoding a file fails the test."""

    def fail(*arguments: Any) -> Any:
        raise AssertionError("the file was encoded again")

    return lambda: monkeypatch.setattr(dataset, "encode_file", fail)


@pytest.mark.parametrize(("method", "name"), STORABLE_TASKS)
def test_stored_examples_equal_those_in_memory(
    tmp_path: Path,
    cache: ExampleCache,
    method: str,
    name: str,
    request: pytest.FixtureRequest,
    encodes_nothing: Any,
) -> None:
    sample, task = SAMPLES[method, name], TASKS_BY_METHOD[method][name]
    path = write_rows(tmp_path / "data", sample.rows)
    base = request.getfixturevalue(sample.base_fixture)
    encoder = RowEncoder(task, task.load_processor(base), {}, 40)
    in_memory, stored = read(path, None, encoder), read(path, cache, encoder)
    encodes_nothing()
    # The encoder of another run: it has the same key.
    read_again = read(path, cache, RowEncoder(task, task.load_processor(base), {}, 40))
    assert describe(stored) == describe(in_memory)
    assert describe(read_again) == describe(in_memory)
    assert len(in_memory.examples) >= len(sample.rows) > 0


def test_a_run_with_a_filled_cache_encodes_nothing_and_gives_the_same_bytes(
    tmp_path: Path, chat_base: Path, encodes_nothing: Any
) -> None:
    def run(name: str) -> Result:
        folder = create_run_folder(tmp_path / name, chat_base, "chat", LORA, cache=tmp_path / "cache")
        [result] = run_training(folder).of_type(Result)
        return result

    first = run("first")
    encodes_nothing()
    assert run("second") == first
    folder = create_run_folder(tmp_path / "alone", chat_base, "chat", LORA)
    with pytest.raises(AssertionError, match="encoded again"):
        run_training(folder)


@pytest.mark.parametrize(
    ("lead", "invalid_lines"),
    [(b"", []), (b"\xef\xbb\xbf\n\n", [6, 193])],
    ids=["plain", "bom, blank lines and errors"],
)
def test_two_processes_encode_like_one(
    tmp_path: Path, chat_base: Path, lead: bytes, invalid_lines: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "MIN_SECTION_BYTES", 1000)
    rows: list[Any] = [{"text": f"row {number} " + "ab " * (number % 90)} for number in range(200)]
    for line in invalid_lines:
        rows[line - lead.count(b"\n") - 1] = {"text": 1}
    folder = create_run_folder(tmp_path / "run", chat_base, "completion", LORA, training=rows)
    path = folder / "training.data"
    path.write_bytes(lead + path.read_bytes())
    encoder = RowEncoder(Completion(), Completion().load_processor(chat_base), {}, 100)
    alone, together = (
        DatasetReader(encoder, ignore_progress, ExampleCache(folder / str(processes)), processes=processes).read(
            path, "training_file"
        )
        for processes in (1, 2)
    )
    assert describe(together) == describe(alone)
    assert alone.split_rows > 0
    assert [error.line for error in alone.errors] == invalid_lines
    assert len(list((folder / "2").rglob("records"))) == (0 if invalid_lines else 2)


def test_a_stop_request_ends_all_processes_and_leaves_nothing(
    tmp_path: Path, chat_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StopReading(Exception):
        pass

    def stop(done: float, total: float) -> None:
        if psutil.Process().children():
            raise StopReading

    monkeypatch.setattr(encoding, "MIN_SECTION_BYTES", 1000)
    folder = create_run_folder(tmp_path / "run", chat_base, "chat", LORA, training=CHAT_ROWS * 50)
    cache = ExampleCache(tmp_path / "cache")
    with pytest.raises(StopReading):
        DatasetReader(ENCODER, stop, cache, processes=2).read(folder / "training.data", "training_file")
    assert list_entries(cache) == []
    assert psutil.Process().children() == []


def test_the_key_depends_on_all_that_the_examples_depend_on(tmp_path: Path) -> None:
    path, other_path = write_rows(tmp_path / "a"), write_rows(tmp_path / "b", CHAT_ROWS[1:])
    tokenizer = build_byte_tokenizer()
    tokenizer.chat_template = tokenizer.chat_template.replace("<|end|>", "<|pad|>")
    same = RowEncoder(Chat(), build_byte_tokenizer(), {}, 200)
    keys = [
        ENCODER.compute_key(path, ignore_progress),
        ENCODER.compute_key(other_path, ignore_progress),
        RowEncoder(Chat(), tokenizer, {}, 200).compute_key(path, ignore_progress),
        RowEncoder(Chat(), build_byte_tokenizer(), {}, 199).compute_key(path, ignore_progress),
        RowEncoder(Chat().with_options(True), build_byte_tokenizer(), {}, 200).compute_key(path, ignore_progress),
        RowEncoder(Chat(), build_byte_tokenizer(), {"messages": "chat"}, 200).compute_key(path, ignore_progress),
        RowEncoder(Completion(), build_byte_tokenizer(), {}, 200).compute_key(path, ignore_progress),
        compute_key(path, {}, Chat(), "another tokenizer", 200, ignore_progress),
    ]
    assert len(set(keys)) == len(keys)
    shutil.copyfile(path, tmp_path / "copy")
    assert same.compute_key(tmp_path / "copy", ignore_progress) == keys[0]


@pytest.mark.parametrize("damage", ["flip", "truncate", "header", "missing"])
def test_a_damaged_entry_is_encoded_again(tmp_path: Path, cache: ExampleCache, damage: str) -> None:
    path = write_rows(tmp_path / "data")
    expected = describe(read(path, cache))
    [entry] = list_entries(cache)
    records = entry / "part-0/records"
    content = records.read_bytes()
    match damage:
        case "flip":
            records.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "truncate":
            records.write_bytes(content[:10])
        case "header":
            (entry / "header.json").write_text('{"key"')
        case "missing":
            records.unlink()
    assert describe(read(path, cache)) == expected
    assert list_entries(cache) == [entry]
    assert records.read_bytes() == content


def test_a_file_with_errors_is_not_stored(tmp_path: Path, cache: ExampleCache) -> None:
    data = read(write_rows(tmp_path / "data", [*CHAT_ROWS, {"messages": []}]), cache)
    assert (data.num_rows, data.error_count, data.errors[0].line) == (10, 1, 11)
    assert list(data.examples) == list(read(write_rows(tmp_path / "valid"), None).examples)
    assert list_entries(cache) == []


def test_entries_that_were_not_used_for_longest_are_evicted(tmp_path: Path) -> None:
    unlimited = ExampleCache(tmp_path / "cache")
    datasets = []
    for number in range(3):
        datasets.append(read(write_rows(tmp_path / f"{number}", CHAT_ROWS[number:]), unlimited))
        for entry in list_entries(unlimited):
            if entry.stat().st_mtime > 10_000:
                os.utime(entry, (1000 + number, 1000 + number))
    sizes = {
        entry: sum(file.stat().st_size for file in entry.rglob("*") if file.is_file())
        for entry in list_entries(unlimited)
    }
    oldest = min(sizes, key=lambda entry: entry.stat().st_mtime)
    # Reading marks it as used.
    read(tmp_path / "0", unlimited)
    second = min(sizes, key=lambda entry: entry.stat().st_mtime)
    assert second != oldest
    limited = ExampleCache(tmp_path / "cache", sum(sizes.values()) - 1)
    limited.evict()
    assert set(list_entries(unlimited)) == set(sizes) - {second}
    ExampleCache(tmp_path / "cache", 0).evict()
    assert list_entries(unlimited) == []
    # Mapped examples outlive their files.
    assert list(datasets[0].examples) == list(read(tmp_path / "0", None).examples)


def test_what_a_dead_writer_left_is_deleted_and_a_living_ones_is_not(tmp_path: Path, cache: ExampleCache) -> None:
    abandoned = cache.directory / f"{STAGING_PREFIX}dead"
    abandoned.mkdir(parents=True)
    (abandoned / LOCK_FILE).touch()
    with cache.stage() as staging:
        read(write_rows(tmp_path / "data"), cache)
        assert staging.exists()
        assert not abandoned.exists()
        with (staging / LOCK_FILE).open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert not staging.exists()


def test_the_first_of_two_writers_of_an_entry_wins(tmp_path: Path, cache: ExampleCache) -> None:
    path = write_rows(tmp_path / "data")
    key = ENCODER.compute_key(path, ignore_progress)
    assert cache.load(key, ignore_progress) is None
    with cache.stage() as staging:
        # Another run encodes the same file at the same time.
        read(path, cache)
        [entry] = [path for path in list_entries(cache) if not path.name.startswith(".")]
        header = (entry / "header.json").read_bytes()
        shutil.copytree(entry / "part-0", staging / "part-0")
        parts = cache.load(key, ignore_progress)
        assert parts is not None
        cache.commit(staging, key, parts)
    assert list_entries(cache) == [entry]
    assert (entry / "header.json").read_bytes() == header
    assert json.loads(header)["key"] == key
