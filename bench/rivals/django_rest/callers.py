"""Who asks: a token checked with PyJWT, its key loaded at start, and the tenant set for the transaction."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

import jwt
from django.db import connection
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission

KEYS = {key.key_id: key.key for key in jwt.PyJWKSet.from_dict(json.loads(os.environ["BENCH_JWKS"])).keys}
TENANTS: dict[str, int] = json.loads(os.environ["BENCH_TENANTS"])
AUDIENCE = os.environ["BENCH_AUDIENCE"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Stands for the user."""

    tenant: int
    roles: frozenset[str]
    is_authenticated: bool = True


class TokenAuthentication(BaseAuthentication):
    """Takes bearer tokens."""

    def authenticate(self, request: Any) -> tuple[Caller, None] | None:
        scheme, _, token = get_authorization_header(request).decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            return None
        try:
            key = KEYS[jwt.get_unverified_header(token)["kid"]]
            claims = jwt.decode(token, key, algorithms=["RS256"], audience=AUDIENCE)
            caller = Caller(
                TENANTS[claims["iss"].rpartition("/")[2]], frozenset(claims["realm_access"]["roles"])
            )
        except (jwt.InvalidTokenError, KeyError) as error:
            raise AuthenticationFailed("The token is not valid") from error
        with connection.cursor() as cursor:
            cursor.execute("select set_config('byodpp.tenant', %s, true)", [str(caller.tenant)])
        return caller, None

    def authenticate_header(self, request: Any) -> str:
        return "Bearer"


class IsAdmin(BasePermission):
    """Lets administrators of a tenant in."""

    def has_permission(self, request: Any, view: Any) -> bool:
        return request.user is not None and "Admin" in request.user.roles
