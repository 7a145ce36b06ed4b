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
from tests.conformance.tools.server_info import ServerInfo, run_checks, wait_for_job

KIND_BY_WORD = {"cat": "animal", "dog": "animal", "bird": "animal", "red": "color", "blue": "color", "green": "color"}


class Kind(BaseModel):
    kind: Literal["animal", "color"]


def create_client(server: ServerInfo) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url, api_key=server.key)


def capture_messages(server: ServerInfo, word: str) -> list[dict[str, str]]:
    """What instructor really sends for a word."""
    asking = instructor.from_openai(create_client(server), mode=instructor.Mode.MD_JSON)
    sent: list[Any] = []
    asking.on("completion:kwargs", lambda *args, **values: sent.append(values))
    # The base has not learnt to answer so.
    with suppress(InstructorRetryException, IncompleteOutputException):
        extract_kind(asking, server.base, word, max_retries=0, max_tokens=1)
    turns: list[dict[str, str]] = sent[0]["messages"]
    return turns


def extract_kind(client: Any, model: str, word: str, **values: Any) -> Kind:
    turns = [{"role": "user", "content": word}]
    chosen = {"temperature": 0, "max_tokens": 96, **values}
    found: Kind = client.chat.completions.create(model=model, messages=turns, response_model=Kind, **chosen)
    return found


class Word(BaseModel):
    letters: int = Field(ge=1, le=20)
    kinds: list[Kind] = Field(max_length=2)
    near: Kind | None


def check_forced_tool(server: ServerInfo) -> None:
    asking = instructor.from_openai(create_client(server))
    assert asking.mode == instructor.Mode.TOOLS
    for word in KIND_BY_WORD:
        assert extract_kind(asking, server.tool_base, word, max_retries=0).kind in {"animal", "color"}


def check_json_schema(server: ServerInfo) -> None:
    asking = instructor.from_openai(create_client(server), mode=instructor.Mode.JSON_SCHEMA)
    for word in KIND_BY_WORD:
        assert extract_kind(asking, server.base, word, max_retries=0).kind in {"animal", "color"}
    turns = [{"role": "user", "content": "cat"}]
    options = {"max_retries": 0, "max_tokens": 200, "seed": 1}
    word = asking.chat.completions.create(model=server.base, messages=turns, response_model=Word, **options)
    assert 1 <= word.letters <= 20


def check_tools_are_refused_without_a_tool_template(server: ServerInfo) -> None:
    # Wrapped by instructor in an error of its own.
    with raises(Exception) as raised:
        extract_kind(instructor.from_openai(create_client(server)), server.base, "cat", max_retries=0)
    assert "It knows no tools" in str(raised.error)


def check_structured_output_of_a_tuned_model(server: ServerInfo) -> None:
    rows = []
    for word, kind in KIND_BY_WORD.items():
        answer = f'```json\n{{"kind": "{kind}"}}\n```'
        rows.append({"messages": [*capture_messages(server, word), {"role": "assistant", "content": answer}]})
    client = create_client(server)
    data = "".join(json.dumps(row) + "\n" for row in rows * 4).encode()
    file = client.files.create(file=("kinds.jsonl", data), purpose="fine-tune")
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 15, "learning_rate": 3e-3}}}
    job = client.fine_tuning.jobs.create(
        model=server.base, training_file=file.id, method=method, extra_body={"update": {"type": "full"}}
    )
    model = wait_for_job(server, job.id)["fine_tuned_model"]
    asking = instructor.from_openai(client, mode=instructor.Mode.MD_JSON)
    found = {word: extract_kind(asking, model, word, max_retries=0).kind for word in KIND_BY_WORD}
    # How well so small a model learns is not the matter; that every answer is of the form is.
    assert set(found.values()) <= {"animal", "color"}


if __name__ == "__main__":
    checks = (
        check_forced_tool,
        check_json_schema,
        check_tools_are_refused_without_a_tool_template,
        check_structured_output_of_a_tuned_model,
    )
    run_checks("instructor", {check.__name__: check for check in checks})
