"""Checks of files and uploads."""

from __future__ import annotations

import hashlib
import time

import openai

from tests.conformance.client.context import CheckContext, raises, requires

ROW = '{"messages": [{"role": "user", "content": "größer"}, {"role": "assistant", "content": "als"}]}\n'.encode()


def check_file_round_trip(context: CheckContext) -> None:
    client = context.get_client()
    file = client.files.create(file=("größe.jsonl", ROW), purpose="fine-tune")
    assert file.id.startswith("file-")
    assert (file.filename, file.bytes, file.purpose) == ("größe.jsonl", len(ROW), "fine-tune")
    assert client.files.retrieve(file.id).id == file.id
    assert file.id in [listed.id for listed in client.files.list(purpose="fine-tune")]
    assert file.id not in [listed.id for listed in client.files.list(purpose="batch")]
    deleted = client.files.delete(file.id)
    assert (deleted.id, deleted.deleted) == (file.id, True)
    with raises(openai.NotFoundError) as raised:
        client.files.retrieve(file.id)
    raised.assert_matches(404, None, "file_id")


def check_bytes_without_a_name_are_called_upload(context: CheckContext) -> None:
    assert context.get_client().files.create(file=ROW, purpose="fine-tune").filename == "upload"


@requires("files.content")
def check_file_content(context: CheckContext) -> None:
    client = context.get_client()
    file = client.files.create(file=("rows.jsonl", ROW * 1000), purpose="fine-tune")
    assert client.files.content(file.id).content == ROW * 1000


@requires("files.with_streaming_response")
def check_file_content_streamed(context: CheckContext) -> None:
    client = context.get_client()
    file = client.files.create(file=("rows.jsonl", ROW * 5000), purpose="fine-tune")
    with client.files.with_streaming_response.content(file.id) as response:
        assert b"".join(response.iter_bytes(chunk_size=4096)) == ROW * 5000


@requires("files.wait_for_processing")
def check_wait_for_processing_does_not_wait(context: CheckContext) -> None:
    client = context.get_client()
    file = client.files.create(file=("rows.jsonl", ROW), purpose="fine-tune")
    start = time.monotonic()
    assert client.files.wait_for_processing(file.id).status == "processed"
    assert time.monotonic() - start < 4, "the helper polls every 5 s"


@requires("files.list(order)", "files.list(after)")
def check_files_in_both_orders(context: CheckContext) -> None:
    client = context.get_client()
    ids = [client.files.create(file=(f"{n}.jsonl", ROW), purpose="user_data").id for n in range(5)]
    ascending = [file.id for file in client.files.list(purpose="user_data", order="asc", limit=2)]
    descending = [file.id for file in client.files.list(purpose="user_data", order="desc", limit=2)]
    assert ascending == descending[::-1]
    assert [file_id for file_id in ascending if file_id in ids] == ids


@requires("files.create(expires_after)")
def check_a_file_that_expires(context: CheckContext) -> None:
    expires = {"anchor": "created_at", "seconds": 3600}
    file = context.get_client().files.create(file=("a.jsonl", ROW), purpose="user_data", expires_after=expires)
    assert file.expires_at == file.created_at + 3600


@requires("uploads.parts.create")
def check_upload_by_hand(context: CheckContext) -> None:
    client = context.get_client()
    data = ROW * 50
    upload = client.uploads.create(
        bytes=len(data), filename="parts.jsonl", mime_type="application/jsonl", purpose="fine-tune"
    )
    assert (upload.status, upload.file) == ("pending", None)
    # The second part first: the completion states the order.
    second = client.uploads.parts.create(upload.id, data=data[1000:]).id
    first = client.uploads.parts.create(upload.id, data=data[:1000]).id
    completed = client.uploads.complete(upload.id, part_ids=[first, second], md5=hashlib.md5(data).hexdigest())
    assert completed.status == "completed"
    assert client.files.content(completed.file.id).content == data


@requires("uploads.upload_file_chunked")
def check_upload_file_chunked(context: CheckContext) -> None:
    client = context.get_client()
    data = ROW * 100
    completed = client.uploads.upload_file_chunked(
        file=data,
        filename="c.jsonl",
        bytes=len(data),
        mime_type="application/jsonl",
        purpose="fine-tune",
        part_size=999,
    )
    assert completed.status == "completed"
    assert client.files.content(completed.file.id).content == data


@requires("uploads.cancel")
def check_upload_cancelled(context: CheckContext) -> None:
    client = context.get_client()
    upload = client.uploads.create(bytes=10, filename="n.jsonl", mime_type="application/jsonl", purpose="fine-tune")
    assert client.uploads.cancel(upload.id).status == "cancelled"
    with raises(openai.BadRequestError):
        client.uploads.parts.create(upload.id, data=b"0123456789")
