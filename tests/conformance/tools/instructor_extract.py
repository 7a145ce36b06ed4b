"""Instructor: structured answers, by a forced tool (its default), by ``response_format``, and by the prompt alone.

The first two hold any model to the form; for ``MD_JSON`` a model is fine-tuned, through the API, to answer so.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, Literal

import instructor
import openai
from instructor.core.exceptions import IncompleteOutputException, InstructorRetryException
from pydantic import BaseModel, Field

from tests.conformance.client.context import raises
from tests.conformance.tools.server_info import Place, report, until_ended

WORDS = {"cat": "animal", "dog": "animal", "bird": "animal", "red": "color", "blue": "color", "green": "color"}


class Kind(BaseModel):
    kind: Literal["animal", "color"]


def client_of(place: Place) -> openai.OpenAI:
    return openai.OpenAI(base_url=place.url, api_key=place.key)


def messages_of(place: Place, word: str) -> list[dict[str, str]]:
    """What instructor really sends for a word."""
    asking = instructor.from_openai(client_of(place), mode=instructor.Mode.MD_JSON)
    sent: list[Any] = []
    asking.on("completion:kwargs", lambda *args, **values: sent.append(values))
    # The base has not learnt to answer so.
    with suppress(InstructorRetryException, IncompleteOutputException):
        ask(asking, place.base, word, max_retries=0, max_tokens=1)
    turns: list[dict[str, str]] = sent[0]["messages"]
    return turns


def ask(asking: Any, model: str, word: str, **values: Any) -> Kind:
    turns = [{"role": "user", "content": word}]
    chosen = {"temperature": 0, "max_tokens": 96, **values}
    found: Kind = asking.chat.completions.create(model=model, messages=turns, response_model=Kind, **chosen)
    return found


class Word(BaseModel):
    letters: int = Field(ge=1, le=20)
    kinds: list[Kind] = Field(max_length=2)
    near: Kind | None


def by_a_forced_tool(place: Place) -> None:
    asking = instructor.from_openai(client_of(place))
    assert asking.mode == instructor.Mode.TOOLS
    for word in WORDS:
        assert ask(asking, place.tool_base, word, max_retries=0).kind in {"animal", "color"}


def by_a_schema(place: Place) -> None:
    asking = instructor.from_openai(client_of(place), mode=instructor.Mode.JSON_SCHEMA)
    for word in WORDS:
        assert ask(asking, place.base, word, max_retries=0).kind in {"animal", "color"}
    turns = [{"role": "user", "content": "cat"}]
    options = {"max_retries": 0, "max_tokens": 200, "seed": 1}
    word = asking.chat.completions.create(model=place.base, messages=turns, response_model=Word, **options)
    assert 1 <= word.letters <= 20


def a_tool_is_refused_by_a_base_that_knows_none(place: Place) -> None:
    # Wrapped by instructor in an error of its own.
    with raises(Exception) as raised:
        ask(instructor.from_openai(client_of(place)), place.base, "cat", max_retries=0)
    assert "It knows no tools" in str(raised.error)


def structured_answers_of_a_tuned_model(place: Place) -> None:
    rows = []
    for word, kind in WORDS.items():
        answer = f'```json\n{{"kind": "{kind}"}}\n```'
        rows.append({"messages": [*messages_of(place, word), {"role": "assistant", "content": answer}]})
    client = client_of(place)
    data = "".join(json.dumps(row) + "\n" for row in rows * 4).encode()
    file = client.files.create(file=("kinds.jsonl", data), purpose="fine-tune")
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 15, "learning_rate": 3e-3}}}
    job = client.fine_tuning.jobs.create(
        model=place.base, training_file=file.id, method=method, extra_body={"update": {"type": "full"}}
    )
    model = until_ended(place, job.id)["fine_tuned_model"]
    asking = instructor.from_openai(client, mode=instructor.Mode.MD_JSON)
    found = {word: ask(asking, model, word, max_retries=0).kind for word in WORDS}
    # How well so small a model learns is not the matter; that every answer is of the form is.
    assert set(found.values()) <= {"animal", "color"}


if __name__ == "__main__":
    checks = (
        by_a_forced_tool,
        by_a_schema,
        a_tool_is_refused_by_a_base_that_knows_none,
        structured_answers_of_a_tuned_model,
    )
    report("instructor", {check.__name__: check for check in checks})
