from http import HTTPStatus
from typing import Any

import httpx

from ...client import AuthenticatedClient, Client
from ...models.error_out import ErrorOut
from ...models.retrieve_usage_group_by_item import (
    RetrieveUsageGroupByItem,
)
from ...models.retrieve_usage_kinds_item import (
    RetrieveUsageKindsItem,
)
from ...models.usage_page import UsagePage
from ...types import UNSET, Response, Unset


def _get_kwargs(
    *,
    start_time: int,
    end_time: int | None | Unset = UNSET,
    group_by: list[RetrieveUsageGroupByItem] | Unset = UNSET,
    project_ids: list[str] | Unset = UNSET,
    api_key_ids: list[str] | Unset = UNSET,
    models: list[str] | Unset = UNSET,
    kinds: list[RetrieveUsageKindsItem] | Unset = UNSET,
    limit: int | Unset = 7,
    page: None | str | Unset = UNSET,
) -> dict[str, Any]:

    params: dict[str, Any] = {}

    params["start_time"] = start_time

    json_end_time: int | None | Unset
    if isinstance(end_time, Unset):
        json_end_time = UNSET
    else:
        json_end_time = end_time
    params["end_time"] = json_end_time

    json_group_by: list[str] | Unset = UNSET
    if not isinstance(group_by, Unset):
        json_group_by = []
        for group_by_item_data in group_by:
            group_by_item: str = group_by_item_data
            json_group_by.append(group_by_item)

    params["group_by[]"] = json_group_by

    json_project_ids: list[str] | Unset = UNSET
    if not isinstance(project_ids, Unset):
        json_project_ids = project_ids

    params["project_ids[]"] = json_project_ids

    json_api_key_ids: list[str] | Unset = UNSET
    if not isinstance(api_key_ids, Unset):
        json_api_key_ids = api_key_ids

    params["api_key_ids[]"] = json_api_key_ids

    json_models: list[str] | Unset = UNSET
    if not isinstance(models, Unset):
        json_models = models

    params["models[]"] = json_models

    json_kinds: list[str] | Unset = UNSET
    if not isinstance(kinds, Unset):
        json_kinds = []
        for kinds_item_data in kinds:
            kinds_item: str = kinds_item_data
            json_kinds.append(kinds_item)

    params["kinds[]"] = json_kinds

    params["limit"] = limit

    json_page: None | str | Unset
    if isinstance(page, Unset):
        json_page = UNSET
    else:
        json_page = page
    params["page"] = json_page

    params = {k: v for k, v in params.items() if v is not UNSET and v is not None}

    _kwargs: dict[str, Any] = {
        "method": "get",
        "url": "/v1/organization/usage",
        "params": params,
    }

    return _kwargs


def _parse_response(*, client: AuthenticatedClient | Client, response: httpx.Response) -> ErrorOut | UsagePage:
    if response.status_code == 200:
        response_200 = UsagePage.from_dict(response.json())

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
) -> Response[ErrorOut | UsagePage]:
    return Response(
        status_code=HTTPStatus(response.status_code),
        content=response.content,
        headers=response.headers,
        parsed=_parse_response(client=client, response=response),
    )


def sync_detailed(
    *,
    client: AuthenticatedClient,
    start_time: int,
    end_time: int | None | Unset = UNSET,
    group_by: list[RetrieveUsageGroupByItem] | Unset = UNSET,
    project_ids: list[str] | Unset = UNSET,
    api_key_ids: list[str] | Unset = UNSET,
    models: list[str] | Unset = UNSET,
    kinds: list[RetrieveUsageKindsItem] | Unset = UNSET,
    limit: int | Unset = 7,
    page: None | str | Unset = UNSET,
) -> Response[ErrorOut | UsagePage]:
    """Retrieve Usage

     Retrieve the tokens and requests of the organization's keys per day (UTC).

    They are summed over all dimensions that ``group_by`` does not name.

    Args:
        start_time (int): Start of the range, in seconds since 1970. The first day is included in
            full.
        end_time (int | None | Unset): Exclusive end of the range, in seconds since 1970; by
            default now. The last day is included in full.
        group_by (list[RetrieveUsageGroupByItem] | Unset):
        project_ids (list[str] | Unset): Only usage of these projects.
        api_key_ids (list[str] | Unset): Only usage of these keys.
        models (list[str] | Unset): Only usage of these models.
        kinds (list[RetrieveUsageKindsItem] | Unset):
        limit (int | Unset): Maximum number of days per page. Default: 7.
        page (None | str | Unset): `next_page` of the previous page.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[ErrorOut | UsagePage]
    """

    kwargs = _get_kwargs(
        start_time=start_time,
        end_time=end_time,
        group_by=group_by,
        project_ids=project_ids,
        api_key_ids=api_key_ids,
        models=models,
        kinds=kinds,
        limit=limit,
        page=page,
    )

    response = client.get_httpx_client().request(
        **kwargs,
    )

    return _build_response(client=client, response=response)


def sync(
    *,
    client: AuthenticatedClient,
    start_time: int,
    end_time: int | None | Unset = UNSET,
    group_by: list[RetrieveUsageGroupByItem] | Unset = UNSET,
    project_ids: list[str] | Unset = UNSET,
    api_key_ids: list[str] | Unset = UNSET,
    models: list[str] | Unset = UNSET,
    kinds: list[RetrieveUsageKindsItem] | Unset = UNSET,
    limit: int | Unset = 7,
    page: None | str | Unset = UNSET,
) -> ErrorOut | UsagePage | None:
    """Retrieve Usage

     Retrieve the tokens and requests of the organization's keys per day (UTC).

    They are summed over all dimensions that ``group_by`` does not name.

    Args:
        start_time (int): Start of the range, in seconds since 1970. The first day is included in
            full.
        end_time (int | None | Unset): Exclusive end of the range, in seconds since 1970; by
            default now. The last day is included in full.
        group_by (list[RetrieveUsageGroupByItem] | Unset):
        project_ids (list[str] | Unset): Only usage of these projects.
        api_key_ids (list[str] | Unset): Only usage of these keys.
        models (list[str] | Unset): Only usage of these models.
        kinds (list[RetrieveUsageKindsItem] | Unset):
        limit (int | Unset): Maximum number of days per page. Default: 7.
        page (None | str | Unset): `next_page` of the previous page.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        ErrorOut | UsagePage
    """

    return sync_detailed(
        client=client,
        start_time=start_time,
        end_time=end_time,
        group_by=group_by,
        project_ids=project_ids,
        api_key_ids=api_key_ids,
        models=models,
        kinds=kinds,
        limit=limit,
        page=page,
    ).parsed


async def asyncio_detailed(
    *,
    client: AuthenticatedClient,
    start_time: int,
    end_time: int | None | Unset = UNSET,
    group_by: list[RetrieveUsageGroupByItem] | Unset = UNSET,
    project_ids: list[str] | Unset = UNSET,
    api_key_ids: list[str] | Unset = UNSET,
    models: list[str] | Unset = UNSET,
    kinds: list[RetrieveUsageKindsItem] | Unset = UNSET,
    limit: int | Unset = 7,
    page: None | str | Unset = UNSET,
) -> Response[ErrorOut | UsagePage]:
    """Retrieve Usage

     Retrieve the tokens and requests of the organization's keys per day (UTC).

    They are summed over all dimensions that ``group_by`` does not name.

    Args:
        start_time (int): Start of the range, in seconds since 1970. The first day is included in
            full.
        end_time (int | None | Unset): Exclusive end of the range, in seconds since 1970; by
            default now. The last day is included in full.
        group_by (list[RetrieveUsageGroupByItem] | Unset):
        project_ids (list[str] | Unset): Only usage of these projects.
        api_key_ids (list[str] | Unset): Only usage of these keys.
        models (list[str] | Unset): Only usage of these models.
        kinds (list[RetrieveUsageKindsItem] | Unset):
        limit (int | Unset): Maximum number of days per page. Default: 7.
        page (None | str | Unset): `next_page` of the previous page.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[ErrorOut | UsagePage]
    """

    kwargs = _get_kwargs(
        start_time=start_time,
        end_time=end_time,
        group_by=group_by,
        project_ids=project_ids,
        api_key_ids=api_key_ids,
        models=models,
        kinds=kinds,
        limit=limit,
        page=page,
    )

    response = await client.get_async_httpx_client().request(**kwargs)

    return _build_response(client=client, response=response)


async def asyncio(
    *,
    client: AuthenticatedClient,
    start_time: int,
    end_time: int | None | Unset = UNSET,
    group_by: list[RetrieveUsageGroupByItem] | Unset = UNSET,
    project_ids: list[str] | Unset = UNSET,
    api_key_ids: list[str] | Unset = UNSET,
    models: list[str] | Unset = UNSET,
    kinds: list[RetrieveUsageKindsItem] | Unset = UNSET,
    limit: int | Unset = 7,
    page: None | str | Unset = UNSET,
) -> ErrorOut | UsagePage | None:
    """Retrieve Usage

     Retrieve the tokens and requests of the organization's keys per day (UTC).

    They are summed over all dimensions that ``group_by`` does not name.

    Args:
        start_time (int): Start of the range, in seconds since 1970. The first day is included in
            full.
        end_time (int | None | Unset): Exclusive end of the range, in seconds since 1970; by
            default now. The last day is included in full.
        group_by (list[RetrieveUsageGroupByItem] | Unset):
        project_ids (list[str] | Unset): Only usage of these projects.
        api_key_ids (list[str] | Unset): Only usage of these keys.
        models (list[str] | Unset): Only usage of these models.
        kinds (list[RetrieveUsageKindsItem] | Unset):
        limit (int | Unset): Maximum number of days per page. Default: 7.
        page (None | str | Unset): `next_page` of the previous page.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        ErrorOut | UsagePage
    """

    return (
        await asyncio_detailed(
            client=client,
            start_time=start_time,
            end_time=end_time,
            group_by=group_by,
            project_ids=project_ids,
            api_key_ids=api_key_ids,
            models=models,
            kinds=kinds,
            limit=limit,
            page=page,
        )
    ).parsed
