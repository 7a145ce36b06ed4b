# Made by `make sdk` from _async/client.py; change that one.
"""The client: where everything begins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from luthier._config import resolve_config
from luthier._generated import AuthenticatedClient
from luthier._sync.files import Files
from luthier._sync.http import HTTP, build_path
from luthier._sync.jobs import Jobs
from luthier._sync.models import Models
from luthier._sync.streams import stream_text
from luthier.types import ChatCompletion, TextCompletion

TIMEOUT_SECONDS = 600.0
MAX_RETRIES = 2

Message = Mapping[str, Any]


class Luthier:
    """A client of one Luthier.

    ``base_url`` and ``api_key`` come from the arguments, else from ``LUTHIER_BASE_URL`` and ``LUTHIER_API_KEY``, else
    from the file ``credentials`` in ``LUTHIER_HOME`` (``~/.luthier``), which ``luthierd up`` writes. ``timeout`` is in
    seconds. What fails by chance is sent again ``max_retries`` times. Raises ``ConfigurationError``.
    """

    files: Files
    jobs: Jobs
    models: Models

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
        max_retries: int = MAX_RETRIES,
    ) -> None:
        config = resolve_config(api_key, base_url)
        self._http = HTTP(config, timeout, max_retries)
        self.base_url = f"{config.server_url}/v1"
        self.files = Files(self._http)
        self.jobs = Jobs(self._http, self.files)
        self.models = Models(self._http)

    def chat(self, model: str, messages: str | Sequence[Message], **options: Any) -> ChatCompletion:
        """A chat model's answer. ``options`` are the other fields of ``POST /v1/chat/completions``."""
        body = {"model": model, "messages": _to_messages(messages), **options}
        return ChatCompletion.from_dict(self._http.request_json("POST", build_path("chat", "completions"), json=body))

    def chat_stream(self, model: str, messages: str | Sequence[Message], **options: Any) -> Iterator[str]:
        """The text of a chat model's answer, piece by piece."""
        body = {"model": model, "messages": _to_messages(messages), **options}
        for text in stream_text(self._http, build_path("chat", "completions"), body):
            yield text

    def complete(self, model: str, prompt: str, **options: Any) -> TextCompletion:
        """What a model writes after the prompt. ``options`` are the other fields of ``POST /v1/completions``."""
        body = {"model": model, "prompt": prompt, **options}
        return TextCompletion.from_dict(self._http.request_json("POST", build_path("completions"), json=body))

    def predict(
        self, model: str, inputs: Sequence[str | Mapping[str, Any]], *, top_k: int | None = None
    ) -> list[dict[str, Any]]:
        """A model's answers to texts, rows or pictures, in their order; their fields depend on the model's task."""
        body = {"model": model, "inputs": list(inputs)} | ({} if top_k is None else {"top_k": top_k})
        answer = self._http.request_json("POST", build_path("predictions"), json=body)
        answers: list[dict[str, Any]] = answer["data"]
        return answers

    def embed(self, model: str, texts: Sequence[str], **options: Any) -> list[list[float]]:
        """A vector for each text, in their order."""
        body = {"model": model, "input": list(texts), "encoding_format": "float", **options}
        answer = self._http.request_json("POST", build_path("embeddings"), json=body)
        return [item["embedding"] for item in answer["data"]]

    def request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Any other route: ``request("GET", "/batches")``. ``options`` are those of ``httpx``: ``json``, ``params``."""
        return self._http.request_json(method, f"/v1/{path.lstrip('/')}", **options)

    @property
    def raw(self) -> AuthenticatedClient:
        """For the generated functions, one a route: ``luthier._generated.api``. They share retries and errors."""
        # The key is in the headers of the connection already.
        return AuthenticatedClient(base_url=self.base_url, token="").set_httpx_client(self._http)

    def close(self) -> None:
        """Close the connections. A ``with`` block does."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _to_messages(messages: str | Sequence[Message]) -> list[Message]:
    return [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
