from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import httpx

from ...client import AuthenticatedClient, Client
from ...models.error_out import ErrorOut
from ...models.list_out_checkpoint_out import ListOutCheckpointOut
from ...types import UNSET, Response, Unset


def _get_kwargs(
    job_id: str,
    *,
    limit: int | Unset = 10,
    after: None | str | Unset = UNSET,
) -> dict[str, Any]:

    params: dict[str, Any] = {}

    params["limit"] = limit

    json_after: None | str | Unset
    if isinstance(after, Unset):
        json_after = UNSET
    else:
        json_after = after
    params["after"] = json_after

    params = {k: v for k, v in params.items() if v is not UNSET and v is not None}

    _kwargs: dict[str, Any] = {
        "method": "get",
        "url": "/v1/fine_tuning/jobs/{job_id}/checkpoints".format(
            job_id=quote(str(job_id), safe=""),
        ),
        "params": params,
    }

    return _kwargs


def _parse_response(
    *, client: AuthenticatedClient | Client, response: httpx.Response
) -> ErrorOut | ListOutCheckpointOut:
    if response.status_code == 200:
        response_200 = ListOutCheckpointOut.from_dict(response.json())

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
) -> Response[ErrorOut | ListOutCheckpointOut]:
    return Response(
        status_code=HTTPStatus(response.status_code),
        content=response.content,
        headers=response.headers,
        parsed=_parse_response(client=client, response=response),
    )


def sync_detailed(
    job_id: str,
    *,
    client: AuthenticatedClient,
    limit: int | Unset = 10,
    after: None | str | Unset = UNSET,
) -> Response[ErrorOut | ListOutCheckpointOut]:
    """List Fine Tuning Job Checkpoints

     List the job's checkpoints, newest first. Each can be used as a model.

    Args:
        job_id (str):
        limit (int | Unset): Maximum number of objects per page. Default: 10.
        after (None | str | Unset): Id of the last object of the previous page.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[ErrorOut | ListOutCheckpointOut]
    """

    kwargs = _get_kwargs(
        job_id=job_id,
        limit=limit,
        after=after,
    )

    response = client.get_httpx_client().request(
        **kwargs,
    )

    return _build_response(client=client, response=response)


def sync(
    job_id: str,
    *,
    client: AuthenticatedClient,
    limit: int | Unset = 10,
    after: None | str | Unset = UNSET,
) -> ErrorOut | ListOutCheckpointOut | None:
    """List Fine Tuning Job Checkpoints

     List the job's checkpoints, newest first. Each can be used as a model.

    Args:
        job_id (str):
        limit (int | Unset): Maximum number of objects per page. Default: 10.
        after (None | str | Unset): Id of the last object of the previous page.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        ErrorOut | ListOutCheckpointOut
    """

    return sync_detailed(
        job_id=job_id,
        client=client,
        limit=limit,
        after=after,
    ).parsed


async def asyncio_detailed(
    job_id: str,
    *,
    client: AuthenticatedClient,
    limit: int | Unset = 10,
    after: None | str | Unset = UNSET,
) -> Response[ErrorOut | ListOutCheckpointOut]:
    """List Fine Tuning Job Checkpoints

     List the job's checkpoints, newest first. Each can be used as a model.

    Args:
        job_id (str):
        limit (int | Unset): Maximum number of objects per page. Default: 10.
        after (None | str | Unset): Id of the last object of the previous page.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[ErrorOut | ListOutCheckpointOut]
    """

    kwargs = _get_kwargs(
        job_id=job_id,
        limit=limit,
        after=after,
    )

    response = await client.get_async_httpx_client().request(**kwargs)

    return _build_response(client=client, response=response)


async def asyncio(
    job_id: str,
    *,
    client: AuthenticatedClient,
    limit: int | Unset = 10,
    after: None | str | Unset = UNSET,
) -> ErrorOut | ListOutCheckpointOut | None:
    """List Fine Tuning Job Checkpoints

     List the job's checkpoints, newest first. Each can be used as a model.

    Args:
        job_id (str):
        limit (int | Unset): Maximum number of objects per page. Default: 10.
        after (None | str | Unset): Id of the last object of the previous page.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        ErrorOut | ListOutCheckpointOut
    """

    return (
        await asyncio_detailed(
            job_id=job_id,
            client=client,
            limit=limit,
            after=after,
        )
    ).parsed
