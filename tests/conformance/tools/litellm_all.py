"""LiteLLM: chats, streams, embeddings, files and a fine-tuning job, with the provider ``openai`` and ``api_base``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

# Otherwise the import asks a server far away for prices.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm

from tests.conformance.client.context import raises
from tests.conformance.tools.server_info import Place, report, until_ended

TURNS = [{"role": "user", "content": "Say hello."}]


def at(place: Place) -> dict[str, Any]:
    return {"api_base": place.url, "api_key": place.key}


def completion(place: Place) -> None:
    answer = litellm.completion(f"openai/{place.base}", TURNS, temperature=0, max_tokens=12, **at(place))
    assert answer.choices[0].message.content
    assert answer.usage.total_tokens > answer.usage.prompt_tokens


def stream(place: Place) -> None:
    asked = {"model": f"openai/{place.base}", "messages": TURNS, "temperature": 0, "max_tokens": 12, **at(place)}
    text = "".join(chunk.choices[0].delta.content or "" for chunk in litellm.completion(stream=True, **asked))
    assert text.strip() == litellm.completion(**asked).choices[0].message.content.strip()


def embedding(place: Place) -> None:
    answer = litellm.embedding("openai/minilm-l6", input=["a cat", "a dog"], **at(place))
    assert [len(each["embedding"]) for each in answer.data] == [384, 384]


def errors_keep_their_kind(place: Place) -> None:
    with raises(litellm.NotFoundError) as raised:
        litellm.completion("openai/no-such-model", TURNS, **at(place))
    assert "no such model" in str(raised.error)


def fine_tuning(place: Place) -> None:
    with Path(place.rows).open("rb") as rows:
        file = litellm.create_file(file=rows, purpose="fine-tune", custom_llm_provider="openai", **at(place))
    job = litellm.create_fine_tuning_job(
        model=place.base,
        training_file=file.id,
        hyperparameters={"n_epochs": 1},
        suffix="litellm",
        custom_llm_provider="openai",
        **at(place),
    )
    listed = litellm.list_fine_tuning_jobs(limit=5, custom_llm_provider="openai", **at(place))
    assert job.id in [each.id for each in listed.data]
    model = until_ended(place, job.id)["fine_tuned_model"]
    answer = litellm.completion(f"openai/{model}", TURNS, max_tokens=12, **at(place))
    assert answer.choices[0].message.content


if __name__ == "__main__":
    litellm.drop_params = False
    checks = (completion, stream, embedding, errors_keep_their_kind, fine_tuning)
    report("litellm", {check.__name__: check for check in checks})
