"""Client of a Luthier server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from luthier._async.files import AsyncFiles
from luthier._async.http import AsyncHTTP, build_path
from luthier._async.jobs import AsyncJobs
from luthier._async.models import AsyncModels
from luthier._async.streams import stream_text
from luthier._config import resolve_config
from luthier._generated import AuthenticatedClient
from luthier.types import ChatCompletion, TextCompletion

TIMEOUT_SECONDS = 600.0
MAX_RETRIES = 2

Message = Mapping[str, Any]


class AsyncLuthier:
    """Client of a Luthier server.

    The client takes ``base_url`` and ``api_key`` from the first of these sources that has them:

    1. the arguments,
    2. ``LUTHIER_BASE_URL`` and ``LUTHIER_API_KEY``,
    3. the file ``credentials`` in ``LUTHIER_HOME`` (default ``~/.luthier``), which ``luthierd up``
       writes.

    ``timeout`` is in seconds. Requests that fail temporarily are retried up to ``max_retries``
    times. Raises ``ConfigurationError`` if the address or the key is missing.
    """

    files: AsyncFiles
    jobs: AsyncJobs
    models: AsyncModels

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
        max_retries: int = MAX_RETRIES,
    ) -> None:
        config = resolve_config(api_key, base_url)
        self._http = AsyncHTTP(config, timeout, max_retries)
        self.base_url = f"{config.server_url}/v1"
        self.files = AsyncFiles(self._http)
        self.jobs = AsyncJobs(self._http, self.files)
        self.models = AsyncModels(self._http)

    async def chat(self, model: str, messages: str | Sequence[Message], **options: Any) -> ChatCompletion:
        """Return a chat completion.

        ``messages`` is a list of messages, or a string for one user message. ``options`` are the
        other fields of ``POST /v1/chat/completions``.
        """
        body = {"model": model, "messages": _to_messages(messages), **options}
        return ChatCompletion.from_dict(
            await self._http.request_json("POST", build_path("chat", "completions"), json=body)
        )

    async def chat_stream(self, model: str, messages: str | Sequence[Message], **options: Any) -> AsyncIterator[str]:
        """Stream a chat completion. Yields the text in pieces as the model generates it."""
        body = {"model": model, "messages": _to_messages(messages), **options}
        async for text in stream_text(self._http, build_path("chat", "completions"), body):
            yield text

    async def complete(self, model: str, prompt: str, **options: Any) -> TextCompletion:
        """Return a completion of the prompt.

        ``options`` are the other fields of ``POST /v1/completions``.
        """
        body = {"model": model, "prompt": prompt, **options}
        return TextCompletion.from_dict(await self._http.request_json("POST", build_path("completions"), json=body))

    async def predict(
        self, model: str, inputs: Sequence[str | Mapping[str, Any]], *, top_k: int | None = None
    ) -> list[dict[str, Any]]:
        """Return one prediction per input, in order. The fields of a prediction depend on the
        model's task.

        Inputs are texts, rows or images. ``top_k`` limits the number of labels with scores.
        """
        body = {"model": model, "inputs": list(inputs)} | ({} if top_k is None else {"top_k": top_k})
        response = await self._http.request_json("POST", build_path("predictions"), json=body)
        predictions: list[dict[str, Any]] = response["data"]
        return predictions

    async def embed(self, model: str, texts: Sequence[str], **options: Any) -> list[list[float]]:
        """Return one embedding vector per text, in order.

        ``options`` are the other fields of ``POST /v1/embeddings``.
        """
        body = {"model": model, "input": list(texts), "encoding_format": "float", **options}
        response = await self._http.request_json("POST", build_path("embeddings"), json=body)
        return [item["embedding"] for item in response["data"]]

    async def request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Send a request to any other route, such as ``request("GET", "/batches")``, and return its
        JSON.

        ``options`` are keyword arguments of ``httpx``'s ``request``, such as ``json`` and
        ``params``.
        """
        return await self._http.request_json(method, f"/v1/{path.lstrip('/')}", **options)

    @property
    def raw(self) -> AuthenticatedClient:
        """Client for the generated functions in ``luthier._generated.api``, one per route.

        They use the same retries and raise the same errors.
        """
        # The underlying HTTP client already sends the key.
        return AuthenticatedClient(base_url=self.base_url, token="").set_async_httpx_client(self._http)

    async def close(self) -> None:
        """Close the connections. The end of a ``with`` block calls this method."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _to_messages(messages: str | Sequence[Message]) -> list[Message]:
    return [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
