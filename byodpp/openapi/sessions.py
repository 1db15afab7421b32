"""`/session` and its renewal in the OpenAPI document.

In: nothing. Out: their path items. Rejects nothing.
"""

from __future__ import annotations

from typing import Any, Final

from byodpp.negotiation import JSON
from byodpp.openapi.errors import EVERYWHERE, GUARDED, responses

__all__ = ["session_paths"]

_TEXT: Final = {"type": "string"}
_REFRESH: Final = {
    "required": False,
    "content": {
        JSON: {
            "schema": {
                "type": "object",
                "properties": {
                    "refreshToken": {
                        "type": ["string", "null"],
                        "minLength": 1,
                        "maxLength": 8192,
                        "pattern": "^[ -~]+$",
                        "description": "By which the session is renewed; of the browsers' client.",
                    }
                },
                "additionalProperties": False,
            }
        }
    },
}


def session_paths() -> dict[str, Any]:
    """Return the path items of browsers' sessions."""
    cookie: dict[str, Any] = {"Set-Cookie": {"schema": _TEXT, "description": "The session's cookie."}}
    location = {"Location": {"schema": _TEXT, "description": "Where the session is."}}
    begun = _answer("The session has begun.") | {"headers": {**cookie, **location}}
    gone = {"description": "The token is revoked, and the cookie taken away.", "headers": cookie}
    told = (
        "Puts the token that is sent as `Authorization: Bearer` into a cookie that no script can read, "
        "for as long as the token lives; a `refreshToken` is put into another one. Every "
        "later request of a browser that is not GET sends the "
        "`csrfToken` of the answer in `X-CSRF-Token`."
    )
    conflict = responses(("Conflict",))
    refused = {**conflict, **responses(("ValidationFailed", "UnsupportedMediaType", "PayloadTooLarge"))}
    renewed = _answer("The session goes on, with the same `csrfToken`.") | {"headers": cookie}
    renewal = _operation(
        "renew", "Renew the session",
        "Exchanges the refresh token of the session's second cookie for the next access token. It needs "
        "nothing but the cookie and the server's own `Origin`, and works when the access token has ended.",
        {"200": renewed}, [{"renewal": []}],
    )  # fmt: skip
    both: list[dict[str, list[str]]] = [{"bearer": []}, {"session": [], "csrf": []}]
    operations = {
        "post": _operation("begin", "Begin a session", told, {"201": begun, **refused}, [{"bearer": []}])
        | {"requestBody": _REFRESH},
        "get": _operation(
            "read",
            "Who is signed in",
            "`csrfToken` is null where a token has signed in, not a cookie.",
            {"200": _answer("The session.")},
            [{"bearer": []}, {"session": []}],
        ),
        "delete": _operation(
            "end", "End the session", "Signs out: no copy of the token is good any more. "
            "Works after the token's end as well, by the second cookie.",
            {"204": gone, **conflict}, both,
        ),
    }  # fmt: skip
    return {"/session": operations, "/session/renewal": {"post": renewal}}


def _answer(description: str) -> dict[str, Any]:
    nullable = {"type": ["string", "null"]}
    session = {
        "type": "object",
        "required": ["userId", "name", "roles", "tenant", "expiresAt", "renewable", "csrfToken"],
        "properties": {
            "userId": {"type": ["integer", "null"]},
            "name": nullable,
            "roles": {"type": "array", "items": _TEXT},
            "tenant": nullable,
            "expiresAt": {"type": "string", "format": "date-time"},
            "renewable": {"type": "boolean"},
            "csrfToken": nullable,
        },
    }
    schema = {
        "type": "object",
        "required": ["success", "data", "meta"],
        "properties": {
            "success": {"const": True},
            "data": session,
            "meta": {"$ref": "#/components/schemas/Meta"},
        },
    }
    return {"description": description, "content": {JSON: {"schema": schema}}}


def _operation(
    name: str, summary: str, description: str, answers: dict[str, Any], security: list[dict[str, list[str]]]
) -> dict[str, Any]:
    shared = responses(("Malformed", *GUARDED, *EVERYWHERE))
    return {
        "tags": ["Identity"],
        "summary": summary,
        "description": description,
        "operationId": f"session_{name}",
        "security": security,
        "responses": dict(sorted({**shared, **answers}.items())),
    }
