"""Request bodies of predictions and embeddings: every field is bounded, and every error names its
field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.embedding_create_params import EmbeddingCreateParams
from pydantic import ValidationError

from inference.protocol.errors import EngineError
from inference.protocol.pooling import EmbeddingRequest, PredictionRequest
from inference.protocol.validation import to_validation_issue


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        ({"inputs": ["a"]}, [{"text": "a"}]),
        (
            {"inputs": [{"text": "a", "text_pair": "b"}, "c"], "top_k": 5},
            [{"text": "a", "text_pair": "b"}, {"text": "c"}],
        ),
        ({"inputs": [{"tokens": ["a", "b"]}], "top_k": None}, [{"tokens": ["a", "b"]}]),
    ],
)
def test_inputs_are_converted_to_rows(body: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    assert PredictionRequest.model_validate({"model": "m", **body}).to_rows("text") == rows


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"inputs": []}, "inputs"),
        ({"inputs": "a"}, "inputs"),
        ({"inputs": [3]}, "inputs.0"),
        ({"inputs": [{}]}, "inputs.0"),
        ({"inputs": [{"text": 3}]}, "inputs.0.text"),
        ({"inputs": ["a"] * 1025}, "inputs"),
        ({"inputs": ["a" * 1_000_000] * 17}, "inputs"),
        ({"inputs": ["a"], "top_k": 0}, "top_k"),
        ({"inputs": ["a"], "top_n": 1}, "top_n"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_invalid_inputs_are_named(body: dict[str, Any], param: str) -> None:
    with pytest.raises(ValidationError) as caught:
        PredictionRequest.model_validate({"model": "m", **body})
    assert EngineError.from_validation_error(caught.value).param == param


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ([], "Invalid 'inputs.0': it must be a string or an object."),
        ({"text": {}}, "Invalid 'inputs.0.text': it must be a string or an array."),
    ],
)
def test_an_input_of_the_wrong_json_type_is_explained(item: Any, message: str) -> None:
    """Neither the API's nor the engine's message contains the names of discriminators and tags."""
    body = {"model": "m", "inputs": [item]}
    with pytest.raises(ValidationError) as caught:
        PredictionRequest.model_validate(body)
    errors = [{**error, "loc": ("body", *error["loc"])} for error in caught.value.errors()]
    assert to_validation_issue(errors, body).message == message
    assert EngineError.from_validation_error(caught.value).message == message


def test_a_bare_input_is_the_default_field() -> None:
    request = PredictionRequest(model="m", inputs=["AAAA", {"image": "BBBB"}])
    assert request.to_rows("image") == [{"image": "AAAA"}, {"image": "BBBB"}]


def test_an_image_of_eight_megabytes_fits() -> None:
    PredictionRequest(model="m", inputs=["A" * 11_200_000])
    with pytest.raises(ValidationError):
        PredictionRequest(model="m", inputs=["A" * 12_000_001])


@pytest.mark.parametrize(
    ("body", "inputs"),
    [
        ({"input": "a"}, ["a"]),
        ({"input": ["a", "b"], "encoding_format": "base64", "dimensions": 3, "user": "u"}, ["a", "b"]),
        ({"input": [1, 2], "encoding_format": "float"}, [[1, 2]]),
        ({"input": [[1], [2, 3]], "encoding_format": None, "dimensions": None}, [[1], [2, 3]]),
    ],
)
def test_inputs_are_a_list(body: dict[str, Any], inputs: list[Any]) -> None:
    assert EmbeddingRequest.model_validate({"model": "m", **body}).inputs == inputs


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": ["a", ""]}, "input.1"),
        ({"input": []}, "input"),
        ({"input": [[]]}, "input.0"),
        ({"input": [[1], ["a"]]}, "input.1.0"),
        ({"input": [1, -1]}, "input.1"),
        ({"input": None}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "size": 1}, "size"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_invalid_texts_are_named(body: dict[str, Any], param: str) -> None:
    with pytest.raises(ValidationError) as caught:
        EmbeddingRequest.model_validate({"model": "m", **body})
    assert EngineError.from_validation_error(caught.value).param == param


def test_every_field_of_openais_documentation_is_known() -> None:
    assert set(EmbeddingCreateParams.__annotations__) == set(EmbeddingRequest.model_fields)


def test_json_schemas_can_be_written() -> None:
    for model in (EmbeddingRequest, PredictionRequest):
        assert json.dumps(model.model_json_schema())
