"""LangChain: a chat model and embeddings by `base_url` alone; in chains, streamed, in batches, asynchronously."""

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
    """What a word names."""

    kind: Literal["animal", "color"]
    sure: bool


def create_chat_model(server: ServerInfo, base: str = "", max_tokens: int = 12) -> ChatOpenAI:
    return ChatOpenAI(
        model=base or server.base, base_url=server.url, api_key=server.key, temperature=0, max_tokens=max_tokens
    )


def check_invoke(server: ServerInfo) -> None:
    answer = create_chat_model(server).invoke("Say hello.")
    assert answer.content
    assert answer.usage_metadata["total_tokens"] > answer.usage_metadata["input_tokens"]
    assert answer.response_metadata["model_name"]


def check_stream(server: ServerInfo) -> None:
    chat = create_chat_model(server)
    pieces = [chunk.content for chunk in chat.stream("Say hello.")]
    assert len(pieces) > 2
    assert "".join(pieces) == chat.invoke("Say hello.").content


def check_batch_and_async(server: ServerInfo) -> None:
    chat = create_chat_model(server)
    questions = [f"Tell me about {n} cats." for n in range(6)]
    answers = [answer.content for answer in chat.batch(questions)]

    async def together() -> list[str]:
        return [answer.content for answer in await asyncio.gather(*map(chat.ainvoke, questions))]

    assert answers == asyncio.run(together())


def check_chain(server: ServerInfo) -> None:
    prompt = ChatPromptTemplate.from_messages([("system", "Be brief."), ("user", "Say {word}.")])
    assert (prompt | create_chat_model(server) | StrOutputParser()).invoke({"word": "hello"})


def check_embeddings(server: ServerInfo) -> None:
    # Without the length check, which would fetch a tokenizer of OpenAI's and send its ids.
    embedder = OpenAIEmbeddings(
        model="minilm-l6", base_url=server.url, api_key=server.key, check_embedding_ctx_length=False
    )
    vectors = embedder.embed_documents(["a cat", "a dog", "tax law"])
    assert [len(vector) for vector in vectors] == [384] * 3
    near, far = (sum(a * b for a, b in zip(vectors[0], other, strict=True)) for other in vectors[1:])
    assert near > far


def check_structured_output_by_schema(server: ServerInfo) -> None:
    # For `gpt-3.5-turbo` it would ask for a call instead: it knows that name.
    chat = create_chat_model(server, server.tool_base, max_tokens=96)
    assert set(chat.with_structured_output(Kind.model_json_schema(), method="json_schema").invoke("cat")) == {
        "kind",
        "sure",
    }
    asking = chat.with_structured_output(Kind, method="json_schema")
    answers = [asking.invoke("cat"), *asking.batch(["dog", "red"])]
    assert all(isinstance(answer, Kind) for answer in answers)


def check_structured_output_by_forced_tool(server: ServerInfo) -> None:
    chat = create_chat_model(server, server.tool_base, max_tokens=96)
    assert isinstance(chat.with_structured_output(Kind, method="function_calling").invoke("cat"), Kind)
    answer = chat.bind_tools([Kind], tool_choice="required").invoke("cat")
    assert [call["name"] for call in answer.tool_calls] == ["Kind"]
    assert answer.response_metadata["finish_reason"] == "tool_calls"


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
