"""Rows and scores of the tour."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from examples import ticket_data, tour

DATA = ticket_data.DATA


def read_rows(name: str) -> list[list[dict[str, str]]]:
    return [json.loads(line)["messages"] for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_files_are_those_of_the_script(tmp_path: Path) -> None:
    ticket_data.write_rows(tmp_path)
    for name in ticket_data.SPLITS:
        assert (tmp_path / f"{name}.jsonl").read_bytes() == (DATA / f"{name}.jsonl").read_bytes()


@pytest.mark.parametrize("name", ticket_data.SPLITS)
def test_every_row_is_a_message_and_its_ticket(name: str) -> None:
    rows = read_rows(name)
    assert {row[0]["content"] for row in rows} == {ticket_data.INSTRUCTIONS}
    for _, message, answer in rows:
        ticket = tour.parse_ticket(answer["content"])
        assert ticket is not None
        for field in ("order", "deadline"):
            assert ticket[field] is None or ticket[field] in message["content"]
    intents = Counter(json.loads(row[2]["content"])["intent"] for row in rows)
    assert intents == dict.fromkeys(ticket_data.INTENTS, ticket_data.SPLITS[name].rows_per_intent)


def test_no_held_out_message_phrase_or_number_is_in_a_training_row() -> None:
    train, heldout = ticket_data.TRAIN, ticket_data.HELDOUT
    assert not set(train.orders) & set(heldout.orders)
    assert not set(train.deadlines) & set(heldout.deadlines)
    trained = " ".join(row[1]["content"] for row in read_rows("tickets_train"))
    for row in read_rows("tickets_heldout"):
        order = json.loads(row[2]["content"])["order"]
        assert order is None or order not in trained
        assert row[1]["content"] not in trained


TICKET = {"intent": "refund", "order": "12345", "deadline": None}


@pytest.mark.parametrize(
    ("answer", "ticket"),
    [
        (json.dumps(TICKET), TICKET),
        (f"Sure! ```json\n{json.dumps(TICKET)}\n```", TICKET),
        ("I am sorry to hear that.", None),
        ('{"intent": "refund", "order": "1', None),
        (json.dumps({**TICKET, "intent": "money"}), None),
        (json.dumps({**TICKET, "order": 12345}), None),
        (json.dumps({"intent": "refund"}), None),
        ('["intent", {"order": 1}]', None),
    ],
)
def test_an_answer_is_a_ticket_or_none(answer: str, ticket: dict[str, Any] | None) -> None:
    assert tour.parse_ticket(answer) == ticket


def test_scores_count_each_field_and_all_of_them() -> None:
    wrong_order = {**TICKET, "order": None}
    score = tour.Score(["", "", ""], [TICKET, wrong_order, None], [TICKET] * 3)
    assert score.counts == {"a ticket": 2, "intent": 2, "order": 1, "deadline": 2, "right in all": 1}


@pytest.mark.parametrize(
    ("count", "total", "interval"), [(0, 40, (0.0, 0.088)), (20, 40, (0.352, 0.648)), (40, 40, (0.912, 1.0))]
)
def test_the_interval_is_wilsons(count: int, total: int, interval: tuple[float, float]) -> None:
    """Values of ``scipy.stats.binomtest(count, total).proportion_ci(method="wilson")``."""
    assert tour.compute_wilson_interval(count, total) == pytest.approx(interval, abs=1e-3)
