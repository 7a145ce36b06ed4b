"""The example data sets match their README, and training accepts every row."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from training.data.dataset import DatasetReader
from training.data.encoding import RowEncoder
from training.progress import ignore_progress
from training.tasks import TASKS

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "examples" / "data"
ROW_COUNTS = {
    "support_train": 400,
    "support_heldout": 80,
    "chat_train": 200,
    "chat_heldout": 20,
    "tickets_train": 240,
    "tickets_heldout": 40,
}
LABELS = {
    "account_access",
    "change_order",
    "damaged_or_wrong_item",
    "delivery_status",
    "payment_problem",
    "product_question",
    "refund",
    "return_or_exchange",
}
SAILOR_STYLE = re.compile(r"Ahoy! [A-Z][^.?!]* over the sea\.")


def read_rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def get_user_texts(name: str) -> list[str]:
    """Return the message of the customer or the child in each row."""
    return [row["text"] if "text" in row else row["messages"][0]["content"] for row in read_rows(name)]


def split_words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9']+", text.lower()))


def compute_jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    """Compute the Jaccard similarity of two sets of words."""
    return len(left & right) / len(left | right)


@pytest.mark.parametrize("name", ROW_COUNTS)
def test_rows_are_as_many_as_the_readme_says(name: str) -> None:
    assert len(read_rows(name)) == ROW_COUNTS[name]
    assert f"| `{name}.jsonl` | {ROW_COUNTS[name]} |" in (DATA / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "minimum", "maximum"), [("support_train", 47, 53), ("support_heldout", 10, 10)])
def test_labels_are_the_eight_of_the_readme_and_nearly_balanced(name: str, minimum: int, maximum: int) -> None:
    counts = Counter(row["label"] for row in read_rows(name))
    assert set(counts) == LABELS
    assert all(minimum <= count <= maximum for count in counts.values()), counts
    documented = set(re.findall(r"^\| `([a-z_]+)` \|", (DATA / "README.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert documented == LABELS


@pytest.mark.parametrize("kind", ["support", "chat"])
def test_no_row_is_repeated_and_none_held_out_is_near_a_training_row(kind: str) -> None:
    train, heldout = get_user_texts(f"{kind}_train"), get_user_texts(f"{kind}_heldout")
    assert len({text.lower() for text in train + heldout}) == len(train) + len(heldout)
    train_words = [split_words(text) for text in train]
    similar = [
        text for text in heldout if any(compute_jaccard(split_words(text), words) >= 0.8 for words in train_words)
    ]
    assert not similar


def test_support_messages_are_not_variants_of_one_sentence() -> None:
    texts = get_user_texts("support_train")
    word_sets = [split_words(text) for text in texts]
    similar = [
        texts[index]
        for index, words in enumerate(word_sets)
        if len(words) > 4 and any(compute_jaccard(words, earlier) > 0.7 for earlier in word_sets[:index])
    ]
    assert not similar
    assert max(Counter(" ".join(text.lower().split()[:3]) for text in texts).values()) <= 8


def test_no_label_is_given_away_by_its_own_name() -> None:
    """A rule that searches for the label's words must not be enough to classify the rows."""
    rows = read_rows("support_heldout")
    revealing_rows = [row for row in rows if split_words(row["label"].replace("_", " ")) & split_words(row["text"])]
    assert len(revealing_rows) < len(rows) / 2


@pytest.mark.parametrize("name", ["chat_train", "chat_heldout"])
def test_every_answer_follows_the_style(name: str) -> None:
    for row in read_rows(name):
        question, answer = row["messages"]
        assert (question["role"], answer["role"]) == ("user", "assistant")
        assert SAILOR_STYLE.fullmatch(answer["content"]), answer
        assert len(answer["content"].split()) <= 25


def test_answers_differ() -> None:
    answers = [row["messages"][1]["content"] for name in ("chat_train", "chat_heldout") for row in read_rows(name)]
    assert len(set(answers)) == len(answers)
    openings = Counter(" ".join(answer.split()[:3]) for answer in answers)
    assert openings.most_common(1)[0][1] <= 20


def test_small_talk_asks_nothing_twice_and_answers_all() -> None:
    entries = read_rows("starter_talk")
    questions = [question for entry in entries for question in entry["questions"]]
    assert len(set(questions)) == len(questions)
    assert all(entry["answers"] and all(answer.strip() for answer in entry["answers"]) for entry in entries)
    assert f"| `starter_talk.jsonl` | {len(entries)} |" in (DATA / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ROW_COUNTS)
def test_training_accepts_every_row_untruncated(name: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "models" / "starter")
    task = TASKS["text-classification" if name.startswith("support") else "chat"]
    data = DatasetReader(RowEncoder(task, tokenizer, {}, 512), ignore_progress).read(
        DATA / f"{name}.jsonl", "training_file"
    )
    assert not data.errors
    assert len(data.examples) == ROW_COUNTS[name]
    assert data.truncated_rows == 0
