"""The client: where everything begins."""

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
    """A client of one Luthier.

    ``base_url`` and ``api_key`` come from the arguments, else from ``LUTHIER_BASE_URL`` and ``LUTHIER_API_KEY``, else
    from the file ``credentials`` in ``LUTHIER_HOME`` (``~/.luthier``), which ``luthierd up`` writes. ``timeout`` is in
    seconds. What fails by chance is sent again ``max_retries`` times. Raises ``ConfigurationError``.
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
        """A chat model's answer. ``options`` are the other fields of ``POST /v1/chat/completions``."""
        body = {"model": model, "messages": _to_messages(messages), **options}
        return ChatCompletion.from_dict(
            await self._http.request_json("POST", build_path("chat", "completions"), json=body)
        )

    async def chat_stream(self, model: str, messages: str | Sequence[Message], **options: Any) -> AsyncIterator[str]:
        """The text of a chat model's answer, piece by piece."""
        body = {"model": model, "messages": _to_messages(messages), **options}
        async for text in stream_text(self._http, build_path("chat", "completions"), body):
            yield text

    async def complete(self, model: str, prompt: str, **options: Any) -> TextCompletion:
        """What a model writes after the prompt. ``options`` are the other fields of ``POST /v1/completions``."""
        body = {"model": model, "prompt": prompt, **options}
        return TextCompletion.from_dict(await self._http.request_json("POST", build_path("completions"), json=body))

    async def predict(
        self, model: str, inputs: Sequence[str | Mapping[str, Any]], *, top_k: int | None = None
    ) -> list[dict[str, Any]]:
        """A model's answers to texts, rows or pictures, in their order; their fields depend on the model's task."""
        body = {"model": model, "inputs": list(inputs)} | ({} if top_k is None else {"top_k": top_k})
        answer = await self._http.request_json("POST", build_path("predictions"), json=body)
        answers: list[dict[str, Any]] = answer["data"]
        return answers

    async def embed(self, model: str, texts: Sequence[str], **options: Any) -> list[list[float]]:
        """A vector for each text, in their order."""
        body = {"model": model, "input": list(texts), "encoding_format": "float", **options}
        answer = await self._http.request_json("POST", build_path("embeddings"), json=body)
        return [item["embedding"] for item in answer["data"]]

    async def request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Any other route: ``request("GET", "/batches")``. ``options`` are those of ``httpx``: ``json``, ``params``."""
        return await self._http.request_json(method, f"/v1/{path.lstrip('/')}", **options)

    @property
    def raw(self) -> AuthenticatedClient:
        """For the generated functions, one a route: ``luthier._generated.api``. They share retries and errors."""
        # The key is in the headers of the connection already.
        return AuthenticatedClient(base_url=self.base_url, token="").set_async_httpx_client(self._http)

    async def close(self) -> None:
        """Close the connections. A ``with`` block does."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _to_messages(messages: str | Sequence[Message]) -> list[Message]:
    return [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
