"""Fake engine on a unix socket. It implements the real engine's protocol and fails on request.

The last message of a chat selects the failure."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import struct
import zipfile
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from inference.protocol.errors import EngineError, EngineUnavailable
from storage.blobs import Blobs

ERRORS = {
    "too long": EngineError("context_length_exceeded", "The prompt is too long.", "messages"),
    "busy": EngineUnavailable("The engine is full.", "engine_overloaded"),
    "stranger": EngineError("unauthorized", "The token is wrong."),
    "broken": EngineError("internal_error", "The engine failed."),
}
"""Last message -> the error that the engine responds with."""


class FakeEngine:
    """Fake engine. ``requests`` records every body; ``cancelled_count`` counts disconnected
    clients."""

    def __init__(self, blobs: Blobs) -> None:
        self.blobs = blobs
        self.requests: list[dict[str, Any]] = []
        self.export_count = 0
        self.cancelled_count = 0
        self.chunk_delay = 0.02
        self.app = Starlette(
            routes=[
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/completions", self.complete, methods=["POST"]),
                Route("/v1/embeddings", self.embed, methods=["POST"]),
                Route("/v1/predictions", self.predict, methods=["POST"]),
                Route("/internal/export", self.export, methods=["POST"]),
                Route("/healthz", self.health),
            ]
        )

    async def chat(self, request: Request) -> Response:
        envelope = await request.json()
        self.requests.append(envelope)
        model, content = envelope["ref"]["id"], _join_text(envelope["body"]["messages"][-1]["content"])
        if content in ERRORS:
            return JSONResponse(ERRORS[content].to_body(), ERRORS[content].status)
        if envelope["body"]["stream"]:
            include_usage = (envelope["body"].get("stream_options") or {}).get("include_usage", False)
            return StreamingResponse(self._stream(model, content, include_usage), media_type="text/event-stream")
        if content == "hang":
            await self._wait_for_disconnect(request)
        message = {"role": "assistant", "refusal": None, **_build_message(envelope["body"], content)}
        return JSONResponse(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1,
                "model": model,
                "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
                "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
            }
        )

    async def _stream(self, model: str, content: str, include_usage: bool) -> AsyncIterator[str]:
        try:
            if content == "slow start":
                await asyncio.sleep(0.4)
            yield _build_chunk(model, {"role": "assistant", "content": ""}, None)
            for word in ["You ", "said ", content]:
                await asyncio.sleep(self.chunk_delay)
                yield _build_chunk(model, {"content": word}, None)
                if content == "fail":
                    yield f"data: {json.dumps(EngineError('internal_error', 'The engine failed.').to_body())}\n\n"
                    return
                if content == "vanish":
                    return
            while content == "endless":
                await asyncio.sleep(self.chunk_delay)
                yield _build_chunk(model, {"content": "."}, None)
            yield _build_chunk(model, {}, "stop")
            if include_usage:
                usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
                yield f"data: {json.dumps({'model': model, 'choices': [], 'usage': usage}, separators=(',', ':'))}\n\n"
            yield "data: [DONE]\n\n"
        except asyncio.CancelledError:
            self.cancelled_count += 1
            raise

    async def _wait_for_disconnect(self, request: Request) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.cancelled_count += 1

    async def complete(self, request: Request) -> Response:
        envelope = await request.json()
        self.requests.append(envelope)
        common = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": envelope["ref"]["id"]}
        texts = ["and", " so on"]
        if envelope["body"]["stream"]:
            chunks = [
                {**common, "choices": [_build_text_choice(text, "stop" if text == texts[-1] else None)]}
                for text in texts
            ]
            lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks] + ["data: [DONE]\n\n"]
            return StreamingResponse(iter(lines), media_type="text/event-stream")
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        return JSONResponse({**common, "choices": [_build_text_choice("".join(texts), "stop")], "usage": usage})

    async def embed(self, request: Request) -> Response:
        """Return the vector (1/3, -1.5) for every text, in the requested encoding."""
        envelope = await request.json()
        self.requests.append(envelope)
        texts, packed = envelope["body"]["input"], struct.pack("<2f", 1 / 3, -1.5)
        as_text = envelope["body"].get("encoding_format") == "base64"
        vector = base64.b64encode(packed).decode() if as_text else struct.unpack("<2f", packed)
        count = 1 if isinstance(texts, str) else len(texts)
        data = [{"object": "embedding", "index": index, "embedding": vector} for index in range(count)]
        usage = {"prompt_tokens": count, "total_tokens": count}
        return JSONResponse({"object": "list", "model": envelope["ref"]["id"], "data": data, "usage": usage})

    async def predict(self, request: Request) -> Response:
        envelope = await request.json()
        self.requests.append(envelope)
        rows = envelope["body"]["inputs"]
        data = [{"index": index, "label": "card", "scores": {"card": 1.0}} for index in range(len(rows))]
        usage = {"prompt_tokens": len(rows), "total_tokens": len(rows)}
        return JSONResponse({"object": "list", "model": envelope["ref"]["id"], "data": data, "usage": usage})

    async def export(self, request: Request) -> Response:
        envelope = await request.json()
        self.requests.append(envelope)
        self.export_count += 1
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            # Without a timestamp, like the engine's archives: the same weights give the same bytes.
            archive.writestr(zipfile.ZipInfo("adapter_config.json"), json.dumps({"variant": envelope["variant"]}))
            archive.writestr(zipfile.ZipInfo("adapter_model.safetensors"), b"\0" * 3_000_000)
        key = f"exports/{hashlib.sha256(envelope['ref']['id'].encode()).hexdigest()}-{envelope['variant']}.zip"
        stored = await asyncio.to_thread(self.blobs.put_bytes, key, buffer.getvalue())
        return JSONResponse({"blob_key": key, "sha256": stored.sha256, "bytes": stored.size})

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok", "loaded": [], "running": 0, "waiting": 0})


def _build_message(body: dict[str, Any], content: str) -> dict[str, Any]:
    """Return the content of a completion: the input itself, or a call with it as the arguments, if
    the request constrains the output."""
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        function = {"name": choice["function"]["name"], "arguments": content}
        return {"content": None, "tool_calls": [{"id": "abcdefgh1", "type": "function", "function": function}]}
    constrained = (body.get("response_format") or {"type": "text"})["type"] != "text"
    return {"content": content if constrained else f"You said {content}."}


def _join_text(content: str | list[dict[str, str]]) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _build_text_choice(text: str, finish_reason: str | None) -> dict[str, Any]:
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}


def _build_chunk(model: str, delta: dict[str, Any], finish_reason: str | None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": model,
        "choices": [choice],
    }
    return f"data: {json.dumps(chunk)}\n\n"
