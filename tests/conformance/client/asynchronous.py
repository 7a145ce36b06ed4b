"""Checks of the asynchronous client: the same API, once for each kind of request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import openai

from tests.conformance.client.context import CheckContext, raises
from tests.conformance.client.files import ROW


def run_async(check: Callable[[CheckContext, Any], Coroutine[Any, Any, None]]) -> Callable[[CheckContext], None]:
    @wraps(check)
    def run(context: CheckContext) -> None:
        async def with_client() -> None:
            async with openai.AsyncOpenAI(**context.client_options()) as client:
                await check(context, client)

        asyncio.run(with_client())

    return run


@run_async
async def check_async_files_and_jobs(context: CheckContext, client: Any) -> None:
    file = await client.files.create(file=("rows.jsonl", ROW * 20), purpose="fine-tune")
    assert (await client.files.content(file.id)).content == ROW * 20
    job = await client.fine_tuning.jobs.create(model="starter", training_file=file.id, suffix=None)
    assert (await client.fine_tuning.jobs.cancel(job.id)).status == "cancelled"
    events = [event.message async for event in client.fine_tuning.jobs.list_events(context.job, limit=2)]
    assert events == [f"event {seq}" for seq in (5, 4, 3, 2, 1)]


@run_async
async def check_async_pagination(context: CheckContext, client: Any) -> None:
    pagination_client = client.with_options(api_key=context.pagination_key)
    ids = [job.id async for job in pagination_client.fine_tuning.jobs.list(limit=100)]
    assert len(ids) == len(set(ids)) == context.pagination_job_count


@run_async
async def check_async_stream(context: CheckContext, client: Any) -> None:
    messages: Any = [{"role": "user", "content": "slow start"}]
    stream = await client.chat.completions.create(model=context.model, messages=messages, stream=True)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "You said slow start"


@run_async
async def check_async_error_in_mid_stream(context: CheckContext, client: Any) -> None:
    messages: Any = [{"role": "user", "content": "fail"}]
    stream = await client.chat.completions.create(model=context.model, messages=messages, stream=True)
    with raises(openai.APIError):
        async for _ in stream:
            pass


@run_async
async def check_async_concurrent_requests(context: CheckContext, client: Any) -> None:
    messages: Any = [{"role": "user", "content": "hello"}]
    requests = [client.chat.completions.create(model=context.model, messages=messages) for _ in range(20)]
    completions = await asyncio.gather(*requests)
    assert {completion.choices[0].message.content for completion in completions} == {"You said hello."}
    with raises(openai.NotFoundError) as raised:
        await client.models.retrieve("no/such:model")
    raised.assert_matches(404, "model_not_found", "model")
