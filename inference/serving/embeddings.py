"""OpenAI's embeddings, of texts or of their token ids."""

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
    """The body of the answer. Raises ``EngineError``."""
    answers = await model.predict(lambda: _encode_inputs(model, request.inputs), len(request.inputs), 1)
    vectors = [_truncate_vector(answer.fields["embedding"], request.dimensions) for answer in answers]
    if request.encoding_format == "base64":
        written: Sequence[Any] = [base64.b64encode(struct.pack(f"<{len(each)}f", *each)).decode() for each in vectors]
    else:
        written = vectors
    tokens = sum(answer.num_tokens for answer in answers)
    return {
        "object": "list",
        "model": model_name,
        "data": [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(written)],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _encode_inputs(model: Predictor, inputs: Sequence[str | list[int]]) -> list[Example]:
    """Nothing is cut: an embedding of a part would pass for one of the whole."""
    examples: list[Example] = [
        _example_from_ids(model, index, ids) for index, ids in enumerate(inputs) if not isinstance(ids, str)
    ] or _encode_texts(model, [text for text in inputs if isinstance(text, str)])
    for index, example in enumerate(examples):
        if example.truncated or example.size > model.context:
            raise EngineError(
                "context_length_exceeded", f"Input {index} has more than this model's {model.context} tokens.", "input"
            )
    return examples


def _encode_texts(model: Predictor, texts: Sequence[str]) -> list[Example]:
    schema = model.task.input_schema
    assert schema, "tasks that answer here say what they are asked"
    inputs = [schema.model_validate({model.task.default_field: text}) for text in texts]
    examples = model.task.encode_inputs(inputs, model.processor, model.context)
    assert not any(isinstance(example, RowIssue) for example in examples), "a text can always be read"
    return cast(list[Example], examples)


def _example_from_ids(model: Predictor, index: int, ids: Sequence[int]) -> Example:
    known = len(model.processor)
    if max(ids) >= known:
        raise EngineError("invalid_request", f"Token ids of this model end at {known - 1}.", f"input.{index}")
    typed = "token_type_ids" in model.processor.model_input_names
    return EncoderExample(len(ids), False, array("i", ids), array("i", [0] * len(ids)) if typed else None)


def _truncate_vector(vector: list[float], dimensions: int | None) -> list[float]:
    """The first numbers, scaled to length 1 again."""
    if dimensions is None:
        return vector
    if dimensions > len(vector):
        raise EngineError(
            "invalid_request", f"This model's embeddings have {len(vector)} dimensions; ask for fewer.", "dimensions"
        )
    kept = vector[:dimensions]
    length = math.hypot(*kept)
    return [value / length for value in kept] if length else kept
