from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import httpx

from ...client import AuthenticatedClient, Client
from ...models.error_out import ErrorOut
from ...models.list_checkpoint_permissions_order import (
    ListCheckpointPermissionsOrder,
)
from ...models.list_out_permission_out import ListOutPermissionOut
from ...types import UNSET, Response, Unset


def _get_kwargs(
    checkpoint: str,
    *,
    project_id: None | str | Unset = UNSET,
    limit: int | Unset = 10,
    order: ListCheckpointPermissionsOrder | Unset = "descending",
    after: None | str | Unset = UNSET,
) -> dict[str, Any]:

    params: dict[str, Any] = {}

    json_project_id: None | str | Unset
    if isinstance(project_id, Unset):
        json_project_id = UNSET
    else:
        json_project_id = project_id
    params["project_id"] = json_project_id

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
        "url": "/v1/fine_tuning/checkpoints/{checkpoint}/permissions".format(
            checkpoint=quote(str(checkpoint), safe=""),
        ),
        "params": params,
    }

    return _kwargs


def _parse_response(
    *, client: AuthenticatedClient | Client, response: httpx.Response
) -> ErrorOut | ListOutPermissionOut:
    if response.status_code == 200:
        response_200 = ListOutPermissionOut.from_dict(response.json())

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
) -> Response[ErrorOut | ListOutPermissionOut]:
    return Response(
        status_code=HTTPStatus(response.status_code),
        content=response.content,
        headers=response.headers,
        parsed=_parse_response(client=client, response=response),
    )


def sync_detailed(
    checkpoint: str,
    *,
    client: AuthenticatedClient,
    project_id: None | str | Unset = UNSET,
    limit: int | Unset = 10,
    order: ListCheckpointPermissionsOrder | Unset = "descending",
    after: None | str | Unset = UNSET,
) -> Response[ErrorOut | ListOutPermissionOut]:
    """List Checkpoint Permissions

     List the permissions for a checkpoint, newest first.

    Args:
        checkpoint (str):
        project_id (None | str | Unset): Only this project's permission.
        limit (int | Unset): Maximum number of objects per page. Default: 10.
        order (ListCheckpointPermissionsOrder | Unset):  Default: 'descending'.
        after (None | str | Unset): Id of the last object of the previous page.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[ErrorOut | ListOutPermissionOut]
    """

    kwargs = _get_kwargs(
        checkpoint=checkpoint,
        project_id=project_id,
        limit=limit,
        order=order,
        after=after,
    )

    response = client.get_httpx_client().request(
        **kwargs,
    )

    return _build_response(client=client, response=response)


def sync(
    checkpoint: str,
    *,
    client: AuthenticatedClient,
    project_id: None | str | Unset = UNSET,
    limit: int | Unset = 10,
    order: ListCheckpointPermissionsOrder | Unset = "descending",
    after: None | str | Unset = UNSET,
) -> ErrorOut | ListOutPermissionOut | None:
    """List Checkpoint Permissions

     List the permissions for a checkpoint, newest first.

    Args:
        checkpoint (str):
        project_id (None | str | Unset): Only this project's permission.
        limit (int | Unset): Maximum number of objects per page. Default: 10.
        order (ListCheckpointPermissionsOrder | Unset):  Default: 'descending'.
        after (None | str | Unset): Id of the last object of the previous page.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        ErrorOut | ListOutPermissionOut
    """

    return sync_detailed(
        checkpoint=checkpoint,
        client=client,
        project_id=project_id,
        limit=limit,
        order=order,
        after=after,
    ).parsed


async def asyncio_detailed(
    checkpoint: str,
    *,
    client: AuthenticatedClient,
    project_id: None | str | Unset = UNSET,
    limit: int | Unset = 10,
    order: ListCheckpointPermissionsOrder | Unset = "descending",
    after: None | str | Unset = UNSET,
) -> Response[ErrorOut | ListOutPermissionOut]:
    """List Checkpoint Permissions

     List the permissions for a checkpoint, newest first.

    Args:
        checkpoint (str):
        project_id (None | str | Unset): Only this project's permission.
        limit (int | Unset): Maximum number of objects per page. Default: 10.
        order (ListCheckpointPermissionsOrder | Unset):  Default: 'descending'.
        after (None | str | Unset): Id of the last object of the previous page.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[ErrorOut | ListOutPermissionOut]
    """

    kwargs = _get_kwargs(
        checkpoint=checkpoint,
        project_id=project_id,
        limit=limit,
        order=order,
        after=after,
    )

    response = await client.get_async_httpx_client().request(**kwargs)

    return _build_response(client=client, response=response)


async def asyncio(
    checkpoint: str,
    *,
    client: AuthenticatedClient,
    project_id: None | str | Unset = UNSET,
    limit: int | Unset = 10,
    order: ListCheckpointPermissionsOrder | Unset = "descending",
    after: None | str | Unset = UNSET,
) -> ErrorOut | ListOutPermissionOut | None:
    """List Checkpoint Permissions

     List the permissions for a checkpoint, newest first.

    Args:
        checkpoint (str):
        project_id (None | str | Unset): Only this project's permission.
        limit (int | Unset): Maximum number of objects per page. Default: 10.
        order (ListCheckpointPermissionsOrder | Unset):  Default: 'descending'.
        after (None | str | Unset): Id of the last object of the previous page.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        ErrorOut | ListOutPermissionOut
    """

    return (
        await asyncio_detailed(
            checkpoint=checkpoint,
            client=client,
            project_id=project_id,
            limit=limit,
            order=order,
            after=after,
        )
    ).parsed
