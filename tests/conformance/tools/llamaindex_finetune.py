"""LlamaIndex: its ``OpenAIFinetuneEngine`` uploads, trains and hands back a model that answers."""

from __future__ import annotations

import os

from tests.conformance.tools.server_info import Place, report, until_ended


def finetune_engine(place: Place) -> None:
    # What its client reads; the validation by the engine would fetch a tokenizer of OpenAI's.
    os.environ |= {"OPENAI_BASE_URL": place.url, "OPENAI_API_BASE": place.url, "OPENAI_API_KEY": place.key}
    from llama_index.finetuning import OpenAIFinetuneEngine

    engine = OpenAIFinetuneEngine(place.base, place.rows, validate_json=False)
    engine.finetune()
    job = engine.get_current_job()
    assert job.id.startswith("ftjob-")
    model = until_ended(place, job.id)["fine_tuned_model"]
    llm = engine.get_finetuned_model(temperature=0, max_tokens=12)
    assert llm.model == model
    assert llm.complete("Say hello.").text


def llm_and_stream(place: Place) -> None:
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.openai import OpenAI

    llm = OpenAI(model=place.base, api_base=place.url, api_key=place.key, temperature=0, max_tokens=12)
    turns = [ChatMessage(role="user", content="Say hello.")]
    said = llm.chat(turns).message.content
    assert said
    assert "".join(part.delta or "" for part in llm.stream_chat(turns)) == said


if __name__ == "__main__":
    checks = (finetune_engine, llm_and_stream)
    report("llama-index-finetuning", {check.__name__: check for check in checks})
