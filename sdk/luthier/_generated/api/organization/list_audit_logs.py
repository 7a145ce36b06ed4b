from http import HTTPStatus
from typing import Any

import httpx

from ...client import AuthenticatedClient, Client
from ...models.error_out import ErrorOut
from ...models.list_out_audit_out import ListOutAuditOut
from ...types import UNSET, Response, Unset


def _get_kwargs(
    *,
    effective_atgt: int | None | Unset = UNSET,
    effective_atgte: int | None | Unset = UNSET,
    effective_atlt: int | None | Unset = UNSET,
    effective_atlte: int | None | Unset = UNSET,
    project_ids: list[str] | Unset = UNSET,
    event_types: list[str] | Unset = UNSET,
    actor_ids: list[str] | Unset = UNSET,
    resource_ids: list[str] | Unset = UNSET,
    limit: int | Unset = 20,
    after: None | str | Unset = UNSET,
) -> dict[str, Any]:

    params: dict[str, Any] = {}

    json_effective_atgt: int | None | Unset
    if isinstance(effective_atgt, Unset):
        json_effective_atgt = UNSET
    else:
        json_effective_atgt = effective_atgt
    params["effective_at[gt]"] = json_effective_atgt

    json_effective_atgte: int | None | Unset
    if isinstance(effective_atgte, Unset):
        json_effective_atgte = UNSET
    else:
        json_effective_atgte = effective_atgte
    params["effective_at[gte]"] = json_effective_atgte

    json_effective_atlt: int | None | Unset
    if isinstance(effective_atlt, Unset):
        json_effective_atlt = UNSET
    else:
        json_effective_atlt = effective_atlt
    params["effective_at[lt]"] = json_effective_atlt

    json_effective_atlte: int | None | Unset
    if isinstance(effective_atlte, Unset):
        json_effective_atlte = UNSET
    else:
        json_effective_atlte = effective_atlte
    params["effective_at[lte]"] = json_effective_atlte

    json_project_ids: list[str] | Unset = UNSET
    if not isinstance(project_ids, Unset):
        json_project_ids = project_ids

    params["project_ids[]"] = json_project_ids

    json_event_types: list[str] | Unset = UNSET
    if not isinstance(event_types, Unset):
        json_event_types = event_types

    params["event_types[]"] = json_event_types

    json_actor_ids: list[str] | Unset = UNSET
    if not isinstance(actor_ids, Unset):
        json_actor_ids = actor_ids

    params["actor_ids[]"] = json_actor_ids

    json_resource_ids: list[str] | Unset = UNSET
    if not isinstance(resource_ids, Unset):
        json_resource_ids = resource_ids

    params["resource_ids[]"] = json_resource_ids

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
        "url": "/v1/organization/audit_logs",
        "params": params,
    }

    return _kwargs


def _parse_response(*, client: AuthenticatedClient | Client, response: httpx.Response) -> ErrorOut | ListOutAuditOut:
    if response.status_code == 200:
        response_200 = ListOutAuditOut.from_dict(response.json())

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
) -> Response[ErrorOut | ListOutAuditOut]:
    return Response(
        status_code=HTTPStatus(response.status_code),
        content=response.content,
        headers=response.headers,
        parsed=_parse_response(client=client, response=response),
    )


def sync_detailed(
    *,
    client: AuthenticatedClient,
    effective_atgt: int | None | Unset = UNSET,
    effective_atgte: int | None | Unset = UNSET,
    effective_atlt: int | None | Unset = UNSET,
    effective_atlte: int | None | Unset = UNSET,
    project_ids: list[str] | Unset = UNSET,
    event_types: list[str] | Unset = UNSET,
    actor_ids: list[str] | Unset = UNSET,
    resource_ids: list[str] | Unset = UNSET,
    limit: int | Unset = 20,
    after: None | str | Unset = UNSET,
) -> Response[ErrorOut | ListOutAuditOut]:
    """List Audit Logs

     List all changes by keys of the organization, newest first.

    Args:
        effective_atgt (int | None | Unset): Changes after this second.
        effective_atgte (int | None | Unset): Changes in this second or later.
        effective_atlt (int | None | Unset): Changes before this second.
        effective_atlte (int | None | Unset): Changes in this second or earlier.
        project_ids (list[str] | Unset): Only changes by keys of these projects.
        event_types (list[str] | Unset): Only these types, such as `file.deleted`.
        actor_ids (list[str] | Unset): Only changes by these keys.
        resource_ids (list[str] | Unset): Only changes to objects with these ids.
        limit (int | Unset): Maximum number of objects per page. Default: 20.
        after (None | str | Unset): Id of the last object of the previous page.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[ErrorOut | ListOutAuditOut]
    """

    kwargs = _get_kwargs(
        effective_atgt=effective_atgt,
        effective_atgte=effective_atgte,
        effective_atlt=effective_atlt,
        effective_atlte=effective_atlte,
        project_ids=project_ids,
        event_types=event_types,
        actor_ids=actor_ids,
        resource_ids=resource_ids,
        limit=limit,
        after=after,
    )

    response = client.get_httpx_client().request(
        **kwargs,
    )

    return _build_response(client=client, response=response)


def sync(
    *,
    client: AuthenticatedClient,
    effective_atgt: int | None | Unset = UNSET,
    effective_atgte: int | None | Unset = UNSET,
    effective_atlt: int | None | Unset = UNSET,
    effective_atlte: int | None | Unset = UNSET,
    project_ids: list[str] | Unset = UNSET,
    event_types: list[str] | Unset = UNSET,
    actor_ids: list[str] | Unset = UNSET,
    resource_ids: list[str] | Unset = UNSET,
    limit: int | Unset = 20,
    after: None | str | Unset = UNSET,
) -> ErrorOut | ListOutAuditOut | None:
    """List Audit Logs

     List all changes by keys of the organization, newest first.

    Args:
        effective_atgt (int | None | Unset): Changes after this second.
        effective_atgte (int | None | Unset): Changes in this second or later.
        effective_atlt (int | None | Unset): Changes before this second.
        effective_atlte (int | None | Unset): Changes in this second or earlier.
        project_ids (list[str] | Unset): Only changes by keys of these projects.
        event_types (list[str] | Unset): Only these types, such as `file.deleted`.
        actor_ids (list[str] | Unset): Only changes by these keys.
        resource_ids (list[str] | Unset): Only changes to objects with these ids.
        limit (int | Unset): Maximum number of objects per page. Default: 20.
        after (None | str | Unset): Id of the last object of the previous page.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        ErrorOut | ListOutAuditOut
    """

    return sync_detailed(
        client=client,
        effective_atgt=effective_atgt,
        effective_atgte=effective_atgte,
        effective_atlt=effective_atlt,
        effective_atlte=effective_atlte,
        project_ids=project_ids,
        event_types=event_types,
        actor_ids=actor_ids,
        resource_ids=resource_ids,
        limit=limit,
        after=after,
    ).parsed


async def asyncio_detailed(
    *,
    client: AuthenticatedClient,
    effective_atgt: int | None | Unset = UNSET,
    effective_atgte: int | None | Unset = UNSET,
    effective_atlt: int | None | Unset = UNSET,
    effective_atlte: int | None | Unset = UNSET,
    project_ids: list[str] | Unset = UNSET,
    event_types: list[str] | Unset = UNSET,
    actor_ids: list[str] | Unset = UNSET,
    resource_ids: list[str] | Unset = UNSET,
    limit: int | Unset = 20,
    after: None | str | Unset = UNSET,
) -> Response[ErrorOut | ListOutAuditOut]:
    """List Audit Logs

     List all changes by keys of the organization, newest first.

    Args:
        effective_atgt (int | None | Unset): Changes after this second.
        effective_atgte (int | None | Unset): Changes in this second or later.
        effective_atlt (int | None | Unset): Changes before this second.
        effective_atlte (int | None | Unset): Changes in this second or earlier.
        project_ids (list[str] | Unset): Only changes by keys of these projects.
        event_types (list[str] | Unset): Only these types, such as `file.deleted`.
        actor_ids (list[str] | Unset): Only changes by these keys.
        resource_ids (list[str] | Unset): Only changes to objects with these ids.
        limit (int | Unset): Maximum number of objects per page. Default: 20.
        after (None | str | Unset): Id of the last object of the previous page.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[ErrorOut | ListOutAuditOut]
    """

    kwargs = _get_kwargs(
        effective_atgt=effective_atgt,
        effective_atgte=effective_atgte,
        effective_atlt=effective_atlt,
        effective_atlte=effective_atlte,
        project_ids=project_ids,
        event_types=event_types,
        actor_ids=actor_ids,
        resource_ids=resource_ids,
        limit=limit,
        after=after,
    )

    response = await client.get_async_httpx_client().request(**kwargs)

    return _build_response(client=client, response=response)


async def asyncio(
    *,
    client: AuthenticatedClient,
    effective_atgt: int | None | Unset = UNSET,
    effective_atgte: int | None | Unset = UNSET,
    effective_atlt: int | None | Unset = UNSET,
    effective_atlte: int | None | Unset = UNSET,
    project_ids: list[str] | Unset = UNSET,
    event_types: list[str] | Unset = UNSET,
    actor_ids: list[str] | Unset = UNSET,
    resource_ids: list[str] | Unset = UNSET,
    limit: int | Unset = 20,
    after: None | str | Unset = UNSET,
) -> ErrorOut | ListOutAuditOut | None:
    """List Audit Logs

     List all changes by keys of the organization, newest first.

    Args:
        effective_atgt (int | None | Unset): Changes after this second.
        effective_atgte (int | None | Unset): Changes in this second or later.
        effective_atlt (int | None | Unset): Changes before this second.
        effective_atlte (int | None | Unset): Changes in this second or earlier.
        project_ids (list[str] | Unset): Only changes by keys of these projects.
        event_types (list[str] | Unset): Only these types, such as `file.deleted`.
        actor_ids (list[str] | Unset): Only changes by these keys.
        resource_ids (list[str] | Unset): Only changes to objects with these ids.
        limit (int | Unset): Maximum number of objects per page. Default: 20.
        after (None | str | Unset): Id of the last object of the previous page.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        ErrorOut | ListOutAuditOut
    """

    return (
        await asyncio_detailed(
            client=client,
            effective_atgt=effective_atgt,
            effective_atgte=effective_atgte,
            effective_atlt=effective_atlt,
            effective_atlte=effective_atlte,
            project_ids=project_ids,
            event_types=event_types,
            actor_ids=actor_ids,
            resource_ids=resource_ids,
            limit=limit,
            after=after,
        )
    ).parsed
