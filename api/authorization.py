"""Permissions that routers require of a key's role.

Only the application assigns them, in ``api.app.ROUTERS``.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import params
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.requests import Request
from starlette.routing import BaseRoute

from api.errors import Forbidden
from storage.access.roles import Permission, has_permission, list_roles_with


def require(get: Permission, other: Permission, **by_name: Permission) -> params.Depends:
    """Create a dependency that checks the role of the request's key.

    ``get``: permission for ``GET``. ``other``: permission for other methods. ``by_name``:
    permissions for single routes, by the names of their functions.
    """

    # Async, although it awaits nothing: FastAPI would run a plain function in a thread.
    async def check(request: Request) -> None:
        default = get if request.method == "GET" else other
        permission = by_name.get(request.scope["route"].name, default)
        role = request.state.principal.role
        if not has_permission(role, permission):
            roles = " or ".join(f"'{name}'" for name in list_roles_with(permission))
            raise Forbidden(
                f"This key's role is '{role}', which may not {permission.value}; use a key whose role is {roles}.",
                code="insufficient_permissions",
            )

    return params.Depends(check)


DATA = require(get=Permission.READ, other=Permission.WRITE)
"""Data of the project: files, jobs and everything without a more specific requirement."""
# A download exposes the weights, which needs more than reading a model's metadata.
MODELS = require(get=Permission.READ_MODELS, other=Permission.WRITE, download_model=Permission.READ)
INFER = require(get=Permission.INFER, other=Permission.INFER)
ADMIN = require(get=Permission.ADMINISTER, other=Permission.ADMINISTER)
SELF = require(get=Permission.READ_SELF, other=Permission.READ_SELF)

_REQUIREMENTS = (DATA, MODELS, INFER, ADMIN, SELF)


def routes_without_permission(routes: Sequence[BaseRoute], public_paths: frozenset[str]) -> list[str]:
    """Return the paths of routes that need a key but require no permission, which is a bug."""
    return [
        str(route.path)
        for route in iter_route_contexts(routes)
        if isinstance(route.original_route, APIRoute)
        and route.path not in public_paths
        and not any(requirement in route.dependencies for requirement in _REQUIREMENTS)
    ]
