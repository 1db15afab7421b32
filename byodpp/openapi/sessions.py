"""`/session` in the OpenAPI document.

In: nothing. Out: its path item. Rejects nothing.
"""

from __future__ import annotations

from typing import Any, Final

from byodpp.negotiation import JSON
from byodpp.openapi.errors import EVERYWHERE, GUARDED, responses

__all__ = ["session_path"]

_TEXT: Final = {"type": "string"}


def session_path() -> dict[str, Any]:
    """Return the path item of browsers' sessions."""
    cookie: dict[str, Any] = {"Set-Cookie": {"schema": _TEXT, "description": "The session's cookie."}}
    location = {"Location": {"schema": _TEXT, "description": "Where the session is."}}
    begun = _answer("The session has begun.") | {"headers": {**cookie, **location}}
    gone = {"description": "The token is revoked, and the cookie taken away.", "headers": cookie}
    told = (
        "Puts the token that is sent as `Authorization: Bearer` into a cookie that no script can read, "
        "for as long as the token lives. Every later request of a browser that is not GET sends the "
        "`csrfToken` of the answer in `X-CSRF-Token`."
    )
    conflict = responses(("Conflict",))
    both: list[dict[str, list[str]]] = [{"bearer": []}, {"session": [], "csrf": []}]
    operations = {
        "post": _operation("begin", "Begin a session", told, {"201": begun, **conflict}, [{"bearer": []}]),
        "get": _operation(
            "read",
            "Who is signed in",
            "`csrfToken` is null where a token has signed in, not a cookie.",
            {"200": _answer("The session.")},
            [{"bearer": []}, {"session": []}],
        ),
        "delete": _operation(
            "end", "End the session", "Signs out: no copy of the token is good any more.",
            {"204": gone, **conflict}, both,
        ),
    }  # fmt: skip
    return {"/session": operations}


def _answer(description: str) -> dict[str, Any]:
    nullable = {"type": ["string", "null"]}
    session = {
        "type": "object",
        "required": ["userId", "name", "roles", "tenant", "expiresAt", "csrfToken"],
        "properties": {
            "userId": {"type": ["integer", "null"]},
            "name": nullable,
            "roles": {"type": "array", "items": _TEXT},
            "tenant": nullable,
            "expiresAt": {"type": "string", "format": "date-time"},
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
