"""A tiny engine on a unix socket: it speaks the real engine's protocol and misbehaves when a message tells it to."""

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
"""Last message -> what the engine answers instead."""


class FakeEngine:
    """``asked`` keeps what arrived; ``cancelled`` counts requests whose client left."""

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
        asked = await request.json()
        self.requests.append(asked)
        model, words = asked["ref"]["id"], _join_text(asked["body"]["messages"][-1]["content"])
        if words in ERRORS:
            return JSONResponse(ERRORS[words].to_body(), ERRORS[words].status)
        if asked["body"]["stream"]:
            told = (asked["body"].get("stream_options") or {}).get("include_usage", False)
            return StreamingResponse(self._stream(model, words, told), media_type="text/event-stream")
        if words == "hang":
            await self._wait_for_disconnect(request)
        message = {"role": "assistant", "refusal": None, **_build_message(asked["body"], words)}
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
        asked = await request.json()
        self.requests.append(asked)
        head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": asked["ref"]["id"]}
        texts = ["and", " so on"]
        if asked["body"]["stream"]:
            chunks = [
                {**head, "choices": [_build_text_choice(text, "stop" if text == texts[-1] else None)]} for text in texts
            ]
            lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks] + ["data: [DONE]\n\n"]
            return StreamingResponse(iter(lines), media_type="text/event-stream")
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        return JSONResponse({**head, "choices": [_build_text_choice("".join(texts), "stop")], "usage": usage})

    async def embed(self, request: Request) -> Response:
        """A third and -1.5 for every text, as asked for."""
        asked = await request.json()
        self.requests.append(asked)
        texts, packed = asked["body"]["input"], struct.pack("<2f", 1 / 3, -1.5)
        as_text = asked["body"].get("encoding_format") == "base64"
        vector = base64.b64encode(packed).decode() if as_text else struct.unpack("<2f", packed)
        count = 1 if isinstance(texts, str) else len(texts)
        data = [{"object": "embedding", "index": index, "embedding": vector} for index in range(count)]
        usage = {"prompt_tokens": count, "total_tokens": count}
        return JSONResponse({"object": "list", "model": asked["ref"]["id"], "data": data, "usage": usage})

    async def predict(self, request: Request) -> Response:
        asked = await request.json()
        self.requests.append(asked)
        rows = asked["body"]["inputs"]
        data = [{"index": index, "label": "card", "scores": {"card": 1.0}} for index in range(len(rows))]
        usage = {"prompt_tokens": len(rows), "total_tokens": len(rows)}
        return JSONResponse({"object": "list", "model": asked["ref"]["id"], "data": data, "usage": usage})

    async def export(self, request: Request) -> Response:
        asked = await request.json()
        self.requests.append(asked)
        self.export_count += 1
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            # Without a time of its own, as the engine writes them: the same weights are the same bytes.
            archive.writestr(zipfile.ZipInfo("adapter_config.json"), json.dumps({"variant": asked["variant"]}))
            archive.writestr(zipfile.ZipInfo("adapter_model.safetensors"), b"\0" * 3_000_000)
        key = f"exports/{hashlib.sha256(asked['ref']['id'].encode()).hexdigest()}-{asked['variant']}.zip"
        stored = await asyncio.to_thread(self.blobs.put_bytes, key, buffer.getvalue())
        return JSONResponse({"blob_key": key, "sha256": stored.sha256, "bytes": stored.size})

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok", "loaded": [], "running": 0, "waiting": 0})


def _build_message(body: dict[str, Any], content: str) -> dict[str, Any]:
    """What an answer says; the words themselves, or a call with them, where it is held to a form."""
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        function = {"name": choice["function"]["name"], "arguments": content}
        return {"content": None, "tool_calls": [{"id": "abcdefgh1", "type": "function", "function": function}]}
    held = (body.get("response_format") or {"type": "text"})["type"] != "text"
    return {"content": content if held else f"You said {content}."}


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
