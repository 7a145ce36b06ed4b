from typing import Literal

EmbeddingRequestEncodingFormatType0 = Literal["base64", "float"]

EMBEDDING_REQUEST_ENCODING_FORMAT_TYPE_0_VALUES: set[EmbeddingRequestEncodingFormatType0] = {
    "base64",
    "float",
}


def check_embedding_request_encoding_format_type_0(value: str) -> EmbeddingRequestEncodingFormatType0:
    if value in EMBEDDING_REQUEST_ENCODING_FORMAT_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {EMBEDDING_REQUEST_ENCODING_FORMAT_TYPE_0_VALUES!r}")
