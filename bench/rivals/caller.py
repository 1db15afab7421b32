"""Who asks, for the services written with FastAPI: a token checked with PyJWT, its key loaded at start."""

from __future__ import annotations

import json
import os
from typing import Annotated

import jwt
from fastapi import Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

KEYS = {key.key_id: key.key for key in jwt.PyJWKSet.from_dict(json.loads(os.environ["BENCH_JWKS"])).keys}
TENANTS: dict[str, int] = json.loads(os.environ["BENCH_TENANTS"])
AUDIENCE = os.environ["BENCH_AUDIENCE"]

bearer = HTTPBearer()


async def tenant_of_caller(credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]) -> int:
    """Return the id of the tenant whose administrator asks."""
    token = credentials.credentials
    try:
        key = KEYS[jwt.get_unverified_header(token)["kid"]]
        claims = jwt.decode(token, key, algorithms=["RS256"], audience=AUDIENCE)
        tenant = TENANTS[claims["iss"].rpartition("/")[2]]
    except (jwt.InvalidTokenError, KeyError) as error:
        raise HTTPException(401, "The token is not valid", {"WWW-Authenticate": "Bearer"}) from error
    if "Admin" not in claims["realm_access"]["roles"]:
        raise HTTPException(403, "The role is missing")
    return tenant


Tenant = Annotated[int, Depends(tenant_of_caller)]
