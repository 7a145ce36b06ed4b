"""LangChain: a chat model and embeddings by `base_url` alone; in chains, streamed, in batches, asynchronously."""

from __future__ import annotations

import asyncio

import openai
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from tests.conformance.client.world import raises
from tests.conformance.tools.place import Place, report


def chat_of(place: Place) -> ChatOpenAI:
    return ChatOpenAI(model=place.base, base_url=place.url, api_key=place.key, temperature=0, max_tokens=12)


def invoke(place: Place) -> None:
    answer = chat_of(place).invoke("Say hello.")
    assert answer.content
    assert answer.usage_metadata["total_tokens"] > answer.usage_metadata["input_tokens"]
    assert answer.response_metadata["model_name"]


def stream(place: Place) -> None:
    chat = chat_of(place)
    pieces = [chunk.content for chunk in chat.stream("Say hello.")]
    assert len(pieces) > 2
    assert "".join(pieces) == chat.invoke("Say hello.").content


def batch_and_async(place: Place) -> None:
    chat = chat_of(place)
    questions = [f"Tell me about {n} cats." for n in range(6)]
    answers = [answer.content for answer in chat.batch(questions)]

    async def together() -> list[str]:
        return [answer.content for answer in await asyncio.gather(*map(chat.ainvoke, questions))]

    assert answers == asyncio.run(together())


def chain(place: Place) -> None:
    prompt = ChatPromptTemplate.from_messages([("system", "Be brief."), ("user", "Say {word}.")])
    assert (prompt | chat_of(place) | StrOutputParser()).invoke({"word": "hello"})


def embeddings(place: Place) -> None:
    # Without the length check, which would fetch a tokenizer of OpenAI's and send its ids.
    embedder = OpenAIEmbeddings(
        model="minilm-l6", base_url=place.url, api_key=place.key, check_embedding_ctx_length=False
    )
    vectors = embedder.embed_documents(["a cat", "a dog", "tax law"])
    assert [len(vector) for vector in vectors] == [384] * 3
    near, far = (sum(a * b for a, b in zip(vectors[0], other, strict=True)) for other in vectors[1:])
    assert near > far


def tools_are_refused_by_a_base_that_knows_none(place: Place) -> None:
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    with raises(openai.BadRequestError) as raised:
        chat_of(place).bind_tools([add]).invoke("1 + 1?")
    raised.says(400, "unsupported_parameter", "tools")


if __name__ == "__main__":
    checks = (invoke, stream, batch_and_async, chain, embeddings, tools_are_refused_by_a_base_that_knows_none)
    report("langchain-openai", {check.__name__: check for check in checks})
