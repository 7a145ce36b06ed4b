"""Training rows and prediction inputs for every method and task."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.tiny_vision import create_image, encode_base64, encode_image
from tests.training.run_folders import CHAT_ROWS, LABEL_ROWS, Row


@dataclass(frozen=True)
class TaskSample:
    """Rows and inputs of a task, and the base to train."""

    base_fixture: str
    """Name of the fixture of a tiny base."""
    rows: list[Row]
    inputs: list[Any] = field(default_factory=list)
    unsupported_updates: frozenset[str] = frozenset()
    """Update types that this base does not support."""


COMPLETION_ROWS: list[Row] = [
    *({"prompt": f"{number} and {number} make", "completion": f" {2 * number}."} for number in range(8)),
    *({"text": f"Once there were {number} frogs."} for number in range(4)),
]
PREFERENCE_ROWS: list[Row] = [
    {
        "input": {"messages": row["messages"][:1]},
        "preferred_output": row["messages"][1:],
        "non_preferred_output": [{"role": "assistant", "content": "No idea" + "!" * (number % 3)}],
    }
    for number, row in enumerate(CHAT_ROWS)
]

COLORS = {"red": (200, 30, 30), "blue": (30, 30, 200)}
IMAGE_ROWS: list[Row] = [
    {"image": encode_base64(encode_image(create_image(color, number))), "label": label}
    for number in range(6)
    for label, color in COLORS.items()
]
TAGGED_ROWS: list[Row] = [
    {"tokens": ["Anna", "met", name, "in", "Rome"], "tags": ["B-PER", "O", "B-PER", "O", "B-LOC"]}
    for name in ("Bo", "Carl", "Dora", "Emil", "Frida", "Gus", "Hanna", "Ivo", "Jan", "Karin", "Leo", "Maja")
]
QUESTION_ROWS: list[Row] = [
    {
        "question": "What is sold?",
        "context": f"In shop {number} they sell {thing}.",
        "answers": [{"text": thing, "start": len(f"In shop {number} they sell ")}],
    }
    for number, thing in enumerate(("bread", "tea", "wine", "ink", "rope", "salt", "silk", "nails", "glue", "corn"))
]

SAMPLES = {
    ("supervised", "chat"): TaskSample("chat_base", CHAT_ROWS),
    ("supervised", "completion"): TaskSample("chat_base", COMPLETION_ROWS),
    ("dpo", "chat"): TaskSample("chat_base", PREFERENCE_ROWS),
    ("supervised", "seq2seq"): TaskSample(
        "seq2seq_base",
        [{"source": "ab" * (1 + number % 3), "target": "ba" * (1 + number % 3)} for number in range(12)],
        [{"source": "ab"}, {"source": "ababab"}],
    ),
    ("supervised", "text-classification"): TaskSample(
        "encoder_base", LABEL_ROWS, [{"text": "apple pie"}, {"text": "a pear", "text_pair": "and another one"}]
    ),
    ("supervised", "text-regression"): TaskSample(
        "encoder_base",
        [{"text": "long " * (1 + number % 5), "target": float(number % 5)} for number in range(15)],
        [{"text": "long"}, {"text": "long " * 7}],
    ),
    ("supervised", "token-classification"): TaskSample(
        "encoder_base", TAGGED_ROWS, [{"text": "Anna met Bo."}, {"tokens": ["Rome", "is", "far", "away"]}]
    ),
    ("supervised", "question-answering"): TaskSample(
        "encoder_base",
        QUESTION_ROWS,
        [
            {"question": "What is sold?", "context": "In shop 7 they sell nails."},
            {"question": "What?", "context": "They sell " + "very " * 20 + "old rope."},
        ],
    ),
    ("supervised", "embedding"): TaskSample(
        "encoder_base",
        [
            {"anchor": f"{word} one", "positive": f"two {word}"}
            for word in ("sun", "rain", "snow", "wind", "fog", "ice")
        ],
        [{"text": "sun"}, {"text": "much rain and wind"}],
    ),
    ("supervised", "image-classification"): TaskSample(
        "vision_base", IMAGE_ROWS, [{"image": row["image"]} for row in IMAGE_ROWS[:3]]
    ),
}
