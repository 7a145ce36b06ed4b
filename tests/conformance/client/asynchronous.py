"""The asynchronous client: the same wire, once through."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import openai

from tests.conformance.client.context import World, raises
from tests.conformance.client.files import ROW


def in_a_loop(check: Callable[[World, Any], Coroutine[Any, Any, None]]) -> Callable[[World], None]:
    @wraps(check)
    def run(world: World) -> None:
        async def with_client() -> None:
            async with openai.AsyncOpenAI(**world.options()) as client:
                await check(world, client)

        asyncio.run(with_client())

    return run


@in_a_loop
async def check_async_files_and_jobs(world: World, client: Any) -> None:
    file = await client.files.create(file=("rows.jsonl", ROW * 20), purpose="fine-tune")
    assert (await client.files.content(file.id)).content == ROW * 20
    job = await client.fine_tuning.jobs.create(model="starter", training_file=file.id, suffix=None)
    assert (await client.fine_tuning.jobs.cancel(job.id)).status == "cancelled"
    events = [event.message async for event in client.fine_tuning.jobs.list_events(world.job, limit=2)]
    assert events == [f"event {seq}" for seq in (5, 4, 3, 2, 1)]


@in_a_loop
async def check_async_walk(world: World, client: Any) -> None:
    walking = client.with_options(api_key=world.walk_key)
    walked = [job.id async for job in walking.fine_tuning.jobs.list(limit=100)]
    assert len(walked) == len(set(walked)) == world.walk_jobs


@in_a_loop
async def check_async_stream(world: World, client: Any) -> None:
    turns: Any = [{"role": "user", "content": "slow start"}]
    stream = await client.chat.completions.create(model=world.model, messages=turns, stream=True)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "You said slow start"


@in_a_loop
async def check_async_error_in_mid_stream(world: World, client: Any) -> None:
    turns: Any = [{"role": "user", "content": "fail"}]
    stream = await client.chat.completions.create(model=world.model, messages=turns, stream=True)
    with raises(openai.APIError):
        async for _ in stream:
            pass


@in_a_loop
async def check_async_many_at_once(world: World, client: Any) -> None:
    turns: Any = [{"role": "user", "content": "hello"}]
    asking = [client.chat.completions.create(model=world.model, messages=turns) for _ in range(20)]
    answers = await asyncio.gather(*asking)
    assert {answer.choices[0].message.content for answer in answers} == {"You said hello."}
    with raises(openai.NotFoundError) as raised:
        await client.models.retrieve("no/such:model")
    raised.says(404, "model_not_found", "model")
