"""What of the clients' own tests fails against Luthier, and why: each is run all the same, and held to its reason.

The client's tests send every field at once with values made up from the schema; some of these requests no server can
do. ``(pattern, said, why)``: the pattern is of a test's name with its parameters in parentheses, ``said`` stands in the
failure. The first pattern that fits counts.
"""

from __future__ import annotations

_NOT_STORED = "completions are not kept: there is nothing to retrieve, list, change or delete"
_RESPONSES_API = "batches of /v1/responses, which Luthier does not have"
_NO_HOST = "the URL is 'https://', which leads nowhere; a webhook needs a host"
_BASE64 = "the strict client refuses the base64 that it asked for before it decodes it"
_ROLES = "keys have one of four roles, no scopes, and are not changed but revoked"
_RESIDENCY = "asks for an external key, a geography and a residency: data stays on the operator's machines"
_STREAM_OPTIONS = "asks for usage at the end of a stream, but for no stream"
_CHAT_LOGIT_BIAS = "biases the token 'foo', no token id; asks for a web search, moderation and to be stored as well"
_TEXT_LOGIT_BIAS = "biases the token 'foo', no token id; asks to end in a suffix as well"

DIFFERENCES: list[tuple[str, str, str]] = [
    ("chat/test_completions.py::*_create_with_all_params_overload_1(*)", "'stream_options'", _STREAM_OPTIONS),
    ("chat/test_completions.py::*_create_with_all_params_overload_2(*)", "'logit_bias.foo'", _CHAT_LOGIT_BIAS),
    ("chat/test_completions.py::*::test_*_list*(*)", "This URL does not take this method", _NOT_STORED),
    *(
        (f"chat/test_completions.py::*::test_[!p]*_{verb}(*)", "There is no such URL", _NOT_STORED)
        for verb in ("retrieve", "update", "delete")
    ),
    ("/test_completions.py::*_create_with_all_params_overload_1(*)", "'stream_options'", _STREAM_OPTIONS),
    ("/test_completions.py::*_create_with_all_params_overload_2(*)", "'logit_bias.foo'", _TEXT_LOGIT_BIAS),
    ("test_embeddings.py::*_create(strict)", "invalid for expected schema", _BASE64),
    ("test_embeddings.py::*_create(aiohttp)", "invalid for expected schema", _BASE64),
    ("test_batches.py::*::test_[!p]*_create*(*)", "Invalid 'endpoint'", _RESPONSES_API),
    ("test_uploads.py::*_complete_with_all_params(*)", "have another md5", "the md5 is 'md5', which no bytes have"),
    ("test_webhooks.py::*::test_[!p]*_create(*)", "The URL's host", _NO_HOST),
    ("test_webhooks.py::*_update_with_all_params(*)", "The URL's host", _NO_HOST),
    (
        "organization/test_projects.py::*::test_method_[!l]*_with_all_params(*)",
        "'external_key_id' is not supported",
        _RESIDENCY,
    ),
    ("projects/test_api_keys.py::*::test_[!p]*_update*(*)", "This URL does not take this method", _ROLES),
]
