from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import httpx

from ...client import AuthenticatedClient, Client
from ...models.error_out import ErrorOut
from ...models.metrics_out import MetricsOut
from ...types import UNSET, Response, Unset


def _get_kwargs(
    job_id: str,
    *,
    step_from: int | None | Unset = UNSET,
    step_to: int | None | Unset = UNSET,
    limit: int | Unset = 1000,
    resolution: int | None | Unset = UNSET,
) -> dict[str, Any]:

    params: dict[str, Any] = {}

    json_step_from: int | None | Unset
    if isinstance(step_from, Unset):
        json_step_from = UNSET
    else:
        json_step_from = step_from
    params["step_from"] = json_step_from

    json_step_to: int | None | Unset
    if isinstance(step_to, Unset):
        json_step_to = UNSET
    else:
        json_step_to = step_to
    params["step_to"] = json_step_to

    params["limit"] = limit

    json_resolution: int | None | Unset
    if isinstance(resolution, Unset):
        json_resolution = UNSET
    else:
        json_resolution = resolution
    params["resolution"] = json_resolution

    params = {k: v for k, v in params.items() if v is not UNSET and v is not None}

    _kwargs: dict[str, Any] = {
        "method": "get",
        "url": "/v1/fine_tuning/jobs/{job_id}/metrics".format(
            job_id=quote(str(job_id), safe=""),
        ),
        "params": params,
    }

    return _kwargs


def _parse_response(*, client: AuthenticatedClient | Client, response: httpx.Response) -> ErrorOut | MetricsOut:
    if response.status_code == 200:
        response_200 = MetricsOut.from_dict(response.json())

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
) -> Response[ErrorOut | MetricsOut]:
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
    step_from: int | None | Unset = UNSET,
    step_to: int | None | Unset = UNSET,
    limit: int | Unset = 1000,
    resolution: int | None | Unset = UNSET,
) -> Response[ErrorOut | MetricsOut]:
    """List Fine Tuning Job Metrics

     List the metrics of each step.

    While ``has_more`` is true, request the next steps with a larger ``step_from``.

    Args:
        job_id (str):
        step_from (int | None | Unset): Inclusive bound on the step.
        step_to (int | None | Unset): Inclusive bound on the step.
        limit (int | Unset): Maximum number of steps per response. Default: 1000.
        resolution (int | None | Unset): Approximate number of steps to return, evenly spaced,
            including the last one.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[ErrorOut | MetricsOut]
    """

    kwargs = _get_kwargs(
        job_id=job_id,
        step_from=step_from,
        step_to=step_to,
        limit=limit,
        resolution=resolution,
    )

    response = client.get_httpx_client().request(
        **kwargs,
    )

    return _build_response(client=client, response=response)


def sync(
    job_id: str,
    *,
    client: AuthenticatedClient,
    step_from: int | None | Unset = UNSET,
    step_to: int | None | Unset = UNSET,
    limit: int | Unset = 1000,
    resolution: int | None | Unset = UNSET,
) -> ErrorOut | MetricsOut | None:
    """List Fine Tuning Job Metrics

     List the metrics of each step.

    While ``has_more`` is true, request the next steps with a larger ``step_from``.

    Args:
        job_id (str):
        step_from (int | None | Unset): Inclusive bound on the step.
        step_to (int | None | Unset): Inclusive bound on the step.
        limit (int | Unset): Maximum number of steps per response. Default: 1000.
        resolution (int | None | Unset): Approximate number of steps to return, evenly spaced,
            including the last one.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        ErrorOut | MetricsOut
    """

    return sync_detailed(
        job_id=job_id,
        client=client,
        step_from=step_from,
        step_to=step_to,
        limit=limit,
        resolution=resolution,
    ).parsed


async def asyncio_detailed(
    job_id: str,
    *,
    client: AuthenticatedClient,
    step_from: int | None | Unset = UNSET,
    step_to: int | None | Unset = UNSET,
    limit: int | Unset = 1000,
    resolution: int | None | Unset = UNSET,
) -> Response[ErrorOut | MetricsOut]:
    """List Fine Tuning Job Metrics

     List the metrics of each step.

    While ``has_more`` is true, request the next steps with a larger ``step_from``.

    Args:
        job_id (str):
        step_from (int | None | Unset): Inclusive bound on the step.
        step_to (int | None | Unset): Inclusive bound on the step.
        limit (int | Unset): Maximum number of steps per response. Default: 1000.
        resolution (int | None | Unset): Approximate number of steps to return, evenly spaced,
            including the last one.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[ErrorOut | MetricsOut]
    """

    kwargs = _get_kwargs(
        job_id=job_id,
        step_from=step_from,
        step_to=step_to,
        limit=limit,
        resolution=resolution,
    )

    response = await client.get_async_httpx_client().request(**kwargs)

    return _build_response(client=client, response=response)


async def asyncio(
    job_id: str,
    *,
    client: AuthenticatedClient,
    step_from: int | None | Unset = UNSET,
    step_to: int | None | Unset = UNSET,
    limit: int | Unset = 1000,
    resolution: int | None | Unset = UNSET,
) -> ErrorOut | MetricsOut | None:
    """List Fine Tuning Job Metrics

     List the metrics of each step.

    While ``has_more`` is true, request the next steps with a larger ``step_from``.

    Args:
        job_id (str):
        step_from (int | None | Unset): Inclusive bound on the step.
        step_to (int | None | Unset): Inclusive bound on the step.
        limit (int | Unset): Maximum number of steps per response. Default: 1000.
        resolution (int | None | Unset): Approximate number of steps to return, evenly spaced,
            including the last one.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        ErrorOut | MetricsOut
    """

    return (
        await asyncio_detailed(
            job_id=job_id,
            client=client,
            step_from=step_from,
            step_to=step_to,
            limit=limit,
            resolution=resolution,
        )
    ).parsed
