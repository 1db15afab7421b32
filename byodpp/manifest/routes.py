"""From the `routes` and `states` of a draft to operations with addresses and to actions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from byodpp.definitions import OPERATIONS, READ_OPERATIONS, ActionDefinition, Kind
from byodpp.grammar.rules import OPERATION_WORDS
from byodpp.grammar.shapes import Checker
from byodpp.grammar.values import Checked, Items
from byodpp.manifest.draft import Draft
from byodpp.suggestion import nearest

__all__ = ["HTTP_METHOD", "check_overlaps", "read_routes"]

#: Operation -> HTTP method.
HTTP_METHOD: Final = {
    "list": "GET",
    "create": "POST",
    "read": "GET",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
    "batch": "POST",
}
#: Addresses that the framework serves itself; everything below them too.
_RESERVED_PATHS: Final = ("/health", "/docs", "/openapi.json", "/realms")
_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=@%-]+")
#: Types whose values are no part of an address.
_NO_SEGMENTS: Final = frozenset({"json", "object", "array"})
_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


def read_routes(draft: Draft, checker: Checker) -> None:
    """Fill operations, their own addresses and actions."""
    routes: Checked = draft.body.get("routes") or Checked({}, draft.body.at("routes"))
    before = len(checker.problems)
    draft.operations = tuple(_operations(draft, routes, checker))
    named = routes.get("actions") or Items((), routes.at("actions"))
    for spec, _ in named.located():
        _add_action(draft, spec, checker)
    _add_transitions(draft, checker)
    _add_restoring(draft)
    draft.actions_sound = len(checker.problems) == before and not routes.broken
    if (
        draft.kind is Kind.LOGIC
        and draft.part is None
        and not draft.operations
        and not draft.actions
        and draft.actions_sound
    ):
        reason = f"{draft.name} has no table and no route, so there is nothing to serve"
        checker.report(
            draft.path, reason, 'Add "routes" with "crud" or "actions", or write "type": "database".'
        )


def _operations(draft: Draft, routes: Checked, checker: Checker) -> Iterator[str]:
    """Yield the operations that have a route, in the usual order."""
    found: dict[str, str] = {}  # operation -> path in the manifest
    if "crud" in routes or "crud" in routes.broken:
        for item, path in (routes.get("crud") or Items((), "")).located():
            operation = (
                OPERATION_WORDS[item] if isinstance(item, str) else _operation_of(draft, item, checker)
            )
            if operation is None:
                continue
            if operation in found:
                checker.report(path, f"{operation} is listed twice", f"It is at {found[operation]} already.")
            found.setdefault(operation, path)
    else:
        usual = {Kind.DATABASE: OPERATIONS, Kind.VIEW: ("list", "read"), Kind.LOGIC: ()}[draft.kind]
        found = dict.fromkeys(usual, routes.path)
    _apply_batch_switch(draft, found, routes, checker)
    if draft.kind is Kind.VIEW:
        for operation in [one for one in found if one not in READ_OPERATIONS]:
            checker.report(
                found.pop(operation), f"a view is read-only, so {operation} cannot be served", "Leave it out."
            )
    yield from (operation for operation in OPERATIONS if operation in found)


def _apply_batch_switch(draft: Draft, found: dict[str, str], routes: Checked, checker: Checker) -> None:
    switch = draft.body.get("supportsBatch")
    if switch is True:
        found.setdefault("batch", draft.body.at("supportsBatch"))
    elif switch is False and "batch" in found:
        if "crud" in routes:
            reason = '"supportsBatch" is false, but routes.crud lists batch'
            checker.report(draft.body.at("supportsBatch"), reason, "Keep one of the two.")
        del found["batch"]


def _operation_of(draft: Draft, spec: Checked, checker: Checker) -> str | None:
    """Return the operation of a `{url, method}` route and note its address when it is not the usual one."""
    url = None if "url" in spec.broken else _url(spec["url"], spec.at("url"), checker)
    if url is None or spec.broken:
        return None
    operation = _by_method(spec["method"], url)
    parameters = _PARAMETER.findall(url)
    wanted = 0 if operation in ("list", "create", "batch") else 1
    if len(parameters) != wanted:
        needs = "no parameter" if wanted == 0 else "exactly one parameter, {id}"
        usual = draft.base_url + {"batch": "/batch"}.get(operation, "/{id}" if wanted else "")
        checker.report(
            spec.at("url"), f"the address of {operation} has {needs}", f"The usual one is {usual}."
        )
        return None
    url = _PARAMETER.sub("{id}", url)
    if url != _usual_url(draft, operation):
        draft.crud_routes[operation] = url
    return operation


def _by_method(method: str, url: str) -> str:
    """Tell the operation by its word; `get` and `post` mean two each, told apart by the address."""
    last = url.rsplit("/", 1)[-1]
    word = method.lower()
    if word == "get":
        return "read" if _PARAMETER.fullmatch(last) else "list"
    if word == "post":
        return "batch" if last == "batch" else "create"
    return OPERATION_WORDS[word]


def _usual_url(draft: Draft, operation: str) -> str:
    if operation in ("list", "create"):
        return draft.base_url
    return f"{draft.base_url}/batch" if operation == "batch" else f"{draft.base_url}/{{id}}"


def _url(url: str, path: str, checker: Checker) -> str | None:
    """Return an address with `{name}` parameters, None when it cannot be one."""
    if not url.startswith("/") or url.startswith("//"):
        checker.report(
            path, f"the address {url!r} does not begin with a single /", f"Write {'/' + url.strip('/')!r}."
        )
        return None
    segments = ["{" + one[1:] + "}" if one.startswith(":") else one for one in url[1:].split("/")]
    for segment in segments:
        if segment == "":
            checker.report(path, f"the address {url!r} has an empty segment", "Remove the superfluous /.")
            return None
        if segment in (".", "..") or re.search("%(?![0-9A-Fa-f]{2})", segment):
            checker.report(path, f"no client can ask for {segment!r}, a part of the address {url!r}")
            return None
        if not (_PARAMETER.fullmatch(segment) or _SEGMENT.fullmatch(segment)):
            reason = f"{segment!r} is neither plain text nor one parameter"
            checker.report(path, f"the address {url!r}: {reason}", "A parameter is a whole segment: {id}.")
            return None
    names = [name for segment in segments for name in _PARAMETER.findall(segment)]
    if len(set(names)) < len(names):
        checker.report(path, f"the address {url!r} names a parameter twice", "Give each its own name.")
        return None
    return "/" + "/".join(segments)


def _add_action(draft: Draft, spec: Checked, checker: Checker) -> None:
    url = None if "url" in spec.broken else _url(spec["url"], spec.at("url"), checker)
    if url is None or spec.broken & {"method", "name"}:
        return
    method = spec.get("method", "post").lower()
    last = url.rsplit("/", 1)[-1]
    if "name" not in spec and _PARAMETER.fullmatch(last):
        reason = "the address ends in a parameter, so the action needs a name"
        checker.report(spec.path, reason, 'Add "name", e.g. "name": "resolve".')
        return
    key = spec.get("name", f"{last}:{method}")
    if key in (*OPERATIONS, "read", "write"):
        checker.report(spec.at("name"), f"{key!r} is the word for an operation", "Choose another name.")
        return
    taken = next((action for action in draft.actions if action.key == key), None)
    if taken is not None:
        hint = "Choose another." if "name" in spec else 'Add "name" to tell them apart.'
        checker.report(spec.path, f"the key {key!r} belongs to the action at {taken.path} already", hint)
        return
    _check_reserved(url, spec.at("url"), checker)
    draft.actions.append(
        ActionDefinition(
            key=key,
            url=url,
            method=method.upper(),
            parameters=_fields_of_parameters(draft, spec, url, checker),
            public=spec.get("public", False),
            max_body_bytes=spec.get("maxBodyBytes"),
            summary=spec.get("summary"),
            path=spec.path,
        )
    )


def _check_reserved(url: str, path: str, checker: Checker) -> None:
    for reserved in _RESERVED_PATHS:
        if url == reserved or url.startswith(f"{reserved}/"):
            checker.report(path, f"{reserved} is served by the framework", "Choose another address.")
    if re.fullmatch(r"/api(/v[0-9]+(/batch)?)?", url):
        checker.report(path, f"{url} is served by the framework", "Choose another address.")


def _add_transitions(draft: Draft, checker: Checker) -> None:
    """Make an action of every transition."""
    specs: dict[str, Any] = (draft.body.get("states") or {}).get("transitions", {})
    for name, spec in specs.items():
        key = f"{name}:post"
        taken = next((action for action in draft.actions if action.key == key), None)
        if taken is not None:
            reason = f"the transition {name!r} and the action at {taken.path} have the same key {key!r}"
            checker.report(
                spec.path,
                reason,
                "Remove the action: a transition brings its route, and a logic class may serve it.",
            )
            continue
        transition = draft.states.transitions.get(name) if draft.states is not None else None
        draft.actions.append(
            ActionDefinition(
                key=key,
                url=f"{draft.base_url}/{{id}}/{name}",
                method="POST",
                transition=transition,
                summary=spec.get("summary"),
                path=spec.path,
            )
        )


def _add_restoring(draft: Draft) -> None:
    """Make an action of bringing back deleted rows, unless the manifest has its own word for it."""
    key, url = "restore:post", f"{draft.base_url}/{{id}}/restore"
    taken = any(action.key == key or (action.method, action.url) == ("POST", url) for action in draft.actions)
    if taken or not draft.body.get("softDelete") or "delete" not in draft.operations:
        return
    draft.actions.append(
        ActionDefinition(
            key=key,
            url=url,
            method="POST",
            restores=True,
            summary=f"Bring back a deleted row of {draft.name}",
            path=draft.body.at("softDelete"),
        )
    )


def check_overlaps(drafts: Iterable[Draft], checker: Checker) -> None:
    """Refuse two routes of one method whose addresses match the same paths with equal rank."""
    seen: dict[tuple[str, str], tuple[str, str]] = {}
    for draft in drafts:
        if not draft.routed or draft.twin:
            continue
        for method, url, what, path in _patterns(draft):
            shape = _PARAMETER.sub("{}", url)
            first, where = seen.setdefault((method, shape), (what, path))
            if (first, where) != (what, path):
                reason = f"{method} {url} ({what}) matches what {first} serves ({where})"
                checker.report(path, reason, "Give one of them another address.")


def _fields_of_parameters(draft: Draft, spec: Checked, url: str, checker: Checker) -> Mapping[str, str]:
    """Return the fields whose values the parameters are; refuse what is not there, or cannot be one."""
    given: Checked = spec.get("parameters") or Checked({}, spec.at("parameters"))
    names = _PARAMETER.findall(url)
    for parameter, name in given.items():
        path = given.at(parameter)
        if parameter not in names:
            reason = f"the address {url!r} has no parameter {parameter!r}"
            checker.report(path, reason, nearest(parameter, names))
        elif name not in draft.names:
            checker.report(path, f"{draft.name} has no field {name!r}", nearest(name, draft.names))
        elif (field := draft.fields.get(name)) is not None and field.type.name in _NO_SEGMENTS:
            reason = f"a value of type {field.type.name} is no part of an address"
            checker.report(path, reason, "Name another field, or leave it out.")
    return MappingProxyType(dict(given))


def _patterns(draft: Draft) -> Iterator[tuple[str, str, str, str]]:
    """Yield method, address, a name for messages, and the path in the manifest of every route."""
    for operation in draft.operations:
        url = draft.crud_routes.get(operation) or _usual_url(draft, operation)
        yield HTTP_METHOD[operation], url, f"{operation} of {draft.name}", draft.path
    if "list" in draft.operations:
        url = draft.crud_routes.get("list", draft.base_url)
        yield "POST", f"{url}/query", f"query of {draft.name}", draft.path
    if draft.body.get("history") and "read" in draft.operations:
        url = draft.crud_routes.get("read") or _usual_url(draft, "read")
        yield "GET", f"{url}/history", f"history of {draft.name}", draft.path
    for action in draft.actions:
        yield action.method, action.url, f"{action.key} of {draft.name}", action.path
