from typing import Literal

BatchInEndpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/predictions"]

BATCH_IN_ENDPOINT_VALUES: set[BatchInEndpoint] = {
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/predictions",
}


def check_batch_in_endpoint(value: str) -> BatchInEndpoint:
    if value in BATCH_IN_ENDPOINT_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {BATCH_IN_ENDPOINT_VALUES!r}")
