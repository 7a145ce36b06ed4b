from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import httpx

from ...client import AuthenticatedClient, Client
from ...models.error_out import ErrorOut
from ...models.list_out_permission_out import ListOutPermissionOut
from ...models.permissions_in import PermissionsIn
from ...types import Response


def _get_kwargs(
    checkpoint: str,
    *,
    body: PermissionsIn,
) -> dict[str, Any]:
    headers: dict[str, Any] = {}

    _kwargs: dict[str, Any] = {
        "method": "post",
        "url": "/v1/fine_tuning/checkpoints/{checkpoint}/permissions".format(
            checkpoint=quote(str(checkpoint), safe=""),
        ),
    }

    _kwargs["json"] = body.to_dict()

    headers["Content-Type"] = "application/json"

    _kwargs["headers"] = headers
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
    body: PermissionsIn,
) -> Response[ErrorOut | ListOutPermissionOut]:
    """Create Checkpoint Permissions

     Allow projects of the organization to use a checkpoint or a fine-tuned model.

    Permissions that already exist are returned unchanged.

    Args:
        checkpoint (str):
        body (PermissionsIn): Projects of the same organization that may use the checkpoint.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[ErrorOut | ListOutPermissionOut]
    """

    kwargs = _get_kwargs(
        checkpoint=checkpoint,
        body=body,
    )

    response = client.get_httpx_client().request(
        **kwargs,
    )

    return _build_response(client=client, response=response)


def sync(
    checkpoint: str,
    *,
    client: AuthenticatedClient,
    body: PermissionsIn,
) -> ErrorOut | ListOutPermissionOut | None:
    """Create Checkpoint Permissions

     Allow projects of the organization to use a checkpoint or a fine-tuned model.

    Permissions that already exist are returned unchanged.

    Args:
        checkpoint (str):
        body (PermissionsIn): Projects of the same organization that may use the checkpoint.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        ErrorOut | ListOutPermissionOut
    """

    return sync_detailed(
        checkpoint=checkpoint,
        client=client,
        body=body,
    ).parsed


async def asyncio_detailed(
    checkpoint: str,
    *,
    client: AuthenticatedClient,
    body: PermissionsIn,
) -> Response[ErrorOut | ListOutPermissionOut]:
    """Create Checkpoint Permissions

     Allow projects of the organization to use a checkpoint or a fine-tuned model.

    Permissions that already exist are returned unchanged.

    Args:
        checkpoint (str):
        body (PermissionsIn): Projects of the same organization that may use the checkpoint.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[ErrorOut | ListOutPermissionOut]
    """

    kwargs = _get_kwargs(
        checkpoint=checkpoint,
        body=body,
    )

    response = await client.get_async_httpx_client().request(**kwargs)

    return _build_response(client=client, response=response)


async def asyncio(
    checkpoint: str,
    *,
    client: AuthenticatedClient,
    body: PermissionsIn,
) -> ErrorOut | ListOutPermissionOut | None:
    """Create Checkpoint Permissions

     Allow projects of the organization to use a checkpoint or a fine-tuned model.

    Permissions that already exist are returned unchanged.

    Args:
        checkpoint (str):
        body (PermissionsIn): Projects of the same organization that may use the checkpoint.

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
            body=body,
        )
    ).parsed
