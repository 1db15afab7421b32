"""What belongs to no resource: shared components, and the routes of the service itself.

In: API versions and the names of their resources. Out: parameters, headers, schemas and path
items. Rejects nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from byodpp.definitions import OPERATIONS
from byodpp.negotiation import JSON
from byodpp.openapi.errors import BODY, EVERYWHERE, GUARDED, KEYED, responses

__all__ = [
    "SERVICE_TAGS",
    "batch_path",
    "service_paths",
    "shared_headers",
    "shared_parameters",
    "shared_responses",
    "shared_schemas",
]

#: Tag of each group of service routes, with what it says about itself.
SERVICE_TAGS: Final = {
    "Transactions": "Several operations, over several resources, in one transaction.",
    "Health": "Whether this server lives, is ready, and is well. No token is needed.",
    "Identity": "Sessions of browsers, and what others need to verify the tokens of the local issuer.",
    "Documentation": "This description, for programs and for people.",
}
_TAG: Final = '(W/)?"[!#-~]*"'
_MOST_OPERATIONS: Final = 100
#: Headers of what was written.
_WRITTEN: Final = ("Preference-Applied", "Idempotency-Replayed")
_TEXT: Final = {"type": "string"}


def shared_parameters() -> dict[str, Any]:
    """Return the header parameters that operations refer to."""
    known_id = "Letters, digits and `._:/+=@~-`, at most 128; anything else is replaced by a new id."
    preference = (
        "`return=minimal`: answer without rows, and so without a body, with 204 instead of 200; a batch that "
        "is not atomic tells what became of each item. `tx=rollback`: validate, "
        "authorise and execute, show the result, and undo it."
    )
    once = (
        "A key of the client's making: however often the request is sent, it is done once, and later answers "
        "are the first one. Kept for 24 hours, for this user, method and address."
    )
    operator = (
        "Slug or ULID of a tenant. Operators of the platform act for the tenant they name; everybody else "
        "may name their own, or one that has opened rows to it. Where the server has a domain for tenants, a "
        "host below it (`acme.dpp.example`) says the same; both together have to be the same word."
    )
    match = (
        'The `ETag` that was read, e.g. `"5"`: the write is refused with 412 when the row has changed since. '
        "Of several, the row must have one."
    )
    version = '"(0|[1-9][0-9]{0,17})"'
    several = f"{version}( *, *{version})*"
    one = {"type": "string", "pattern": f"^{several}$", "examples": ['"5"']}
    tag = {"type": "string", "pattern": f"^(\\*|{several})$", "examples": ['"5"']}
    tags = {"type": "string", "pattern": f"^(\\*|{_TAG}( *, *{_TAG})*)$", "examples": ['"5"']}
    return {
        "X-Request-ID": _header_parameter("X-Request-ID", f"Id of this request. {known_id}", _TEXT),
        "X-Correlation-ID": _header_parameter(
            "X-Correlation-ID", f"Id of what it is part of. {known_id}", _TEXT
        ),
        "X-Tenant": _header_parameter(
            "X-Tenant", operator, {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9-]{0,62}$"}
        ),
        "Prefer": _header_parameter(
            "Prefer", preference, {"type": "string", "examples": ["return=minimal", "tx=rollback"]}
        ),
        "Idempotency-Key": _header_parameter(
            "Idempotency-Key", once, {"type": "string", "pattern": "^[!-~]([ -~]{0,253}[!-~])?$"}
        ),
        "If-Match": _header_parameter("If-Match", f"{match} `*` is any version.", tag),
        "If-Match-Required": _header_parameter(
            "If-Match", f"{match} It must be sent, and name a version: 428 otherwise.", one, required=True
        ),
        "If-None-Match": _header_parameter(
            "If-None-Match", "The `ETag` of what the client has: 304 when it is still that.", tags
        ),
    }


def _header_parameter(
    name: str, description: str, schema: dict[str, Any], *, required: bool = False
) -> dict[str, Any]:
    found = {"name": name, "in": "header", "description": description, "schema": schema}
    return found | ({"required": True} if required else {})


def shared_headers() -> dict[str, Any]:
    """Return the headers of answers."""
    told = {
        "X-Request-ID": "Id of this request; quote it when you ask for help.",
        "X-Correlation-ID": "Id of what the request is part of; the request's own when none was sent.",
        "ETag": "Version of the row, for `If-Match` and `If-None-Match`.",
        "Location": "Address of the new row.",
        "Preference-Applied": "What of `Prefer` was done.",
        "Idempotency-Replayed": "`true` when this is the answer that was given before.",
        "RateLimit": 'What is left, e.g. `"user";r=998;t=60`: requests, and seconds until there are more.',
        "RateLimit-Policy": 'The limits, e.g. `"user";q=1000;w=60`: requests in seconds.',
        "Retry-After": "Seconds to wait.",
        "WWW-Authenticate": "How to sign in (RFC 6750).",
        "Allow": "The methods that are served here.",
    }
    return {name: {"description": text, "schema": _TEXT} for name, text in told.items()}


def shared_responses() -> dict[str, Any]:
    """Return the answers without a body."""
    shown = ("X-Request-ID", "X-Correlation-ID", "Preference-Applied", "Idempotency-Replayed", "ETag")
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in shown}
    return {
        "Done": {"description": "Done, with nothing more to tell.", "headers": headers},
        "Unchanged": {"description": "It is as the client has it.", "headers": headers},
    }


def shared_schemas() -> dict[str, Any]:
    """Return the component schemas of the envelope, of batches and of patches."""
    moment = {"type": "string", "format": "date-time"}
    count = {"type": ["integer", "null"], "minimum": 0}
    positive = {"type": "integer", "minimum": 1}
    step: dict[str, Any] = {
        "type": "object",
        "required": ["op", "path"],
        "properties": {
            "op": {"enum": ["add", "remove", "replace", "move", "copy", "test"]},
            "path": {"type": "string", "pattern": "^/", "maxLength": 1000},
            "from": {"type": "string", "pattern": "^/", "maxLength": 1000},
            "value": {},
        },
    }
    return {
        "Meta": {
            "type": "object",
            "required": ["requestId", "timestamp"],
            "properties": {
                "requestId": {**_TEXT, "examples": ["5f0c7a2e9b1d4c6f8a3e2d1c0b9a8f7e"]},
                "timestamp": moment,
                "partial": {
                    "const": True,
                    "description": "Only of lists that name no tenant: some tenants' rows are not looked at.",
                },
            },
        },
        "Pagination": {
            "type": "object",
            "required": ["page", "limit", "total", "totalPages"],
            "properties": {
                "page": positive,
                "limit": positive,
                "total": {**count, "description": "Rows in all; null when they were not counted."},
                "totalPages": count,
                "next": {**_TEXT, "description": "Where the next page starts."},
            },
        },
        "AggregateRow": {
            "type": "object",
            "description": "One group of `aggregate`, with its figures.",
            "properties": {
                "group": {"type": "object"},
                "count": {"type": "integer", "minimum": 0},
                **{word: {"type": "object"} for word in ("countDistinct", "sum", "avg", "min", "max")},
            },
        },
        "ItemOutcome": {
            "type": "object",
            "description": "What became of one item of a batch that is not atomic.",
            "required": ["index", "success"],
            "properties": {
                "index": {"type": "integer", "minimum": 0},
                "success": {"type": "boolean"},
                "operation": {"enum": ["create", "update"], "description": "What an upsert was."},
                "data": {},
                "error": {"type": "object"},
            },
        },
        "JsonPatch": {
            "type": "array",
            "description": "Steps of a JSON Patch (RFC 6902) on the row.",
            "items": step,
            "maxItems": 200,
        },
    }


def batch_path(version: str, names: Iterable[str], actions: Iterable[str]) -> dict[str, Any]:
    """Return the path item of the batch over several resources.

    Args:
        version: of the API.
        names: of the resources that it reaches.
        actions: keys of their actions.
    """
    words = [one for one in OPERATIONS if one != "batch"]
    step = {
        "type": "object",
        "required": ["operation", "resource"],
        "additionalProperties": False,
        "properties": {
            "operation": {"enum": [*words, *sorted(set(actions) - set(words))]},
            "resource": {"enum": list(names)},
            "id": {"type": ["string", "integer"], "description": "Key of the row, where one is named."},
            "version": {
                "type": ["string", "integer", "null"],
                "description": "That the row must have which is changed (412).",
            },
            "data": {"description": "The body of the operation, or the query of `list` and `read`."},
            "params": {"type": "object", "description": "Other parameters of an action's address."},
        },
    }
    steps = {"type": "array", "items": step, "minItems": 1, "maxItems": _MOST_OPERATIONS}
    wrapped = {
        "type": "object",
        "required": ["operations"],
        "properties": {"operations": steps},
        "additionalProperties": False,
    }
    told = (
        "Each operation is authorised and judged as if it came alone; one refusal undoes all. A text that is "
        "exactly `{{result[0].id}}` takes a value of an earlier result; "
        '`{"$literal": …}` keeps such a text as it is.'
    )
    refusals = responses(
        (
            *(
                *KEYED,
                "MethodNotAllowed",
                "AnyConflict",
                "PreconditionFailed",
                "PreconditionRequired",
                "StorageFull",
            ),
            *(*BODY, *GUARDED, *EVERYWHERE),
        )
    )
    operation = {
        "tags": ["Transactions"],
        "summary": f"Run operations over several resources ({version})",
        "description": told,
        "operationId": f"transaction_{version}",
        "security": [{"bearer": []}],
        "parameters": [
            {"$ref": f"#/components/parameters/{name}"}
            for name in ("X-Request-ID", "X-Correlation-ID", "X-Tenant", "Prefer", "Idempotency-Key")
        ],
        "requestBody": {"required": True, "content": {JSON: {"schema": {"anyOf": [steps, wrapped]}}}},
        "responses": {
            "200": {
                "description": "The results in order.",
                "headers": {
                    name: {"$ref": f"#/components/headers/{name}"}
                    for name in (
                        "Preference-Applied",
                        "Idempotency-Replayed",
                        "X-Request-ID",
                        "X-Correlation-ID",
                    )
                },
                "content": {JSON: {"schema": _envelope({"type": "array", "items": {}})}},
            },
            "204": {"$ref": "#/components/responses/Done"},
            **refusals,
        },
    }
    return {"post": operation}


def _envelope(data: dict[str, Any]) -> dict[str, Any]:
    meta = {"$ref": "#/components/schemas/Meta"}
    return {
        "type": "object",
        "required": ["success", "data", "meta"],
        "properties": {"success": {"const": True}, "data": data, "message": _TEXT, "meta": meta},
    }


def service_paths(*, local_issuer: bool, documentation: bool, sign_in: bool) -> dict[str, Any]:
    """Return the path items that every application has.

    Args:
        local_issuer: whether tokens come from the local issuer.
        documentation: whether the documentation is served.
        sign_in: whether people sign in on its pages.
    """
    found = _health_paths()
    if local_issuer:
        found |= _identity_paths()
    if documentation:
        found |= _documentation_paths()
    if documentation and sign_in:
        found |= _sign_in_paths()
    return found


def _health_paths() -> dict[str, Any]:
    moment = {"type": "string", "format": "date-time"}
    status = {"status": _TEXT, "timestamp": moment}
    checks = {"type": "object", "additionalProperties": {"type": "boolean"}}
    check = {
        "type": "object",
        "required": ["name", "healthy", "latencyMs"],
        "properties": {"name": _TEXT, "healthy": {"type": "boolean"}, "latencyMs": {"type": "number"}},
    }
    uptime = {"type": "number", "minimum": 0}
    report = {**status, "uptimeSeconds": uptime, "checks": {"type": "array", "items": check}}
    routes = {
        "/health/live": ("live", "The process answers", status, False),
        "/health/ready": ("ready", "Send requests here", {**status, "checks": checks}, True),
        "/health": ("report", "Every service that this one depends on", report, True),
    }
    found = {}
    for path, (name, summary, properties, may_fail) in routes.items():
        schema = {"type": "object", "required": ["status", "timestamp"], "properties": properties}
        answers = {"200": _plain_answer("It is.", JSON, schema)}
        if may_fail:
            answers["503"] = _plain_answer("Not now.", JSON, schema) | {"headers": _retry()}
        found[path] = {"get": _open("Health", f"health_{name}", summary, answers, limited=False)}
    return found


def _retry() -> dict[str, Any]:
    return {"Retry-After": {"$ref": "#/components/headers/Retry-After"}}


def _identity_paths() -> dict[str, Any]:
    realm = {
        "name": "realm",
        "in": "path",
        "required": True,
        "description": "ULID of a tenant, or the platform's realm.",
        "schema": {"type": "string", "pattern": "^[0-9A-Za-z._~-]+$"},
    }
    keys = {
        "type": "object",
        "required": ["keys"],
        "properties": {"keys": {"type": "array", "items": {"type": "object"}}},
    }
    configuration = {
        "type": "object",
        "required": ["issuer", "jwks_uri"],
        "properties": {"issuer": _TEXT, "jwks_uri": _TEXT},
    }
    routes = {
        "/realms/{realm}/protocol/openid-connect/certs": ("certs", "Public keys of a realm", keys),
        "/realms/{realm}/.well-known/openid-configuration": (
            "discovery",
            "Configuration of a realm",
            configuration,
        ),
    }
    found = {}
    for path, (name, summary, schema) in routes.items():
        answers = {
            "200": _plain_answer(summary + ".", JSON, schema),
            **responses(("NotFound", "NotAcceptable", "Unavailable")),
        }
        found[path] = {
            "get": _open("Identity", f"identity_{name}", summary, answers) | {"parameters": [realm]}
        }
    return found


def _documentation_paths() -> dict[str, Any]:
    page = {
        "200": _plain_answer("A page.", "text/html", _TEXT),
        "304": {"description": "As the client has it."},
    }
    document = {
        "200": _plain_answer("The document.", JSON, {"type": "object"}),
        "304": {"description": "As the client has it."},
    }
    missing = responses(("NotFound",))
    file = {
        "200": {
            "description": "A file of the page.",
            "content": {kind: {"schema": _TEXT} for kind in ("text/css", "text/javascript", "image/svg+xml")},
        },
        "304": {"description": "As the client has it."},
        **missing,
    }
    named = [
        _segment("version", "`v1`, `v2`, …, or `service`."),
        _segment("resource", "Segment of the resource."),
    ]
    leads = {
        "302": {"description": "See `Location`.", "headers": {"Location": {"schema": {"const": "/docs"}}}}
    }
    return {
        "/": {"get": _open("Documentation", "documentation_root", "Leads to the documentation", leads)},
        "/openapi.json": {
            "get": _open("Documentation", "documentation_openapi", "The OpenAPI document", document)
        },
        "/docs": {"get": _open("Documentation", "documentation_index", "The documentation", page)},
        "/docs/{version}/{resource}": {
            "get": _open(
                "Documentation", "documentation_page", "One resource's documentation", {**page, **missing}
            )
            | {"parameters": named}
        },
        "/docs/assets/{name}": {
            "get": _open("Documentation", "documentation_file", "Style and script of the pages", file)
            | {"parameters": [_segment("name", "Name of the file.")]}
        },
    }


def _sign_in_paths() -> dict[str, Any]:
    names = ("issuer", "authorization", "token", "endSession", "clientId", "redirectUri")
    way = {"type": "object", "properties": dict.fromkeys(names, _TEXT), "required": list(names)}
    answers = {"200": _plain_answer("Addresses of the realm, and the client.", JSON, way)} | responses(
        ("NotFound", "Unavailable")
    )
    summary = "Where the people of a tenant sign in"
    return {
        "/docs/sign-in/{tenant}": {
            "get": _open("Documentation", "documentation_sign_in", summary, answers)
            | {"parameters": [_segment("tenant", "Slug or id of the tenant.")]}
        }
    }


def _segment(name: str, description: str) -> dict[str, Any]:
    schema = {"type": "string", "pattern": "^[0-9A-Za-z._~-]+$"}
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


def _plain_answer(description: str, media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {media_type: {"schema": schema}}}


def _open(
    tag: str, name: str, summary: str, answers: dict[str, Any], *, limited: bool = True
) -> dict[str, Any]:
    shared = EVERYWHERE if limited else [one for one in EVERYWHERE if one != "TooManyRequests"]
    return {
        "tags": [tag],
        "summary": summary,
        "operationId": name,
        "security": [{}],
        "responses": dict(sorted({**responses((*shared, "Malformed")), **answers}.items())),
    }
