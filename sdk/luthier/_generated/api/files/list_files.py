from http import HTTPStatus
from typing import Any

import httpx

from ...client import AuthenticatedClient, Client
from ...models.error_out import ErrorOut
from ...models.list_files_order import ListFilesOrder
from ...models.list_out_file_out import ListOutFileOut
from ...types import UNSET, Response, Unset


def _get_kwargs(
    *,
    purpose: None | str | Unset = UNSET,
    limit: int | Unset = 10000,
    order: ListFilesOrder | Unset = "desc",
    after: None | str | Unset = UNSET,
) -> dict[str, Any]:

    params: dict[str, Any] = {}

    json_purpose: None | str | Unset
    if isinstance(purpose, Unset):
        json_purpose = UNSET
    else:
        json_purpose = purpose
    params["purpose"] = json_purpose

    params["limit"] = limit

    json_order: str | Unset = UNSET
    if not isinstance(order, Unset):
        json_order = order

    params["order"] = json_order

    json_after: None | str | Unset
    if isinstance(after, Unset):
        json_after = UNSET
    else:
        json_after = after
    params["after"] = json_after

    params = {k: v for k, v in params.items() if v is not UNSET and v is not None}

    _kwargs: dict[str, Any] = {
        "method": "get",
        "url": "/v1/files",
        "params": params,
    }

    return _kwargs


def _parse_response(*, client: AuthenticatedClient | Client, response: httpx.Response) -> ErrorOut | ListOutFileOut:
    if response.status_code == 200:
        response_200 = ListOutFileOut.from_dict(response.json())

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
) -> Response[ErrorOut | ListOutFileOut]:
    return Response(
        status_code=HTTPStatus(response.status_code),
        content=response.content,
        headers=response.headers,
        parsed=_parse_response(client=client, response=response),
    )


def sync_detailed(
    *,
    client: AuthenticatedClient,
    purpose: None | str | Unset = UNSET,
    limit: int | Unset = 10000,
    order: ListFilesOrder | Unset = "desc",
    after: None | str | Unset = UNSET,
) -> Response[ErrorOut | ListOutFileOut]:
    """List Files

     List the project's files, newest first.

    Args:
        purpose (None | str | Unset): Only files with this purpose.
        limit (int | Unset): Maximum number of objects per page. Default: 10000.
        order (ListFilesOrder | Unset):  Default: 'desc'.
        after (None | str | Unset): Id of the last object of the previous page.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[ErrorOut | ListOutFileOut]
    """

    kwargs = _get_kwargs(
        purpose=purpose,
        limit=limit,
        order=order,
        after=after,
    )

    response = client.get_httpx_client().request(
        **kwargs,
    )

    return _build_response(client=client, response=response)


def sync(
    *,
    client: AuthenticatedClient,
    purpose: None | str | Unset = UNSET,
    limit: int | Unset = 10000,
    order: ListFilesOrder | Unset = "desc",
    after: None | str | Unset = UNSET,
) -> ErrorOut | ListOutFileOut | None:
    """List Files

     List the project's files, newest first.

    Args:
        purpose (None | str | Unset): Only files with this purpose.
        limit (int | Unset): Maximum number of objects per page. Default: 10000.
        order (ListFilesOrder | Unset):  Default: 'desc'.
        after (None | str | Unset): Id of the last object of the previous page.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        ErrorOut | ListOutFileOut
    """

    return sync_detailed(
        client=client,
        purpose=purpose,
        limit=limit,
        order=order,
        after=after,
    ).parsed


async def asyncio_detailed(
    *,
    client: AuthenticatedClient,
    purpose: None | str | Unset = UNSET,
    limit: int | Unset = 10000,
    order: ListFilesOrder | Unset = "desc",
    after: None | str | Unset = UNSET,
) -> Response[ErrorOut | ListOutFileOut]:
    """List Files

     List the project's files, newest first.

    Args:
        purpose (None | str | Unset): Only files with this purpose.
        limit (int | Unset): Maximum number of objects per page. Default: 10000.
        order (ListFilesOrder | Unset):  Default: 'desc'.
        after (None | str | Unset): Id of the last object of the previous page.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[ErrorOut | ListOutFileOut]
    """

    kwargs = _get_kwargs(
        purpose=purpose,
        limit=limit,
        order=order,
        after=after,
    )

    response = await client.get_async_httpx_client().request(**kwargs)

    return _build_response(client=client, response=response)


async def asyncio(
    *,
    client: AuthenticatedClient,
    purpose: None | str | Unset = UNSET,
    limit: int | Unset = 10000,
    order: ListFilesOrder | Unset = "desc",
    after: None | str | Unset = UNSET,
) -> ErrorOut | ListOutFileOut | None:
    """List Files

     List the project's files, newest first.

    Args:
        purpose (None | str | Unset): Only files with this purpose.
        limit (int | Unset): Maximum number of objects per page. Default: 10000.
        order (ListFilesOrder | Unset):  Default: 'desc'.
        after (None | str | Unset): Id of the last object of the previous page.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        ErrorOut | ListOutFileOut
    """

    return (
        await asyncio_detailed(
            client=client,
            purpose=purpose,
            limit=limit,
            order=order,
            after=after,
        )
    ).parsed
