"""Writes ``data/tickets_*.jsonl``: support messages and the tickets that they become.

``python -m examples.ticket_data``. The messages are those of ``support_*.jsonl``, written by hand.
This script adds order numbers and deadlines to them, in phrases that differ between the training
and the held-out rows. The same seed gives the same rows.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
SEED = 11
INTENTS = (
    "account_access",
    "change_order",
    "damaged_or_wrong_item",
    "delivery_status",
    "payment_problem",
    "product_question",
    "refund",
    "return_or_exchange",
)
INSTRUCTIONS = (
    "Turn the customer's message into a ticket, one line of JSON with the keys intent, order and deadline. "
    f"intent is one of {', '.join(INTENTS)}. order is the order number, or null. "
    "deadline is the day by which the customer wants it solved, or null."
)
"""System prompt of every row. The base model gets it too."""

AMBIGUOUS = re.compile(
    r"\d|\b(?:today|tomorrow|tonight|yesterday|\w+day|week|weekend|month|january|february|march|april|may|june|july|"
    r"august|september|october|november|december|christmas|order number)\b",
    re.IGNORECASE,
)
"""Messages with a number or a time of their own are left out: the ticket would be ambiguous."""


@dataclass(frozen=True)
class Split:
    source: str
    rows_per_intent: int
    orders: Sequence[str]
    deadlines: Sequence[str]
    days: Sequence[str]


WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
TRAIN = Split(
    source="support_train",
    rows_per_intent=30,
    orders=(
        "My order number is {}.",
        "Order {}.",
        "This is about order {}.",
        "(order no. {})",
        "order #{}",
        "The number on the invoice is {}.",
        "Ref. {}",
        "It was order {}, if that helps.",
    ),
    deadlines=(
        "I need this solved by {}.",
        "Please sort it out before {}.",
        "I leave on {}, so it has to be done by then.",
        "By {} please!",
        "It can't wait longer than {}.",
        "needs to be fixed by {}",
        "Could you do it by {}?",
        "I'd like to have this settled by {} at the latest.",
    ),
    days=(*WEEKDAYS, "tomorrow", "tonight", "3 June", "12 May", "1 March", "20 October", "8 July", "15 April"),
)
HELDOUT = Split(
    source="support_heldout",
    rows_per_intent=5,
    orders=("Order number {}.", "I'm writing about my order, {}.", "#{}", "Number of the order: {}."),
    deadlines=("I have until {}.", "It must be done by {}.", "{} is my deadline.", "Please, no later than {}."),
    days=(*WEEKDAYS, "tomorrow", "9 June", "30 November", "2 January", "17 August"),
)
SPLITS = {"tickets_train": TRAIN, "tickets_heldout": HELDOUT}


def build_rows(split: Split, rng: random.Random) -> list[dict[str, Any]]:
    """Return rows of ``chat``: ``rows_per_intent`` of each intent, in random order."""
    messages = [json.loads(line) for line in (DATA / f"{split.source}.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = []
    for intent in INTENTS:
        usable = [
            message["text"]
            for message in messages
            if message["label"] == intent and not AMBIGUOUS.search(message["text"])
        ]
        rows += [_build_row(text, intent, split, rng) for text in rng.sample(usable, split.rows_per_intent)]
    rng.shuffle(rows)
    return rows


def _build_row(text: str, intent: str, split: Split, rng: random.Random) -> dict[str, Any]:
    """Add an order number to three messages in five, and a deadline to two in five."""
    order = str(rng.randrange(10_000, 100_000)) if rng.random() < 0.6 else None
    deadline = rng.choice(split.days) if rng.random() < 0.4 else None
    sentences = [text]
    if order:
        sentence = rng.choice(split.orders).format(order)
        sentences.insert(rng.randrange(2), sentence)
    if deadline:
        sentences.append(rng.choice(split.deadlines).format(deadline))
    ticket = {"intent": intent, "order": order, "deadline": deadline}
    return {
        "messages": [
            {"role": "system", "content": INSTRUCTIONS},
            {"role": "user", "content": " ".join(sentences)},
            {"role": "assistant", "content": json.dumps(ticket)},
        ]
    }


def write_rows(directory: Path = DATA) -> None:
    """Write the rows of both splits."""
    for seed, (name, split) in enumerate(SPLITS.items(), SEED):
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in build_rows(split, random.Random(seed))]
        (directory / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    write_rows()
