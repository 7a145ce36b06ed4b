"""Known differences: the clients' own tests that fail against Luthier, and the reasons.

These tests run too, and must fail for the stated reason. They send all fields together with values
generated from the schema; no server can serve some of these requests. Each entry is ``(pattern,
message, reason)``: ``pattern`` matches a test's name with its parameters in parentheses, and the
failure contains ``message``. The first matching pattern applies.
"""

from __future__ import annotations

_NOT_STORED = "Luthier does not store completions, so it cannot retrieve, list, update or delete them"
_RESPONSES_API = "a batch for /v1/responses, which Luthier does not support"
_NO_HOST = "the URL is 'https://', and a webhook requires a host"
_BASE64 = "the strict client rejects the base64 that it requested before it decodes it"
_ROLES = "keys have one of four roles instead of scopes, and are revoked instead of updated"
_RESIDENCY = "requests an external key, a geography and a residency; data stays on the operator's machines"
_STREAM_OPTIONS = "requests usage at the end of a stream without a stream"
_CHAT_LOGIT_BIAS = "biases 'foo', which is not a token id; also requests web search, moderation and storage"
_TEXT_LOGIT_BIAS = "biases 'foo', which is not a token id; also requests a suffix"

DIFFERENCES: list[tuple[str, str, str]] = [
    ("chat/test_completions.py::*_create_with_all_params_overload_1(*)", "'stream_options'", _STREAM_OPTIONS),
    ("chat/test_completions.py::*_create_with_all_params_overload_2(*)", "'logit_bias.foo'", _CHAT_LOGIT_BIAS),
    ("chat/test_completions.py::*::test_*_list*(*)", "This URL does not support this method", _NOT_STORED),
    *(
        (f"chat/test_completions.py::*::test_[!p]*_{verb}(*)", "This URL does not exist", _NOT_STORED)
        for verb in ("retrieve", "update", "delete")
    ),
    ("/test_completions.py::*_create_with_all_params_overload_1(*)", "'stream_options'", _STREAM_OPTIONS),
    ("/test_completions.py::*_create_with_all_params_overload_2(*)", "'logit_bias.foo'", _TEXT_LOGIT_BIAS),
    ("test_embeddings.py::*_create(strict)", "invalid for expected schema", _BASE64),
    ("test_embeddings.py::*_create(aiohttp)", "invalid for expected schema", _BASE64),
    ("test_batches.py::*::test_[!p]*_create*(*)", "Invalid 'endpoint'", _RESPONSES_API),
    (
        "test_uploads.py::*_complete_with_all_params(*)",
        "The MD5 of the parts in this order differs",
        "the md5 is 'md5', which no data can have",
    ),
    ("test_webhooks.py::*::test_[!p]*_create(*)", "The URL's host", _NO_HOST),
    ("test_webhooks.py::*_update_with_all_params(*)", "The URL's host", _NO_HOST),
    (
        "organization/test_projects.py::*::test_method_[!l]*_with_all_params(*)",
        "'external_key_id' is not supported",
        _RESIDENCY,
    ),
    ("projects/test_api_keys.py::*::test_[!p]*_update*(*)", "This URL does not support this method", _ROLES),
]
