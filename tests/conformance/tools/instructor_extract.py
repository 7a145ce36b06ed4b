"""Instructor: structured output by a forced tool (its default), ``response_format`` or the prompt.

The first two constrain the output of any model. ``MD_JSON`` only prompts, so the check fine-tunes
a model for it through the API.
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
    """Return the messages that instructor sends for a word."""
    instructor_client = instructor.from_openai(create_client(server), mode=instructor.Mode.MD_JSON)
    requests: list[Any] = []
    instructor_client.on("completion:kwargs", lambda *args, **values: requests.append(values))
    # The base was not trained on this format.
    with suppress(InstructorRetryException, IncompleteOutputException):
        extract_kind(instructor_client, server.base, word, max_retries=0, max_tokens=1)
    messages: list[dict[str, str]] = requests[0]["messages"]
    return messages


def extract_kind(client: Any, model: str, word: str, **values: Any) -> Kind:
    messages = [{"role": "user", "content": word}]
    options = {"temperature": 0, "max_tokens": 96, **values}
    kind: Kind = client.chat.completions.create(model=model, messages=messages, response_model=Kind, **options)
    return kind


class Word(BaseModel):
    letters: int = Field(ge=1, le=20)
    kinds: list[Kind] = Field(max_length=2)
    near: Kind | None


def check_forced_tool(server: ServerInfo) -> None:
    instructor_client = instructor.from_openai(create_client(server))
    assert instructor_client.mode == instructor.Mode.TOOLS
    for word in KIND_BY_WORD:
        assert extract_kind(instructor_client, server.tool_base, word, max_retries=0).kind in {"animal", "color"}


def check_json_schema(server: ServerInfo) -> None:
    instructor_client = instructor.from_openai(create_client(server), mode=instructor.Mode.JSON_SCHEMA)
    for parsed in KIND_BY_WORD:
        assert extract_kind(instructor_client, server.base, parsed, max_retries=0).kind in {"animal", "color"}
    messages = [{"role": "user", "content": "cat"}]
    options = {"max_retries": 0, "max_tokens": 200, "seed": 1}
    parsed = instructor_client.chat.completions.create(
        model=server.base, messages=messages, response_model=Word, **options
    )
    assert 1 <= parsed.letters <= 20


def check_tools_are_refused_without_a_tool_template(server: ServerInfo) -> None:
    # Instructor wraps the API's error in its own.
    with raises(Exception) as raised:
        extract_kind(instructor.from_openai(create_client(server)), server.base, "cat", max_retries=0)
    assert "It does not support tools" in str(raised.error)


def check_structured_output_of_a_tuned_model(server: ServerInfo) -> None:
    rows = []
    for word, kind in KIND_BY_WORD.items():
        content = f'```json\n{{"kind": "{kind}"}}\n```'
        rows.append({"messages": [*capture_messages(server, word), {"role": "assistant", "content": content}]})
    client = create_client(server)
    data = "".join(json.dumps(row) + "\n" for row in rows * 4).encode()
    file = client.files.create(file=("kinds.jsonl", data), purpose="fine-tune")
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 15, "learning_rate": 3e-3}}}
    job = client.fine_tuning.jobs.create(
        model=server.base, training_file=file.id, method=method, extra_body={"update": {"type": "full"}}
    )
    model = wait_for_job(server, job.id)["fine_tuned_model"]
    instructor_client = instructor.from_openai(client, mode=instructor.Mode.MD_JSON)
    kinds = {word: extract_kind(instructor_client, model, word, max_retries=0).kind for word in KIND_BY_WORD}
    # So small a model may predict wrong kinds, but every completion must have the format.
    assert set(kinds.values()) <= {"animal", "color"}


if __name__ == "__main__":
    checks = (
        check_forced_tool,
        check_json_schema,
        check_tools_are_refused_without_a_tool_template,
        check_structured_output_of_a_tuned_model,
    )
    run_checks("instructor", {check.__name__: check for check in checks})
