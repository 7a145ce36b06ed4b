from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import httpx

from ...client import AuthenticatedClient, Client
from ...models.checkpoint_out import CheckpointOut
from ...models.checkpoint_update_in import CheckpointUpdateIn
from ...models.error_out import ErrorOut
from ...types import Response


def _get_kwargs(
    job_id: str,
    checkpoint_id: str,
    *,
    body: CheckpointUpdateIn,
) -> dict[str, Any]:
    headers: dict[str, Any] = {}

    _kwargs: dict[str, Any] = {
        "method": "post",
        "url": "/v1/fine_tuning/jobs/{job_id}/checkpoints/{checkpoint_id}".format(
            job_id=quote(str(job_id), safe=""),
            checkpoint_id=quote(str(checkpoint_id), safe=""),
        ),
    }

    _kwargs["json"] = body.to_dict()

    headers["Content-Type"] = "application/json"

    _kwargs["headers"] = headers
    return _kwargs


def _parse_response(*, client: AuthenticatedClient | Client, response: httpx.Response) -> CheckpointOut | ErrorOut:
    if response.status_code == 200:
        response_200 = CheckpointOut.from_dict(response.json())

        return response_200

    if response.status_code == 400:
        response_400 = ErrorOut.from_dict(response.json())

        return response_400

    if response.status_code == 401:
        response_401 = ErrorOut.from_dict(response.json())

        return response_401

    if response.status_code == 403:
        response_403 = ErrorOut.from_dict(response.json())

        return response_403

    if response.status_code == 404:
        response_404 = ErrorOut.from_dict(response.json())

        return response_404

    if response.status_code == 413:
        response_413 = ErrorOut.from_dict(response.json())

        return response_413

    if response.status_code == 429:
        response_429 = ErrorOut.from_dict(response.json())

        return response_429

    if response.status_code == 500:
        response_500 = ErrorOut.from_dict(response.json())

        return response_500

    if response.status_code == 503:
        response_503 = ErrorOut.from_dict(response.json())

        return response_503

    response_default = ErrorOut.from_dict(response.json())

    return response_default


def _build_response(
    *, client: AuthenticatedClient | Client, response: httpx.Response
) -> Response[CheckpointOut | ErrorOut]:
    return Response(
        status_code=HTTPStatus(response.status_code),
        content=response.content,
        headers=response.headers,
        parsed=_parse_response(client=client, response=response),
    )


def sync_detailed(
    job_id: str,
    checkpoint_id: str,
    *,
    client: AuthenticatedClient,
    body: CheckpointUpdateIn,
) -> Response[CheckpointOut | ErrorOut]:
    """Update Checkpoint

     Set the lifetime of a checkpoint from now on. With null, it does not expire.

    Args:
        job_id (str):
        checkpoint_id (str):
        body (CheckpointUpdateIn): Changes to a checkpoint.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[CheckpointOut | ErrorOut]
    """

    kwargs = _get_kwargs(
        job_id=job_id,
        checkpoint_id=checkpoint_id,
        body=body,
    )

    response = client.get_httpx_client().request(
        **kwargs,
    )

    return _build_response(client=client, response=response)


def sync(
    job_id: str,
    checkpoint_id: str,
    *,
    client: AuthenticatedClient,
    body: CheckpointUpdateIn,
) -> CheckpointOut | ErrorOut | None:
    """Update Checkpoint

     Set the lifetime of a checkpoint from now on. With null, it does not expire.

    Args:
        job_id (str):
        checkpoint_id (str):
        body (CheckpointUpdateIn): Changes to a checkpoint.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        CheckpointOut | ErrorOut
    """

    return sync_detailed(
        job_id=job_id,
        checkpoint_id=checkpoint_id,
        client=client,
        body=body,
    ).parsed


async def asyncio_detailed(
    job_id: str,
    checkpoint_id: str,
    *,
    client: AuthenticatedClient,
    body: CheckpointUpdateIn,
) -> Response[CheckpointOut | ErrorOut]:
    """Update Checkpoint

     Set the lifetime of a checkpoint from now on. With null, it does not expire.

    Args:
        job_id (str):
        checkpoint_id (str):
        body (CheckpointUpdateIn): Changes to a checkpoint.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[CheckpointOut | ErrorOut]
    """

    kwargs = _get_kwargs(
        job_id=job_id,
        checkpoint_id=checkpoint_id,
        body=body,
    )

    response = await client.get_async_httpx_client().request(**kwargs)

    return _build_response(client=client, response=response)


async def asyncio(
    job_id: str,
    checkpoint_id: str,
    *,
    client: AuthenticatedClient,
    body: CheckpointUpdateIn,
) -> CheckpointOut | ErrorOut | None:
    """Update Checkpoint

     Set the lifetime of a checkpoint from now on. With null, it does not expire.

    Args:
        job_id (str):
        checkpoint_id (str):
        body (CheckpointUpdateIn): Changes to a checkpoint.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        CheckpointOut | ErrorOut
    """

    return (
        await asyncio_detailed(
            job_id=job_id,
            checkpoint_id=checkpoint_id,
            client=client,
            body=body,
        )
    ).parsed
