"""LangChain: chat and embeddings with only `base_url`; chains, streams, batches, asynchronous
calls."""

from __future__ import annotations

import asyncio
from typing import Literal

import openai
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

from tests.conformance.client.context import raises
from tests.conformance.tools.server_info import ServerInfo, run_checks


class Kind(BaseModel):
    """The kind of thing that a word names."""

    kind: Literal["animal", "color"]
    sure: bool


def create_chat_model(server: ServerInfo, base: str = "", max_tokens: int = 12) -> ChatOpenAI:
    return ChatOpenAI(
        model=base or server.base, base_url=server.url, api_key=server.key, temperature=0, max_tokens=max_tokens
    )


def check_invoke(server: ServerInfo) -> None:
    message = create_chat_model(server).invoke("Say hello.")
    assert message.content
    assert message.usage_metadata["total_tokens"] > message.usage_metadata["input_tokens"]
    assert message.response_metadata["model_name"]


def check_stream(server: ServerInfo) -> None:
    chat = create_chat_model(server)
    deltas = [chunk.content for chunk in chat.stream("Say hello.")]
    assert len(deltas) > 2
    assert "".join(deltas) == chat.invoke("Say hello.").content


def check_batch_and_async(server: ServerInfo) -> None:
    chat = create_chat_model(server)
    questions = [f"Tell me about {n} cats." for n in range(6)]
    messages = [message.content for message in chat.batch(questions)]

    async def run_concurrently() -> list[str]:
        return [message.content for message in await asyncio.gather(*map(chat.ainvoke, questions))]

    assert messages == asyncio.run(run_concurrently())


def check_chain(server: ServerInfo) -> None:
    prompt = ChatPromptTemplate.from_messages([("system", "Be brief."), ("user", "Say {word}.")])
    assert (prompt | create_chat_model(server) | StrOutputParser()).invoke({"word": "hello"})


def check_embeddings(server: ServerInfo) -> None:
    # Without the length check, which would fetch an OpenAI tokenizer and send token ids.
    embedder = OpenAIEmbeddings(
        model="minilm-l6", base_url=server.url, api_key=server.key, check_embedding_ctx_length=False
    )
    vectors = embedder.embed_documents(["a cat", "a dog", "tax law"])
    assert [len(vector) for vector in vectors] == [384] * 3
    near, far = (sum(a * b for a, b in zip(vectors[0], other, strict=True)) for other in vectors[1:])
    assert near > far


def check_structured_output_by_schema(server: ServerInfo) -> None:
    # LangChain recognizes the name `gpt-3.5-turbo` and would request a call instead.
    chat = create_chat_model(server, server.tool_base, max_tokens=96)
    assert set(chat.with_structured_output(Kind.model_json_schema(), method="json_schema").invoke("cat")) == {
        "kind",
        "sure",
    }
    structured_chat = chat.with_structured_output(Kind, method="json_schema")
    messages = [structured_chat.invoke("cat"), *structured_chat.batch(["dog", "red"])]
    assert all(isinstance(message, Kind) for message in messages)


def check_structured_output_by_forced_tool(server: ServerInfo) -> None:
    chat = create_chat_model(server, server.tool_base, max_tokens=96)
    assert isinstance(chat.with_structured_output(Kind, method="function_calling").invoke("cat"), Kind)
    message = chat.bind_tools([Kind], tool_choice="required").invoke("cat")
    assert [call["name"] for call in message.tool_calls] == ["Kind"]
    assert message.response_metadata["finish_reason"] == "tool_calls"


def check_tools_are_refused_without_a_tool_template(server: ServerInfo) -> None:
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    with raises(openai.BadRequestError) as raised:
        create_chat_model(server).bind_tools([add]).invoke("1 + 1?")
    raised.assert_matches(400, "unsupported_parameter", "tools")


if __name__ == "__main__":
    checks = (
        check_invoke,
        check_stream,
        check_batch_and_async,
        check_chain,
        check_embeddings,
        check_structured_output_by_schema,
        check_structured_output_by_forced_tool,
        check_tools_are_refused_without_a_tool_template,
    )
    run_checks("langchain-openai", {check.__name__: check for check in checks})
