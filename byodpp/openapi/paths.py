"""The operations of a resource as OpenAPI describes them.

In: resources, the schema map and the map of logic classes. Out: path items, and the component
schemas that they refer to. Rejects nothing. Addresses and methods come from `addresses`, rights from
`authorization`, as for the routes themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from byodpp.addresses import OPERATION_ADDRESSES, Address, Form, addresses
from byodpp.authorization import rules_of
from byodpp.definitions import READ_OPERATIONS, ActionDefinition, Kind, OnDelete, ResourceDefinition
from byodpp.idempotency import KEYED_METHODS
from byodpp.logics import Logic, LogicMap
from byodpp.negotiation import JSON
from byodpp.openapi.bodies import (
    action_input,
    action_parameters,
    item_schema,
    query_schema,
    request_body,
    whole_body,
)
from byodpp.openapi.errors import BODY, EVERYWHERE, GUARDED, KEYED, LOGIC, responses
from byodpp.openapi.filters import filter_schema
from byodpp.openapi.groups import having_schema
from byodpp.openapi.nested import NestedSchemas
from byodpp.openapi.parameters import path_parameters, query_parameters, referring
from byodpp.openapi.schemas import (
    component,
    marshmallow_schema,
    row_example,
    row_schema,
)
from byodpp.openapi.transfers import export_operation, import_operation, progress_operation
from byodpp.registry import Registry
from byodpp.schemas import SchemaMap

__all__ = ["Described", "ResourceDescription", "tag_of"]

#: How an operation is called in a summary.
_SUMMARIES: Final[Mapping[str, str]] = {
    "list": "List {many}",
    "create": "Create one of {many}",
    "read": "Read one of {many}",
    "update": "Replace one of {many}",
    "patch": "Change one of {many}",
    "delete": "Delete one of {many}",
    "batch": "Write many {many} at once",
}
_REFUSALS: Final[Mapping[str, tuple[str, ...]]] = {
    "list": ("MalformedQuery",),
    "create": (*KEYED, *BODY, "WriteConflict", "StorageFull"),
    "read": ("MalformedQuery", "NotFound"),
    "update": (*BODY, "NotFound", "ReplaceConflict", "StorageFull"),
    "patch": (*KEYED, *BODY, "NotFound", "WriteConflict", "StorageFull"),
    "delete": (*BODY, "MalformedQuery", "NotFound", "DeleteConflict"),
    "batch": (*KEYED, *BODY, "AnyConflict", "PreconditionFailed", "PreconditionRequired", "StorageFull"),
}
#: Operations and transitions that change one row take If-Match.
_KEYED_WRITES: Final = frozenset({"update", "patch", "delete"})
_STATUS: Final = {"create": "201", "delete": "204"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """One operation of the document."""

    path: str
    method: str  # lower case
    operation: dict[str, Any]


def tag_of(resource: ResourceDefinition) -> str:
    """Return the heading under which a resource's operations stand."""
    return resource.name if resource.version == "v1" else f"{resource.name} {resource.version}"


class ResourceDescription:
    """Describes one resource."""

    def __init__(
        self,
        resource: ResourceDefinition,
        registry: Registry,
        schemas: SchemaMap,
        logics: LogicMap,
        nested: NestedSchemas,
    ) -> None:
        self._resource = resource
        self._registry = registry
        self._schemas = schemas
        self._logics = logics
        self._nested = nested

    def components(self) -> dict[str, Any]:
        """Return the component schemas by name."""
        resource = self._resource
        found = {component(resource): row_schema(resource, self._registry)}
        found[component(resource)]["examples"] = [row_example(resource)]
        if resource.kind is not Kind.LOGIC:
            found[component(resource, "Filter")] = filter_schema(resource, self._registry)
            if "list" in resource.operations:
                found[component(resource, "Query")] = query_schema(resource, self._registry)
                found[component(resource, "Having")] = having_schema(resource)
        for operation in ("create", "update", "patch"):
            if self._writes(operation):
                name = component(resource, operation.capitalize())
                found[name] = whole_body(resource, operation, self._schemas, self._nested)
        if "batch" in resource.operations and resource.kind is not Kind.LOGIC:
            for operation in ("update", "patch", "upsert"):
                name = component(resource, f"{operation.capitalize()}Item")
                found[name] = item_schema(resource, operation, self._schemas, self._nested)
        return found

    def operations(self) -> Iterator[Described]:
        """Yield the operations, then the actions, in declared order."""
        for one in addresses(self._resource, self._logics):
            if one.method != "QUERY":  # which OpenAPI 3.1 has no name for
                operation = self._described(one)
                yield Described(path=one.url, method=one.method.lower(), operation=operation)

    def _described(self, address: Address) -> dict[str, Any]:
        if address.action is not None:
            return self._action(address.action)
        if address.form is Form.OPERATION:
            return self._operation(address)
        if address.form is Form.QUERY:
            return self._query()
        return self._history(address.url) if address.form is Form.HISTORY else self._file(address.form)

    # --- the seven --------------------------------------------------------------------

    def _operation(self, address: Address) -> dict[str, Any]:
        name = address.operation
        resource, logic = self._resource, self._logics.get(self._resource, name)
        parameters = [
            *path_parameters(address.url, resource),
            *_shared("X-Request-ID", "X-Correlation-ID", "X-Tenant"),
        ]
        if name in READ_OPERATIONS:
            found_words = self._words_of_list if name == "list" else self._words_of(name)
            lists = "list" in resource.operations and resource.kind is not Kind.LOGIC
            parameters += referring(found_words, resource) if lists else found_words
        parameters += self._preconditions(name)
        if name not in READ_OPERATIONS:
            parameters += _shared(*_writing(address.method))
        summary = _SUMMARIES[name].format(many=resource.title or resource.name)
        found: dict[str, Any] = {
            **self._head(name, summary, logic),
            "parameters": parameters,
        }
        body = request_body(resource, name, self._schemas)
        if body is not None:
            found["requestBody"] = body
        refusals = tuple("AnyConflict" if one in self._widened(name) else one for one in _REFUSALS[name])
        found["responses"] = {**self._answers(name, logic), **self._refusals(name, logic, refusals)}
        return found

    def _widened(self, name: str) -> tuple[str, ...]:
        """Return the conflicts that may be those of other rows, too: inside the row, or going with it."""
        resource = self._resource
        if name in ("create", "update", "patch") and self._schemas.nestable(resource, name):
            return ("WriteConflict", "ReplaceConflict")
        fields = (field for _, field in self._registry.referencing(resource))
        goes = any(one.references and one.references.on_delete is OnDelete.CASCADE for one in fields)
        return ("DeleteConflict",) if name == "delete" and goes else ()

    def _query(self) -> dict[str, Any]:
        """Describe the list whose query is a JSON body."""
        resource, logic = self._resource, self._logics.get(self._resource, "list")
        head = self._head("list", f"Query {resource.title or resource.name}", logic)
        told = "The parameters of the list as JSON. The method `QUERY` on the collection takes the same body."
        content = {"schema": self._ref("Query"), "example": {"limit": 3, "count": "none"}}
        own = ("MalformedBody", "RequestTimeout", "PayloadTooLarge", "UnsupportedMediaType")
        return {
            **head,
            "description": f"{told}\n\n{head['description']}",
            "operationId": f"{component(resource)}_query",
            "parameters": _shared("X-Request-ID", "X-Correlation-ID", "X-Tenant"),
            "requestBody": {"required": True, "content": {JSON: content}},
            "responses": {**self._answers("list", logic), **self._refusals("list", logic, own)},
        }

    def _history(self, path: str) -> dict[str, Any]:
        """Describe the kept versions of a row."""
        resource = self._resource
        paging = [one for one in self._words_of_list if one.get("name") in ("limit", "offset", "page")]
        version = {
            "type": "object",
            "required": ["number", "operation", "at", "actorId", "requestId", "row"],
            "properties": {
                "number": {"type": "integer", "minimum": 1},
                "operation": {"type": "string"},
                "at": {"type": "string", "format": "date-time"},
                "actorId": {"type": ["integer", "null"]},
                "requestId": {"type": ["string", "null"]},
                "row": self._ref(),
            },
        }
        answer = self._answer("list", {"type": "array", "items": version})
        return {
            **self._head("read", f"Former versions of one of {resource.title or resource.name}", None),
            "operationId": f"{component(resource)}_history",
            "parameters": [
                *path_parameters(path, resource),
                *_shared("X-Request-ID", "X-Correlation-ID", "X-Tenant"),
                *paging,
            ],
            "responses": {"200": answer, **self._refusals("read", None, ("MalformedQuery", "NotFound"))},
        }

    @cached_property
    def _words_of_list(self) -> list[dict[str, Any]]:
        return self._words_of("list")

    def _words_of(self, mode: str) -> list[dict[str, Any]]:
        return query_parameters(self._resource, self._registry, mode)

    def _file(self, form: Form) -> dict[str, Any]:
        """Describe a file of rows, or how far one has come."""
        resource, name = self._resource, component(self._resource)
        if form is Form.EXPORT:
            head = {**self._head("list", "", None), "security": [{"bearer": []}]}
            return export_operation(head, name, resource, referring(self._words_of_list, resource))
        described = import_operation if form is Form.IMPORT else progress_operation
        return described(self._head("create", "", None), name, resource)

    def _head(self, key: str, summary: str, logic: type[Logic] | None) -> dict[str, Any]:
        resource = self._resource
        found: dict[str, Any] = {"tags": [tag_of(resource)], "summary": summary}
        told = _paragraphs(logic)
        rights = self._rights(key)
        found["description"] = "\n\n".join(one for one in (told, rights) if one)
        found["operationId"] = f"{component(resource)}_{key.replace(':', '_')}"
        found["security"] = [{}, {"bearer": []}] if self._public(key) else [{"bearer": []}]
        return found

    def _rules(self, key: str) -> tuple[tuple[str, ...], bool]:
        """Return the roles that the manifest gives an operation, and whether rows or fields are limited."""
        rules = rules_of(self._resource, key)
        limited = any(rule.filter is not None or rule.fields is not None for rule in rules)
        return tuple(dict.fromkeys(role for rule in rules for role in rule.roles)), limited

    def _public(self, key: str) -> bool:
        return "public" in self._rules(key)[0]

    def _rights(self, key: str) -> str:
        roles, limited = self._rules(key)
        words = {"*": "every signed-in user", "public": "everybody, signed in or not"}
        roles = ("public",) if "public" in roles else ("*",) if "*" in roles else roles
        told = ", ".join(words.get(role, f"`{role}`") for role in roles)
        tail = " Some of them for certain rows or fields only." if limited else ""
        return f"For: {told}.{tail}" if told else "For nobody unless a policy of the tenant allows it."

    def _preconditions(self, name: str) -> list[dict[str, Any]]:
        resource = self._resource
        if not resource.versioned:
            return []
        if name == "read":
            return _shared("If-None-Match")
        if name in _KEYED_WRITES:
            return _shared("If-Match-Required" if resource.version_required else "If-Match")
        return []

    def _writes(self, operation: str) -> bool:
        """Whether the body of an operation is described: it, or the batch of it, has a route."""
        operations = self._resource.operations
        has_batch = "batch" in operations and self._resource.kind is not Kind.LOGIC
        return operation in operations or has_batch

    def _ref(self, suffix: str = "") -> dict[str, Any]:
        return {"$ref": f"#/components/schemas/{component(self._resource, suffix)}"}

    # --- answers ----------------------------------------------------------------------

    def _answers(self, name: str, logic: type[Logic] | None) -> dict[str, Any]:
        status = _STATUS.get(name, "200")
        if logic is not None and logic.status is not None:
            status = str(logic.status)
        data = self._data(name, logic)
        found: dict[str, Any] = {}
        if status == "204":
            found["204"] = {"description": "Deleted." if name == "delete" else "Done.", "headers": _headers()}
            return found
        found[status] = self._answer(name, data, created=status == "201")
        if name == "batch":
            found["200"] = self._answer(
                name, {"type": "array", "items": {"$ref": "#/components/schemas/ItemOutcome"}}
            )
            found["201"] = self._answer(name, {"type": "array", "items": self._ref()}, created=True)
            found["200"]["content"][JSON]["schema"]["properties"]["data"] = {"type": "array", "items": {}}
        if name == "read" and self._resource.versioned:
            found["304"] = {"$ref": "#/components/responses/Unchanged"}
        if name in ("update", "patch", "batch"):
            found["204"] = {"$ref": "#/components/responses/Done"}
        if logic is not None and name in ("create", "update", "patch") and logic.status is None:
            found.setdefault("204", {"$ref": "#/components/responses/Done"})
        return dict(sorted(found.items()))

    def _data(self, name: str, logic: type[Logic] | None) -> dict[str, Any]:
        if logic is not None and logic.output is not None:
            one = marshmallow_schema(logic.output)
            return {"type": "array", "items": one} if name == "list" else one
        if self._resource.kind is Kind.LOGIC:
            return {}
        if name != "list":
            return self._ref()
        groups = {"$ref": "#/components/schemas/AggregateRow"}
        return {"type": "array", "items": {"anyOf": [self._ref(), groups]}}

    def _answer(self, name: str, data: Mapping[str, Any], *, created: bool = False) -> dict[str, Any]:
        properties: dict[str, Any] = {
            "success": {"const": True},
            "data": data,
            "message": {"type": "string"},
            "meta": {"$ref": "#/components/schemas/Meta"},
        }
        required = ["success", "data", "meta"]
        if name == "list" and self._resource.kind is not Kind.LOGIC:
            properties["count"] = {"type": ["integer", "null"], "minimum": 0, "description": "Rows in all."}
            properties["pagination"] = {"$ref": "#/components/schemas/Pagination"}
            required += ["count", "pagination"]
        schema = {"type": "object", "required": required, "properties": properties}
        told = {"list": "A page of rows.", "create": "The new row.", "batch": "What was done, in order."}
        found = {
            "description": told.get(name, "The row." if data else "Done."),
            "headers": _headers(*self._answer_headers(name, created=created)),
            "content": {JSON: {"schema": schema}},
        }
        return found | ({"links": self._links()} if created and name == "create" else {})

    def _links(self) -> dict[str, Any]:
        """Return what can be done with a new row next."""
        key = {"id": "$response.body#/data/id"}
        return {
            name: {"operationId": f"{component(self._resource)}_{name}", "parameters": key}
            for name in self._resource.operations
            if "{id}" in OPERATION_ADDRESSES[name][1]
        }

    def _answer_headers(self, name: str, *, created: bool) -> Iterator[str]:
        if self._resource.versioned and name not in ("list", "batch"):
            yield "ETag"
        if created and name == "create":
            yield "Location"
        if name not in READ_OPERATIONS:
            yield "Preference-Applied"
        if name not in (*READ_OPERATIONS, "update", "delete"):
            yield "Idempotency-Replayed"

    def _refusals(self, name: str, logic: type[Logic] | None, own: tuple[str, ...]) -> dict[str, Any]:
        names = [*own, *GUARDED, *EVERYWHERE, "Malformed"]
        resource = self._resource
        if resource.versioned and (name in _KEYED_WRITES or name == "transition"):
            names += ["PreconditionFailed", *(("PreconditionRequired",) if resource.version_required else ())]
        elif name in _KEYED_WRITES or name == "transition":
            names.append("PreconditionFailed")
        if name == "delete" and resource.kind is Kind.LOGIC:
            names += BODY
        # What a class may answer comes first: its conflicts have codes of their own.
        first = [one for one in own if one in KEYED]
        return responses([*first, *LOGIC, *names] if logic is not None else names)

    # --- actions ----------------------------------------------------------------------

    def _action(self, action: ActionDefinition) -> dict[str, Any]:
        resource, logic = self._resource, self._logics.get(self._resource, action.key)
        reads = action.method in ("GET", "HEAD")
        step = action.transition
        summary = (action.summary or "").rstrip(".") or (
            f"{step.name.capitalize()} one of {resource.name}"
            if step
            else _title(action.key, resource, logic)
        )
        parameters = [
            *path_parameters(action.url, resource, action.parameters),
            *_shared("X-Request-ID", "X-Correlation-ID", "X-Tenant"),
        ]
        own_words = logic.query if logic is not None else None
        if own_words is not None:
            parameters += action_parameters(own_words)
        elif reads:
            mode = "list" if resource.fields else "read"
            parameters += query_parameters(resource, self._registry, mode) if resource.fields else []
        if action.on_a_row:
            required = resource.versioned and resource.version_required and step is not None
            parameters += (
                _shared("If-Match-Required" if required else "If-Match") if resource.versioned else []
            )
        if not reads:
            parameters += _shared(*_writing(action.method))
        found = {**self._head(action.key, summary, logic), "parameters": parameters}
        if step is not None:
            sources = ", ".join(f"`{one}`" for one in step.sources)
            told = f"From {sources} to `{step.target}`; from any other state it is refused with 409."
            found["description"] = f"{told}\n\n{found['description']}"
        changes = step is not None or action.restores
        own: tuple[str, ...] = ("StateConflict",) if changes else ()
        if action.is_a_class_on_a_row and resource.versioned:
            own = ("PreconditionFailed",)
        own = ("MalformedQuery", *own)
        if not reads:
            nothing = {"type": "object", "additionalProperties": False}
            found["requestBody"] = (
                {"required": False, "content": {JSON: {"schema": nothing}}}
                if logic is None or logic.input is None
                else action_input(logic.input)
            )
            own = (*BODY, *own)
        if action.method in KEYED_METHODS:
            own = (*KEYED, *own)
        found["responses"] = {
            **self._action_answers(action, logic),
            **self._refusals("transition" if changes else action.key, logic, own),
        }
        return found

    def _action_answers(self, action: ActionDefinition, logic: type[Logic] | None) -> dict[str, Any]:
        minimal = {"$ref": "#/components/responses/Done"}
        if logic is None:
            return {"200": self._answer("transition", self._ref()), "204": minimal}
        status = str(logic.status or 200)
        if status == "204":
            return {"204": minimal}
        if logic.output is not None:
            name = "read" if action.method in ("GET", "HEAD") else action.key
            answer = self._answer(name, marshmallow_schema(logic.output))
        else:
            shown: tuple[str, ...] = ("ETag",) if self._resource.versioned else ()
            shown += ("Idempotency-Replayed",) if action.method in KEYED_METHODS else ()
            described = _headers(*shown)
            answer = {"description": "Done.", "headers": described, "content": {JSON: {"schema": {}}}}
        found = {status: answer, "204": minimal}
        return dict(sorted(found.items()))


def _writing(method: str) -> tuple[str, ...]:
    """Return the headers of a write: retries of some methods need a key of the client's."""
    return ("Prefer", "Idempotency-Key") if method.upper() in KEYED_METHODS else ("Prefer",)


def _shared(*names: str) -> list[dict[str, Any]]:
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]


def _headers(*names: str) -> dict[str, Any]:
    always = ("X-Request-ID", "X-Correlation-ID", "RateLimit", "RateLimit-Policy")
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*names, *always)}


def _paragraphs(logic: type[Logic] | None) -> str:
    """Return what a logic class says about itself; its parents' words are not its own."""
    text = "" if logic is None else logic.__dict__.get("__doc__") or ""
    return "\n".join(line.strip() for line in text.strip().splitlines())


def _title(key: str, resource: ResourceDefinition, logic: type[Logic] | None) -> str:
    told = _paragraphs(logic).partition("\n")[0].rstrip(".")
    return told or f"{key.partition(':')[0]} of {resource.name}"
