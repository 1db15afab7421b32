"""The part of the manifest's grammar inside a resource: states, relations, routes, access, bounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from byodpp.definitions import OPERATIONS
from byodpp.grammar.shapes import Anything, Flag, Inside, Level, ListOf, MapOf, OneOf, Text, Whole, key, level

__all__ = ["HTTP_METHODS", "IDENTIFIER", "OPERATION_WORDS", "rule_levels"]

#: What names of resources, fields, relations and transitions look like.
IDENTIFIER: Final = "[A-Za-z][A-Za-z0-9_]*"
#: Words for an operation, in both vocabularies -> its name.
OPERATION_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {operation: operation for operation in OPERATIONS} | {"post": "create", "get": "read", "put": "update"}
)
#: Words of other frameworks for an operation -> what to write.
_OPERATION_HINTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        word: f'Write "{operation}".'
        for operation, words in {
            "list": "index all browse search find",
            "create": "add insert store new",
            "read": "show view retrieve detail",
            "update": "replace",
            "patch": "edit modify change",
            "delete": "remove destroy",
            "batch": "bulk",
        }.items()
        for word in words.split()
    }
)
HTTP_METHODS: Final = ("get", "post", "put", "patch", "delete")

_NAME = Text(pattern=IDENTIFIER, called="a name (a letter, then letters, digits or _)", names=True)
_URL = Text(called="a path such as /api/v1/products/{id}/feature")
_NAMES = ListOf(_NAME, minimum=1)


def rule_levels() -> Iterator[Level]:
    """Yield the levels below a resource, in the order of its keys."""
    yield from _states_levels()
    yield from _key_levels()
    yield from _routes_levels()
    yield from _access_levels()
    yield _bounds_level()
    yield _rate_limit_level()


def _key_levels() -> Iterator[Level]:
    yield level(
        "unique",
        "a unique key",
        "Fields whose values together occur once.",
        key(
            "fields",
            _NAMES,
            "The fields, in the order of the index.",
            example=["categoryId", "name"],
            required=True,
        ),
        key(
            "within",
            Text(("scope", "platform", "ever")),
            "Where a value counts: among the live rows of the scope, among those of all tenants, "
            "or (`ever`) among these and the softly deleted ones.",
            "scope",
        ),
    )
    yield level(
        "relation",
        "a relation",
        "A way to the rows of another resource that refer to this one.",
        key("resource", _NAME, "The resource whose rows refer to this one.", example="Dpps", required=True),
        key(
            "foreignField",
            _NAME,
            "The field over there that refers here; may be left out when there is only one.",
            example="productId",
        ),
    )


def _access_levels() -> Iterator[Level]:
    yield level(
        "rule",
        "an access rule",
        "Who may do one thing, on which rows, with which fields.",
        key(
            "roles",
            ListOf(
                Text(called="a role"),
                minimum=1,
                advice="A rule for nobody allows nothing. What is nobody's has `[]` in place of rules.",
            ),
            "Role names; `*` is every signed-in caller, `public` everybody.",
            example=["Admin"],
            required=True,
        ),
        key(
            "filter",
            Anything("an object in the query language"),
            "Only rows that match; may use `$user.…`, `$tenant` and `$now`.",
            example={"status": "published"},
        ),
        key("fields", _NAMES, "Only these fields; all when left out.", example=["id", "name"]),
        key(
            "preset",
            MapOf(Anything("a value of the field or a variable"), _NAME),
            "Under `write` or `create`: values that a created row gets where the body has none, and must "
            "have; may use `$user.…`, `$tenant` and `$now`.",
            example={"status": "draft"},
        ),
        hints={
            "presets": "Write `preset`.",
            "role": "Write `roles`, a list.",
            "where": "Write `filter`.",
            "condition": "Write `filter`.",
        },
    )


def _states_levels() -> Iterator[Level]:
    state = Text(pattern=r"\S(.*\S)?", called="a state's name")
    yield level(
        "states",
        "a state machine",
        "The states of a resource and the steps between them.",
        key(
            "field",
            _NAME,
            "The field that holds the state; declared by itself as a read-only enumeration.",
            "status",
        ),
        key("initial", state, "State of a new row.", example="draft", required=True),
        key("enum", ListOf(state, minimum=1), "All states; those that the transitions name when left out."),
        key(
            "transitions",
            MapOf(Inside("transition"), _NAME, minimum=1),
            "The steps by name; each is served as `POST /…/{id}/<name>`.",
            example={"publish": {"from": ["draft"], "to": "published"}},
            required=True,
        ),
        hints={"states": "Write `enum`, a list.", "start": "Write `initial`.", "values": "Write `enum`."},
    )
    yield level(
        "transition",
        "a transition",
        "One step of a state machine.",
        key(
            "from",
            OneOf((state, ListOf(state, minimum=1))),
            "States in which the step is possible.",
            example=["draft"],
            required=True,
        ),
        key("to", state, "State after the step.", example="published", required=True),
        key(
            "roles",
            ListOf(Text(called="a role"), minimum=1),
            "Who may take the step; like `access` under its key.",
        ),
        key(
            "event",
            Text(pattern=r"\S+", called="a name without blanks"),
            "Event emitted with the step.",
            example="product.published",
        ),
        key("summary", Text(), "For the documentation."),
    )


def _routes_levels() -> Iterator[Level]:
    words = Text(tuple(OPERATION_WORDS), hints=_OPERATION_HINTS)
    yield level(
        "routes",
        "the routes",
        "The operations and actions that are served.",
        key(
            "crud",
            ListOf(OneOf((words, Inside("crudRoute"))), distinct=False),
            "Operations, as words or with an address of their own.",
            list(OPERATIONS),
        ),
        key("actions", ListOf(Inside("action")), "Named routes that logic classes serve.", []),
    )
    methods = (*OPERATION_WORDS, *(method.upper() for method in HTTP_METHODS))
    yield level(
        "crudRoute",
        "a crud route",
        "An operation with an address of its own.",
        key("url", _URL, "The address.", example="/api/v1/products/{id}", required=True),
        key(
            "method",
            Text(methods),
            "The operation, or the HTTP method; with `get` and `post` the address tells which is meant.",
            example="get",
            required=True,
        ),
    )
    both = HTTP_METHODS + tuple(method.upper() for method in HTTP_METHODS)
    yield level(
        "action",
        "an action",
        "A route that a logic class serves.",
        key(
            "url",
            _URL,
            "The address, anywhere: `/api/v1/products/{id}/feature`, `/01/{gtin}`.",
            example="/api/v1/products/{id}/feature",
            required=True,
        ),
        key("method", Text(both), "The HTTP method.", "post"),
        key(
            "name",
            Text(pattern=r"[A-Za-z][A-Za-z0-9_:.-]*", called="a name"),
            "Its key; the last segment and the method (`feature:post`) when left out. Mandatory "
            "where the last segment is a parameter or the key repeats.",
        ),
        key(
            "parameters",
            MapOf(_NAME, _NAME),
            "Fields of the resource whose values the address's parameters are, by parameter; for the OpenAPI "
            "document, the class judges what comes. `id` is the key by itself; any other is a text.",
            {},
            {"gtin": "gtin", "serial": "serialNumber"},
        ),
        key("public", Flag(), "Served without a token.", False),
        key("maxBodyBytes", Whole(0, 1 << 40), "Size limit of the body; the application's when left out."),
        key("summary", Text(), "For the documentation."),
        hints={"path": "Write `url`.", "key": "Write `name`.", "description": "Write `summary`."},
    )


def _bounds_level() -> Level:
    most = 1_000_000
    return level(
        "bounds",
        "the bounds",
        "How much one request may ask of a resource; more is answered with 400.",
        key("limit", Whole(1, 100_000), "Rows of a page when the client names no limit.", 20),
        key("maxLimit", Whole(1, 100_000), "Rows of a page at most.", 1_000),
        key("maxIncludeDepth", Whole(0, 16), "Depth of `include`.", 4),
        key("maxIncludes", Whole(0, 100), "Relations in one `include`.", 16),
        key(
            "maxIncludeRows",
            Whole(0, most),
            "Rows of includes: their limits multiplied by the page's.",
            10_000,
        ),
        key("maxFilterTerms", Whole(0, 10_000), "Comparisons in one filter.", 100),
        key("maxFilterDepth", Whole(1, 64), "Depth of a filter.", 12),
        key("maxSorts", Whole(0, 64), "Keys of one sort.", 8),
        key("maxInValues", Whole(1, 100_000), "Values of one list in a filter.", 1_000),
        key("maxBatch", Whole(1, 100_000), "Items of one batch.", 1_000),
        key("maxOffset", Whole(0, 10**12), "Rows that may be skipped.", 1_000_000_000),
        key("maxAnswerBytes", Whole(1_024, 1 << 30), "Bytes of the rows of one answer.", 67_108_864),
    )


def _rate_limit_level() -> Level:
    return level(
        "rate limit",
        "a rate limit",
        "How often one caller may use a route; more is answered with 429.",
        key("requests", Whole(1, 10**9), "Requests in a sliding window.", required=True, example=10),
        key("seconds", Whole(1, 86_400), "Length of the window.", 60),
    )
