"""What a key's role must allow for each router: set where the application includes it, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import params
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.requests import Request
from starlette.routing import BaseRoute

from api.errors import Forbidden
from storage.access.roles import Permission, has_permission, list_roles_with


def require(get: Permission, other: Permission, **by_name: Permission) -> params.Depends:
    """What ``GET`` needs, what other methods need, and what single routes need, by their functions' names."""

    # Not in a thread: it waits for nothing.
    async def check(request: Request) -> None:
        usual = get if request.method == "GET" else other
        permission = by_name.get(request.scope["route"].name, usual)
        role = request.state.principal.role
        if not has_permission(role, permission):
            able = " or ".join(f"'{name}'" for name in list_roles_with(permission))
            raise Forbidden(
                f"This key's role is '{role}', which may not {permission.value}; use a key whose role is {able}.",
                code="insufficient_permissions",
            )

    return params.Depends(check)


DATA = require(get=Permission.READ, other=Permission.WRITE)
"""Things of the project: files, jobs and whatever a router does not say otherwise of."""
# Weights leave with a download, which is more than a model's facts.
MODELS = require(get=Permission.READ_MODELS, other=Permission.WRITE, download_model=Permission.READ)
INFER = require(get=Permission.INFER, other=Permission.INFER)
ADMIN = require(get=Permission.ADMINISTER, other=Permission.ADMINISTER)
SELF = require(get=Permission.READ_SELF, other=Permission.READ_SELF)

_REQUIREMENTS = (DATA, MODELS, INFER, ADMIN, SELF)


def routes_without_permission(routes: Sequence[BaseRoute], public_paths: frozenset[str]) -> list[str]:
    """Paths of routes that need a key and ask for no role: a fault of the application."""
    return [
        str(route.path)
        for route in iter_route_contexts(routes)
        if isinstance(route.original_route, APIRoute)
        and route.path not in public_paths
        and not any(needed in route.dependencies for needed in _REQUIREMENTS)
    ]
