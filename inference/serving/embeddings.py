"""OpenAI's embeddings of texts or token ids."""

from __future__ import annotations

import base64
import math
import struct
from array import array
from collections.abc import Sequence
from typing import Any, cast

from inference.pooling.predictor import Predictor
from inference.protocol.errors import EngineError
from inference.protocol.pooling import EmbeddingRequest
from training.tasks.base import Example, RowIssue
from training.tasks.support.text import EncoderExample


async def embed(model: Predictor, model_name: str, request: EmbeddingRequest) -> dict[str, Any]:
    """Compute the response body of ``/v1/embeddings``. Raises ``EngineError``."""
    outputs = await model.predict(lambda: _encode_inputs(model, request.inputs), len(request.inputs), 1)
    vectors = [_truncate_vector(output.fields["embedding"], request.dimensions) for output in outputs]
    embeddings: Sequence[Any] = vectors
    if request.encoding_format == "base64":
        embeddings = [base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() for vector in vectors]
    num_tokens = sum(output.num_tokens for output in outputs)
    return {
        "object": "list",
        "model": model_name,
        "data": [
            {"object": "embedding", "index": index, "embedding": embedding}
            for index, embedding in enumerate(embeddings)
        ],
        "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
    }


def _encode_inputs(model: Predictor, inputs: Sequence[str | list[int]]) -> list[Example]:
    """Encode the inputs without truncation: an embedding of a prefix would be mistaken for one of
    the whole input.

    Raises ``EngineError`` for an input that is longer than the context.
    """
    examples: list[Example] = [
        _example_from_ids(model, index, ids) for index, ids in enumerate(inputs) if not isinstance(ids, str)
    ] or _encode_texts(model, [text for text in inputs if isinstance(text, str)])
    for index, example in enumerate(examples):
        if example.truncated or example.size > model.context:
            raise EngineError(
                "context_length_exceeded",
                f"Input {index} is longer than this model's context of {model.context} tokens. Shorten it.",
                "input",
            )
    return examples


def _encode_texts(model: Predictor, texts: Sequence[str]) -> list[Example]:
    schema = model.task.input_schema
    assert schema, "every task of this route has an input schema"
    inputs = [schema.model_validate({model.task.default_field: text}) for text in texts]
    examples = model.task.encode_inputs(inputs, model.processor, model.context)
    assert not any(isinstance(example, RowIssue) for example in examples), "every text can be encoded"
    return cast(list[Example], examples)


def _example_from_ids(model: Predictor, index: int, ids: Sequence[int]) -> Example:
    if max(ids) >= model.vocab_size:
        message = f"Token ids of this model end at {model.vocab_size - 1}; remove larger ones."
        raise EngineError("invalid_request", message, f"input.{index}")
    has_token_types = "token_type_ids" in model.processor.model_input_names
    return EncoderExample(len(ids), False, array("i", ids), array("i", [0] * len(ids)) if has_token_types else None)


def _truncate_vector(vector: list[float], dimensions: int | None) -> list[float]:
    """Truncate the vector to ``dimensions`` and normalize it to length 1."""
    if dimensions is None:
        return vector
    if dimensions > len(vector):
        raise EngineError(
            "invalid_request",
            f"This model's embeddings have {len(vector)} dimensions; request at most that many.",
            "dimensions",
        )
    truncated = vector[:dimensions]
    norm = math.hypot(*truncated)
    return [value / norm for value in truncated] if norm else truncated
