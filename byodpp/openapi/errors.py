"""Refusals as OpenAPI responses: which an operation can give, with codes and examples.

In: the exception family. Out: response components, one per status and situation, that
operations refer to by name. Rejects nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

from byodpp import exceptions as refusal
from byodpp.exceptions import ApiError, Detail
from byodpp.negotiation import JSON, PROBLEM

__all__ = [
    "BODY",
    "EVERYWHERE",
    "GUARDED",
    "KEYED",
    "LOGIC",
    "error_components",
    "error_schemas",
    "responses",
]

_ID: Final = "5f0c7a2e9b1d4c6f8a3e2d1c0b9a8f7e"
_MOMENT: Final = "2025-01-31T08:00:00.000000Z"

#: Name of the response component -> the classes that are answered so; all of one status.
_GROUPS: Final[dict[str, tuple[type[ApiError], ...]]] = {
    "Malformed": (refusal.Malformed, refusal.InvalidEncoding, refusal.InvalidHeader),
    "MalformedQuery": (
        refusal.InvalidQuery,
        refusal.QueryTooComplex,
        refusal.InvalidEncoding,
        refusal.InvalidHeader,
        refusal.Malformed,
    ),
    "MalformedBody": (
        refusal.MalformedJson,
        refusal.DuplicateKey,
        refusal.TooDeep,
        refusal.InvalidEncoding,
        refusal.InvalidHeader,
        refusal.InvalidQuery,
        refusal.QueryTooComplex,
        refusal.Malformed,
    ),
    "MalformedFile": (
        refusal.Malformed,
        refusal.MalformedJson,
        refusal.InvalidEncoding,
        refusal.FileNotWhole,
        refusal.InvalidQuery,
        refusal.InvalidHeader,
    ),
    "Unauthenticated": (refusal.Unauthenticated,),
    "Forbidden": (refusal.Forbidden, refusal.CrossSite),
    "NotFound": (refusal.NotFound,),
    "MethodNotAllowed": (refusal.MethodNotAllowed,),
    "NotAcceptable": (refusal.NotAcceptable,),
    "RequestTimeout": (refusal.RequestTimeout,),
    "WriteConflict": (refusal.UniqueConflict, refusal.Conflict, refusal.IdempotencyInProgress),
    "ReplaceConflict": (refusal.UniqueConflict, refusal.Conflict),
    "DeleteConflict": (refusal.ReferencedConflict, refusal.Conflict),
    "StateConflict": (refusal.StateConflict, refusal.Conflict, refusal.IdempotencyInProgress),
    "AnyConflict": (
        refusal.Conflict,
        refusal.UniqueConflict,
        refusal.ReferencedConflict,
        refusal.StateConflict,
        refusal.IdempotencyInProgress,
    ),
    "ImportConflict": (refusal.IdempotencyInProgress, refusal.Conflict),
    "Conflict": (refusal.Conflict,),
    "PreconditionFailed": (refusal.PreconditionFailed,),
    "PayloadTooLarge": (refusal.PayloadTooLarge,),
    "UriTooLong": (refusal.UriTooLong,),
    "UnsupportedMediaType": (refusal.UnsupportedMediaType,),
    "ValidationFailed": (refusal.ValidationFailed,),
    "ValidationFailedOrKeyReused": (refusal.ValidationFailed, refusal.IdempotencyKeyReused),
    "PreconditionRequired": (refusal.PreconditionRequired,),
    "TooManyRequests": (refusal.TooManyRequests,),
    "HeadersTooLarge": (refusal.HeadersTooLarge,),
    "InternalError": (refusal.InternalError,),
    "BadGateway": (refusal.BadGateway,),
    "Unavailable": (
        refusal.Unavailable,
        refusal.QueryTimeout,
        refusal.AuthUnavailable,
        refusal.OutcomeUnknown,
    ),
    "StorageFull": (refusal.StorageFull,),
}
#: What every operation can answer, whatever it does.
EVERYWHERE: Final = ("UriTooLong", "TooManyRequests", "HeadersTooLarge", "InternalError")
#: What comes with asking who calls, and with the database.
GUARDED: Final = ("Unauthenticated", "Forbidden", "NotFound", "NotAcceptable", "Unavailable")
#: What comes with a body.
BODY: Final = (
    "MalformedBody",
    "RequestTimeout",
    "PayloadTooLarge",
    "UnsupportedMediaType",
    "ValidationFailed",
)
#: What a logic class may answer beside what its operation does.
LOGIC: Final = ("NotFound", "AnyConflict", "ValidationFailed", "BadGateway")

#: What comes with an `Idempotency-Key`; before what comes with the body.
KEYED: Final = ("ValidationFailedOrKeyReused",)

_DETAILS: Final[dict[type[ApiError], tuple[Detail, ...]]] = {
    refusal.InvalidQuery: (
        Detail("filter[prize]", "unknown_field", "There is no field 'prize' here. Did you mean price?"),
    ),
    refusal.QueryTooComplex: (
        Detail("include", "too_complex", "up to 20000 included rows, at most 10000: ask for a lower `limit`"),
    ),
    refusal.ValidationFailed: (
        Detail("name", "required", "A value is required."),
        Detail("price", "out_of_range", "Must be at least 0."),
    ),
    refusal.UniqueConflict: (Detail("name", "unique", "This name exists already."),),
    refusal.PayloadTooLarge: (),
}
_HEADERS: Final[dict[str, tuple[str, ...]]] = {
    "Unauthenticated": ("WWW-Authenticate",),
    "TooManyRequests": ("Retry-After",),
    "Unavailable": ("Retry-After",),
    "MethodNotAllowed": ("Allow",),
}


def responses(names: Iterable[str]) -> dict[str, Any]:
    """Return references to the named components, by status in rising order; the first of a status stays."""
    found: dict[str, Any] = {}
    for name in names:
        found.setdefault(str(_GROUPS[name][0].status), {"$ref": f"#/components/responses/{name}"})
    return dict(sorted(found.items()))


def error_components() -> dict[str, Any]:
    """Return every response component."""
    return {name: _response(name, classes) for name, classes in _GROUPS.items()}


def _response(name: str, classes: tuple[type[ApiError], ...]) -> dict[str, Any]:
    codes = [one.code for one in classes]
    told = " ".join(f"`{one.code}`: {_message(one)}" for one in classes)
    shown = ("X-Request-ID", "X-Correlation-ID", *_HEADERS.get(name, ()))
    envelope = {
        "allOf": [_ref("Error"), {"properties": {"error": {"properties": {"code": {"enum": codes}}}}}]
    }
    problem = {"allOf": [_ref("Problem"), {"properties": {"code": {"enum": codes}}}]}
    # A logic class may bring codes of its own, under the status of its class.
    if name in ("AnyConflict", "ValidationFailed", "ValidationFailedOrKeyReused"):
        envelope, problem = _ref("Error"), _ref("Problem")
    return {
        "description": told,
        "headers": {header: {"$ref": f"#/components/headers/{header}"} for header in shown},
        "content": {
            JSON: {"schema": envelope, "examples": {one.code: {"value": _envelope(one)} for one in classes}},
            PROBLEM: {"schema": problem, "examples": {one.code: {"value": _problem(one)} for one in classes}},
        },
    }


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _message(kind: type[ApiError]) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def _told(kind: type[ApiError]) -> dict[str, Any]:
    details = [
        {"field": one.field, "code": one.code, "message": one.message} for one in _DETAILS.get(kind, ())
    ]
    return {"details": details, "requestId": _ID, "timestamp": _MOMENT}


def _envelope(kind: type[ApiError]) -> dict[str, Any]:
    told = {"statusCode": kind.status, "code": kind.code, "message": _message(kind), **_told(kind)}
    return {"success": False, "error": told}


def _problem(kind: type[ApiError]) -> dict[str, Any]:
    return {
        "type": f"urn:byodpp:error:{kind.code}",
        "title": HTTPStatus(kind.status).phrase,
        "status": kind.status,
        "detail": _message(kind),
        "instance": f"urn:byodpp:request:{_ID}",
        "code": kind.code,
        **_told(kind),
    }


def error_schemas() -> dict[str, Any]:
    """Return the components of both forms of a refusal."""
    text = {"type": "string"}
    moment = {"type": "string", "format": "date-time"}
    detail = {
        "type": "object",
        "description": "One fault.",
        "required": ["field", "code", "message"],
        "additionalProperties": False,
        "properties": {
            "field": {
                **text,
                "description": "Dotted path in the body (`3.name` in a batch), or a parameter.",
            },
            "code": {**text, "description": "Stable word, e.g. `required`."},
            "message": {**text, "description": "For people; may change."},
        },
    }
    shared = {
        "details": {"type": "array", "items": _ref("Detail"), "description": "Every fault found."},
        "requestId": text,
        "timestamp": moment,
    }
    code = {**text, "description": "Stable word that programs may branch on."}
    error = {
        "type": "object",
        "required": ["statusCode", "code", "message", "details", "requestId", "timestamp"],
        "additionalProperties": False,
        "properties": {"statusCode": {"type": "integer"}, "code": code, "message": text, **shared},
    }
    envelope = {
        "type": "object",
        "description": "What every refusal looks like.",
        "required": ["success", "error"],
        "additionalProperties": False,
        "properties": {"success": {"const": False}, "error": error},
    }
    uri = {"type": "string", "format": "uri"}
    problem = {
        "type": "object",
        "description": "The same as RFC 9457 describes it, for `Accept: application/problem+json`.",
        "required": ["type", "title", "status", "detail", "instance", "code"],
        "properties": {
            "type": uri,
            "title": text,
            "status": {"type": "integer"},
            "detail": text,
            "instance": uri,
            "code": code,
            **shared,
        },
    }
    return {"Detail": detail, "Error": envelope, "Problem": problem}
