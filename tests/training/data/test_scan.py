"""A large file is checked row by row, and encoded by sample until it is trained on."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pytest

from tests.tiny import byte_tokenizer
from tests.training.run_folders import LORA, make_folder
from training.data.dataset import Dataset, Reader
from training.data.row_validation import CHUNK
from training.data.scan import Sample
from training.tasks import TASKS

ROWS = 8 * CHUNK
SAMPLE = Sample(over=1000, aim=60_000, longest=8)


def chat(user: str, answer: str = "yes") -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]}


def rows() -> list[dict[str, Any]]:
    random = Random(1)
    return [chat("a" * random.randint(1, 60)) for _ in range(ROWS)]


def read(folder: Path, rows: list[Any], sample: Sample | None, task: str = "chat", max_length: int = 200) -> Dataset:
    path = folder / "data"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    reader = Reader(TASKS[task], byte_tokenizer(), {}, max_length, lambda: None, sample)
    return reader.read(path, "training_file")


def test_a_sample_tells_what_the_whole_is(tmp_path: Path) -> None:
    made = rows()
    made[-3] = chat("b" * 150)
    whole, sampled = read(tmp_path, made, None), read(tmp_path, made, SAMPLE)
    assert whole.rows == sampled.rows == ROWS
    assert CHUNK <= len(sampled.examples) <= ROWS // 2
    assert sampled.tokens == pytest.approx(whole.tokens, rel=0.02)
    # The longest row is in no encoded chunk, and found all the same.
    assert sampled.longest == whole.longest


@pytest.mark.parametrize("lead", [b"", b"\xef\xbb\xbf\n\n"], ids=["plain", "bom and blank lines"])
def test_several_processes_find_what_one_finds(tmp_path: Path, chat_base: Path, lead: bytes) -> None:
    made = rows()
    for number, bad in ((3, {"messages": []}), (CHUNK * 4, chat("u", "")), (ROWS - 2, chat("u" * 900))):
        made[number] = bad
    folder = make_folder(tmp_path / "run", chat_base, "chat", LORA, training=made)
    path = folder / "training.data"
    path.write_bytes(lead + path.read_bytes() + b"[1]\n")
    found = []
    for processes in (1, 3):
        sample = Sample(over=1000, aim=60_000, longest=8, processes=processes)
        reader = Reader(TASKS["chat"], byte_tokenizer(), {}, 200, lambda: None, sample)
        found.append(reader.read(path, "training_file"))
    alone, together = found
    assert sorted(map(str, together.faults)) == sorted(map(str, alone.faults))
    assert {fault.code for fault in alone.faults} == {"empty_content", "too_long", "not_object"}
    assert [data.fault_count for data in found] == [4, 4]
    assert together.rows == alone.rows == ROWS - 3
    assert together.longest == alone.longest


def test_whoever_is_asked_to_leave_leaves(tmp_path: Path, chat_base: Path) -> None:
    class Left(Exception):
        pass

    def leave() -> None:
        raise Left

    folder = make_folder(tmp_path / "run", chat_base, "chat", LORA, training=rows())
    reader = Reader(TASKS["chat"], byte_tokenizer(), {}, 200, leave, Sample(over=1000, processes=2))
    with pytest.raises(Left):
        reader.read(folder / "training.data", "training_file")
    assert not [child for child in psutil.Process().children() if "training.data.scan" in " ".join(child.cmdline())]


@pytest.mark.parametrize(
    ("row", "code"),
    [({"messages": []}, "empty_content"), (chat("u", ""), "empty_content"), (chat("u" * 900), "too_long")],
)
def test_a_bad_row_outside_the_sample_is_found(tmp_path: Path, row: dict[str, Any], code: str) -> None:
    made = rows()
    made[CHUNK + 5] = row
    data = read(tmp_path, made, SAMPLE)
    [fault] = data.faults
    assert (fault.code, fault.line) == (code, CHUNK + 6)
    assert data.rows == ROWS - 1


def test_small_files_and_tasks_that_must_see_all_are_encoded_whole(tmp_path: Path) -> None:
    assert len(read(tmp_path, rows()[:20], Sample()).examples) == 20
    labels = [{"text": f"text {number}", "label": str(number % 7)} for number in range(ROWS)]
    data = read(tmp_path, labels, SAMPLE, "text-classification")
    assert (len(data.examples), data.unencoded) == (ROWS, 0)


def test_long_rows_come_in_smaller_chunks(tmp_path: Path) -> None:
    long = [chat("a" * 900_000, "b" * number) for number in range(1, 13)]
    data = read(tmp_path, long, Sample(over=1000, aim=5 << 20, longest=0), max_length=1_000_000)
    assert data.rows == 12
    assert 0 < len(data.examples) < 12
