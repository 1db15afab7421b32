"""Hooks for schemathesis: what its own check of valid data cannot know about a strict API."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from typing import Any, Final

import schemathesis
from schemathesis.core.failures import Failure
from schemathesis.specs.openapi import examples

#: Faults that no JSON Schema can rule out: they depend on what is stored, or on several values together.
BEYOND_SCHEMA: Final = frozenset(
    {
        "check_digit",  # follows from the other digits
        "conflict",  # `page` and `offset`, `fields` and `aggregate`, `sort=relevance` without `search`
        "duplicate",  # two rows with one `id`
        "reference",  # an id that leads to no row
        "repeated",  # one field sorted twice, in two directions
        "too_complex",  # many small things that together pass a bound
    }
)
#: Rules of single resources that no JSON Schema can tell: beginning of the address, field, codes.
RULES: Final = (
    # What fits a product is said by the row of its category: whether it is open, its type, its prices.
    ("/api/v1/products", "categoryId", {"inactive"}),
    ("/api/v1/products", "type", {"incompatible"}),
    ("/api/v1/products", "price", {"out_of_range"}),
    ("/api/v2/products", "categoryId", {"inactive"}),
    ("/api/v2/products", "type", {"incompatible"}),
    ("/api/v2/products", "price", {"out_of_range"}),
    # What fits a passport is said by its product and its template, what fits a value by its data point.
    ("/api/v1/categories", "products", {"incompatible", "inactive", "out_of_range"}),
    ("/api/v1/dpps", "templateId", {"incompatible", "not_published"}),
    ("/api/v1/dpps", "upi", {"required"}),
    ("/api/v1/dpp-data", "templateFieldId", {"incompatible"}),
    ("/api/v1/dpp-data", "value", {"invalid"}),
    # What looks like the identifier of a template field must be that of a row.
    ("/api/v1/templates", "metadata", {"unknown_template_field"}),
    # Counted from the moment of the request.
    ("/api/v1/api-keys", "expiresAt", {"out_of_range"}),
    ("/api/v1/grants", "expiresAt", {"out_of_range"}),
    ("/api/v1/revocations", "expiresAt", {"out_of_range"}),
    # Nobody gives a key a role that he does not hold.
    ("/api/v1/api-keys", "roles", {"forbidden"}),
    # Required for one kind of revocation and of no use for another.
    ("/api/v1/revocations", "subject", {"required"}),
    # Names of resources of this application, and how ids of that resource are written.
    ("/api/v1/grants", "object", {"unknown_resource"}),
    ("/api/v1/grants", "rowId", {"format"}),
    # A rule names roles that are rows, and a resource, which says what the other fields may hold.
    ("/api/v1/policies", "subject", {"unknown_role", "pattern"}),
    # What the roles would inherit in all.
    ("/api/v1/policies", "", {"circle"}),
    ("/api/v1/roles", "", {"circle"}),
    ("/api/v1/policies", "object", {"unknown_resource", "unknown_role"}),
    ("/api/v1/policies", "action", {"enum", "forbidden"}),
    ("/api/v1/policies", "condition", {"unsupported", "unfit", "unknown_field", "unknown_operator", "type"}),
    ("/api/v1/policies", "fields", {"unsupported", "unknown_field", "too_few"}),
    ("/api/v1/policies", "preset", {"unsupported", "unknown_field", "type"}),
    # What there is to ask about, by names of this application: a route, or a resource and an operation.
    ("/api/v1/policies/explain", "resource", {"unknown_resource", "required"}),
    ("/api/v1/policies/explain", "operation", {"unknown_operation", "required"}),
    ("/api/v1/policies/explain", "route", {"unknown_route", "invalid"}),
    ("/api/v1/policies/explain", "version", {"enum"}),
    ("/api/v1/policies/explain", "id", {"unsupported"}),
    ("/api/v1/policies/matrix", "resource", {"unknown_resource"}),
)
#: Parameters that only the server can make.
DEPENDENT: Final = ("cursor",)
#: Statuses of a valid request that is refused for what is stored, for who asks, or for its size.
REFUSED: Final = frozenset({401, 403, 404, 405, 409, 412, 413, 414, 428, 429, 431})


#: Number of the item of a batch, or the patch of one by filter.
_ITEM: Final = re.compile(r"^(data\.|(items\.)?[0-9]+\.)")
#: Part of the names of schemas of rows inside rows.
_INNER_ROW: Final = re.compile("(Create|Update|Patch)Under")
#: Ends of the names of schemas that contain themselves.
_ENDLESS: Final = ("Filter", "Having")


#: Under this key schemathesis lays whatever the schemas of an operation refer to.
_BUNDLED: Final = "x-bundled"


class RefusedValidData(Failure):
    """Data that the document allows were refused."""


@schemathesis.check
def what_the_document_allows_is_accepted(ctx: Any, response: Any, case: Any) -> None:
    """Fail when a valid request is refused for a reason that a schema could have told."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    status = response.status_code
    if status < 400 or status in REFUSED or status >= 500:
        return
    if response.json()["error"]["code"] in ("invalid_header", "idempotency_key_reused"):
        return  # schemathesis sends `"0"` of a header without its quotes, and one key with two bodies
    details = response.json()["error"]["details"]
    if details and all(is_beyond(detail, case) for detail in details):
        return
    raise RefusedValidData(operation=case.operation.label, title="Refused valid data", message=response.text)


def is_beyond(detail: dict[str, str], case: Any) -> bool:
    """Return whether a fault is one that the schemas of the document cannot tell."""
    name, code = detail["field"].partition("[")[0], detail["code"]
    if code in BEYOND_SCHEMA or name in DEPENDENT:
        return True
    if "U+0000" in detail["message"]:
        return True  # made for long arrays whatever `allow-x00` says
    if case.media_type == "application/json-patch+json" or case.operation.path in (
        "/api/v1/batch",
        "/api/v2/batch",
    ):
        return True  # what the steps lead to depends on the row, what data means on the resource
    if case.operation.path.endswith("/import"):
        # What records may hold is told at the creation of one; `on` must name one of several keys.
        return name not in case.query or (name, code) == ("on", "required")
    field = _ITEM.sub("", name).partition(".")[0]
    if any(
        case.operation.path.startswith(begin) and field == ruled and code in codes
        for begin, ruled, codes in RULES
    ):
        return True
    return (
        (code in ("required", "too_few") and is_merged(name, case))  # what is stored may have it
        or name == "page"  # how far it may go depends on `limit`
        or (case.method == "PUT" and code == "read_only")  # only what is stored may be sent
        or (name == "stars" and code == "type")  # marshmallow's strict integer takes no 4.0
    )


def is_merged(name: str, case: Any) -> bool:
    """Return whether a fault lies inside an object that a patch merges into a stored one."""
    inside = _ITEM.sub("", name).partition(".")[2]
    patched = case.method == "PATCH" or case.operation.path.endswith("/batch")
    return bool(inside) and patched


@schemathesis.hook
def filter_query(context: Any, query: Any) -> bool:
    """Leave out what no server reads: beyond 64 KB of an address the HTTP parser itself hangs up."""
    return len(str(query)) < 8_000


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: dict[str, Any]) -> None:
    """Leave out what this way of testing cannot judge.

    X-Tenant: a tenant's user may name its own tenant only, so that a random one tests nothing else.
    Prefer: an answer without a body where one is described is what it asks for.
    Filters: a schema that contains itself is walked over anew at each level, thousands of cases for every
    one above. One level stays: `and`, `or`, `not` and relations take conditions on the key only. What
    lies deeper is the affair of the tests of the query language.
    Rows inside rows: one level stays as well; tests/test_openapi_writes.py goes deeper.
    Files of imports: that they are text is all a schema says of them. JSON stays, for their parameters' sake.
    """
    for path, item in raw_schema["paths"].items():
        if path.endswith("/import"):
            content = item["post"]["requestBody"]["content"]
            item["post"]["requestBody"]["content"] = {"application/json": content["application/json"]}
    left_out = {f"#/components/parameters/{name}" for name in ("X-Tenant", "Prefer")}
    for item in raw_schema["paths"].values():
        for operation in item.values():
            parameters = operation.get("parameters", [])
            operation["parameters"] = [one for one in parameters if one.get("$ref") not in left_out]
    components = raw_schema["components"]["schemas"]
    for name in [name for name in components if _INNER_ROW.search(name)]:
        for one in components[name].get("anyOf", [components[name]]):
            if "properties" in one:
                inner = [key for key, value in one["properties"].items() if _INNER_ROW.search(str(value))]
                one["properties"] = {k: v for k, v in one["properties"].items() if k not in inner}
    inside = components["ValueInsideJson"]["anyOf"]
    inside[1]["additionalProperties"] = inside[0]
    for query in (one["properties"] for name, one in components.items() if name.endswith("Query")):
        if "include" in query:  # each filter is walked over in the list of its own resource
            query["include"] = _flat(query["include"])
    names = [name for name in components if name.endswith(_ENDLESS)]
    for name in names:
        own = components[name]["properties"]
        flat = {"id": own["id"]} if "id" in own else {}
        leaf = {**components[name], "properties": flat}
        if "patternProperties" in leaf:  # of a `having`: the counts are enough
            leaf["patternProperties"] = dict([*leaf["patternProperties"].items()][:1])
        components[f"{name}Leaf"] = leaf
    for name in names:
        properties = components[name]["properties"]
        components[name] = {
            **components[name],
            "properties": {key: _flat(one) for key, one in properties.items()},
        }


def remembering(made: Callable[..., Any]) -> Callable[..., Any]:
    """Return what makes the example of a property, once for all properties with that schema.

    Schemathesis draws it from the same seed each time, so that it is the same each time; of the reference
    application 18,000 were drawn for 300 schemas, which was more than half of what the whole run computed.
    A schema that refers to others is drawn anew: its references mean something else in each operation.
    """
    known: dict[str, Any] = {}

    def remembered(schema: Any, *rest: Any) -> Any:
        own = (
            {key: value for key, value in schema.items() if key != _BUNDLED}
            if isinstance(schema, dict)
            else schema
        )
        key = json.dumps(own, sort_keys=True)
        if '"$ref"' in key:
            return made(schema, *rest)
        if key not in known:
            known[key] = made(schema, *rest)
        found = known[key]
        return copy.deepcopy(found) if isinstance(found, dict | list) else found

    return remembered


examples._generate_single_example = remembering(examples._generate_single_example)


def _flat(schema: Any) -> Any:
    if isinstance(schema, dict):
        reference = schema.get("$ref", "")
        if reference.endswith(_ENDLESS):
            return {**schema, "$ref": f"{reference}Leaf"}
        return {key: _flat(one) for key, one in schema.items()}
    return [_flat(one) for one in schema] if isinstance(schema, list) else schema
