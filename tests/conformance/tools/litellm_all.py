"""LiteLLM: chats, streams, embeddings, files and a job with the provider ``openai`` and
``api_base``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

# Otherwise the import downloads a price list.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm

from tests.conformance.client.context import raises
from tests.conformance.tools.server_info import ServerInfo, run_checks, wait_for_job

MESSAGES = [{"role": "user", "content": "Say hello."}]


def get_api_options(server: ServerInfo) -> dict[str, Any]:
    return {"api_base": server.url, "api_key": server.key}


def check_completion(server: ServerInfo) -> None:
    completion = litellm.completion(
        f"openai/{server.base}", MESSAGES, temperature=0, max_tokens=12, **get_api_options(server)
    )
    assert completion.choices[0].message.content
    assert completion.usage.total_tokens > completion.usage.prompt_tokens


def check_stream(server: ServerInfo) -> None:
    options = {
        "model": f"openai/{server.base}",
        "messages": MESSAGES,
        "temperature": 0,
        "max_tokens": 12,
        **get_api_options(server),
    }
    text = "".join(chunk.choices[0].delta.content or "" for chunk in litellm.completion(stream=True, **options))
    assert text.strip() == litellm.completion(**options).choices[0].message.content.strip()


def check_embedding(server: ServerInfo) -> None:
    response = litellm.embedding("openai/minilm-l6", input=["a cat", "a dog"], **get_api_options(server))
    assert [len(row["embedding"]) for row in response.data] == [384, 384]


def check_errors_keep_their_type(server: ServerInfo) -> None:
    with raises(litellm.NotFoundError) as raised:
        litellm.completion("openai/no-such-model", MESSAGES, **get_api_options(server))
    assert "model does not exist" in str(raised.error)


def check_fine_tuning(server: ServerInfo) -> None:
    with Path(server.rows).open("rb") as source:
        file = litellm.create_file(
            file=source, purpose="fine-tune", custom_llm_provider="openai", **get_api_options(server)
        )
    job = litellm.create_fine_tuning_job(
        model=server.base,
        training_file=file.id,
        hyperparameters={"n_epochs": 1},
        suffix="litellm",
        custom_llm_provider="openai",
        **get_api_options(server),
    )
    jobs = litellm.list_fine_tuning_jobs(limit=5, custom_llm_provider="openai", **get_api_options(server))
    assert job.id in [listed_job.id for listed_job in jobs.data]
    model = wait_for_job(server, job.id)["fine_tuned_model"]
    completion = litellm.completion(f"openai/{model}", MESSAGES, max_tokens=12, **get_api_options(server))
    assert completion.choices[0].message.content


if __name__ == "__main__":
    litellm.drop_params = False
    checks = (check_completion, check_stream, check_embedding, check_errors_keep_their_type, check_fine_tuning)
    run_checks("litellm", {check.__name__: check for check in checks})
