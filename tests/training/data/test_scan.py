"""Tests for scans of large files: all rows are checked, and a sample is encoded."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pytest

from tests.tiny import build_byte_tokenizer
from tests.training.run_folders import LORA, create_run_folder
from training.data.dataset import Dataset, DatasetReader
from training.data.encoding import RowEncoder
from training.data.row_validation import CHUNK_ROWS
from training.data.scan import SamplingPlan
from training.progress import ignore_progress
from training.tasks import TASKS

pytestmark = pytest.mark.integration

ROW_COUNT = 8 * CHUNK_ROWS
SAMPLING_PLAN = SamplingPlan(min_file_bytes=1000, target_bytes=60_000, longest_rows=8)


def build_chat_row(user: str, answer: str = "yes") -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]}


def build_rows() -> list[dict[str, Any]]:
    random = Random(1)
    return [build_chat_row("a" * random.randint(1, 60)) for _ in range(ROW_COUNT)]


def read_dataset(
    folder: Path, rows: list[Any], sampling: SamplingPlan | None, task: str = "chat", max_length: int = 200
) -> Dataset:
    path = folder / "data"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    reader = DatasetReader(
        RowEncoder(TASKS[task], build_byte_tokenizer(), {}, max_length), ignore_progress, sampling=sampling
    )
    return reader.read(path, "training_file")


def test_a_sample_estimates_the_whole_file(tmp_path: Path) -> None:
    rows = build_rows()
    rows[-3] = build_chat_row("b" * 150)
    whole, sampled = read_dataset(tmp_path, rows, None), read_dataset(tmp_path, rows, SAMPLING_PLAN)
    assert whole.num_rows == sampled.num_rows == ROW_COUNT
    assert CHUNK_ROWS <= len(sampled.examples) <= ROW_COUNT // 2
    assert sampled.num_tokens == pytest.approx(whole.num_tokens, rel=0.02)
    # The longest row is found although it is in no encoded chunk.
    assert sampled.longest_row_tokens == whole.longest_row_tokens


@pytest.mark.parametrize("lead", [b"", b"\xef\xbb\xbf\n\n"], ids=["plain", "bom and blank lines"])
def test_several_processes_find_the_same_as_one(tmp_path: Path, chat_base: Path, lead: bytes) -> None:
    rows = build_rows()
    for number, row in (
        (3, {"messages": []}),
        (CHUNK_ROWS * 4, build_chat_row("u", "")),
        (ROW_COUNT - 2, build_chat_row("u" * 900)),
    ):
        rows[number] = row
    folder = create_run_folder(tmp_path / "run", chat_base, "chat", LORA, training=rows)
    path = folder / "training.data"
    path.write_bytes(lead + path.read_bytes() + b"[1]\n")
    datasets = []
    for processes in (1, 3):
        plan = SamplingPlan(min_file_bytes=1000, target_bytes=60_000, longest_rows=8, processes=processes)
        reader = DatasetReader(
            RowEncoder(TASKS["chat"], build_byte_tokenizer(), {}, 200), ignore_progress, sampling=plan
        )
        datasets.append(reader.read(path, "training_file"))
    alone, together = datasets
    assert sorted(map(str, together.errors)) == sorted(map(str, alone.errors))
    assert {error.code for error in alone.errors} == {"empty_content", "too_long", "not_object"}
    assert [data.error_count for data in datasets] == [4, 4]
    assert together.num_rows == alone.num_rows == ROW_COUNT - 3
    assert together.longest_row_tokens == alone.longest_row_tokens


def test_a_stop_request_ends_reading(tmp_path: Path, chat_base: Path) -> None:
    class StopReading(Exception):
        pass

    def stop(done: float, total: float) -> None:
        raise StopReading

    folder = create_run_folder(tmp_path / "run", chat_base, "chat", LORA, training=build_rows())
    reader = DatasetReader(
        RowEncoder(TASKS["chat"], build_byte_tokenizer(), {}, 200),
        stop,
        sampling=SamplingPlan(min_file_bytes=1000, processes=2),
    )
    with pytest.raises(StopReading):
        reader.read(folder / "training.data", "training_file")
    assert not [child for child in psutil.Process().children() if "training.data.scan" in " ".join(child.cmdline())]


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"messages": []}, "empty_content"),
        (build_chat_row("u", ""), "empty_content"),
        (build_chat_row("u" * 900), "too_long"),
    ],
)
def test_an_invalid_row_outside_the_sample_is_found(tmp_path: Path, row: dict[str, Any], code: str) -> None:
    rows = build_rows()
    rows[CHUNK_ROWS + 5] = row
    data = read_dataset(tmp_path, rows, SAMPLING_PLAN)
    [error] = data.errors
    assert (error.code, error.line) == (code, CHUNK_ROWS + 6)
    assert data.num_rows == ROW_COUNT - 1


def test_small_files_and_tasks_that_need_the_full_dataset_are_encoded_completely(tmp_path: Path) -> None:
    assert len(read_dataset(tmp_path, build_rows()[:20], SamplingPlan()).examples) == 20
    labels = [{"text": f"text {number}", "label": str(number % 7)} for number in range(ROW_COUNT)]
    data = read_dataset(tmp_path, labels, SAMPLING_PLAN, "text-classification")
    assert (len(data.examples), data.unencoded) == (ROW_COUNT, 0)


def test_long_rows_come_in_smaller_chunks(tmp_path: Path) -> None:
    long = [build_chat_row("a" * 900_000, "b" * number) for number in range(1, 13)]
    data = read_dataset(
        tmp_path, long, SamplingPlan(min_file_bytes=1000, target_bytes=5 << 20, longest_rows=0), max_length=1_000_000
    )
    assert data.num_rows == 12
    assert 0 < len(data.examples) < 12
