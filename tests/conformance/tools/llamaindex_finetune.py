"""LlamaIndex: its ``OpenAIFinetuneEngine`` uploads a file, trains, and returns a usable model."""

from __future__ import annotations

import os

from tests.conformance.tools.server_info import ServerInfo, run_checks, wait_for_job


def check_finetune_engine(server: ServerInfo) -> None:
    # LlamaIndex's client reads these variables. Its validation would fetch an OpenAI tokenizer.
    os.environ |= {"OPENAI_BASE_URL": server.url, "OPENAI_API_BASE": server.url, "OPENAI_API_KEY": server.key}
    from llama_index.finetuning import OpenAIFinetuneEngine

    engine = OpenAIFinetuneEngine(server.base, server.rows, validate_json=False)
    engine.finetune()
    job = engine.get_current_job()
    assert job.id.startswith("ftjob-")
    model = wait_for_job(server, job.id)["fine_tuned_model"]
    llm = engine.get_finetuned_model(temperature=0, max_tokens=12)
    assert llm.model == model
    assert llm.complete("Say hello.").text


def check_llm_and_stream(server: ServerInfo) -> None:
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.openai import OpenAI

    llm = OpenAI(model=server.base, api_base=server.url, api_key=server.key, temperature=0, max_tokens=12)
    messages = [ChatMessage(role="user", content="Say hello.")]
    content = llm.chat(messages).message.content
    assert content
    assert "".join(delta.delta or "" for delta in llm.stream_chat(messages)) == content


if __name__ == "__main__":
    checks = (check_finetune_engine, check_llm_and_stream)
    run_checks("llama-index-finetuning", {check.__name__: check for check in checks})
