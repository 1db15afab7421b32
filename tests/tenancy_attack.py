"""Random requests of one tenant that carry another's ids, each beside the same with ids of nobody."""

from __future__ import annotations

import random
import re
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx2

from byodpp.routes import ListedRoute
from tests.tenancy_world import SHARED_BY_ALL, World, body_for, key_of

__all__ = ["Attack", "Sent"]

#: Fields that lead to another resource's row.
REFERENCES = {
    "Folders": {"parentId": "Folders"},
    "Documents": {"folderId": "Folders"},
    "Pages": {"documentId": "Documents"},
    "Links": {"labelId": "Labels", "documentId": "Documents", "unitId": "Units"},
    "Drafts": {"documentId": "Documents"},
    "Chapters": {"bulletinId": "Bulletins"},
    "UserRoles": {"userId": "Users", "roleId": "Roles"},
}
RELATIONS = {
    "Documents": ("folder", "pages"), "Pages": ("document",), "Links": ("label", "document"),
    "Chapters": ("bulletin",), "UserRoles": ("user", "role"),
}  # fmt: skip
#: Operators that an id of any kind takes.
COMPARISONS = ("eq", "in", "gte", "lte", "ne")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One request."""

    method: str
    url: str
    params: dict[str, str] | None = None
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


def unknown(id: str) -> str:
    """An id of the same form that nobody has."""
    if id.isdigit():
        return "98765432"
    return re.sub(r"[0-9]", "0", id[:-4]) + "9876" if "-" in id else "01BX5ZZKBKACTAV9WEVGEMMVRZ"


class Attack:
    """Makes requests by chance and judges the answers."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.dice = random.Random(seed)
        self.count = 0
        self.kinds: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.seconds: dict[bool, list[float]] = {True: [], False: []}  # by "with the other's ids"
        table = world.application.asgi.state.table
        self.routes = [
            route
            for route in table.listing()
            if route.resource and route.resource not in SHARED_BY_ALL and route.resource in world.beta_ids
        ]
        self.clients = {
            role: world.application.client(role=role, user="admin-acme")
            for role in ("Admin", "Editor", "Viewer")
        }
        self.cursors: dict[str, str] = {}
        self.keys = [f"beta-key-{number}" for number in range(40)]
        self.taken: set[tuple[str, str, str]] = set()  # method, address, and key that was tried there
        self.covered: set[tuple[str, str]] = set()

    async def prepare(self) -> None:
        """Let the other tenant have cursors and idempotency keys that can be stolen."""
        beta = self.world.application.client(tenant="beta", user="admin-beta")
        for segment in ("folders", "documents", "counters"):
            page = (await beta.get(f"/api/v1/{segment}?limit=1&sort=id")).json()
            self.cursors[segment] = page["pagination"]["next"]
        for key in self.keys:
            made = await beta.post(
                "/api/v1/folders", json={"title": f"beta kept {key}"}, headers={"Idempotency-Key": key}
            )
            assert made.status_code == 201, made.text

    async def strike(self) -> None:
        """Send one pair of requests, in either order, and compare the answers."""
        self.count += 1
        route, role = self.dice.choice(self.routes), self.dice.choice(list(self.clients))
        state = self.dice.getrandbits(64)
        pair = {}
        for theirs in self.dice.sample([True, False], 2):
            # The same chances twice, so that nothing differs but the ids.
            kind, sent = self._request(route, random.Random(state), theirs=theirs)
            self._keep_own_keys_apart(sent)
            began = time.perf_counter()
            answer = await self.clients[role].request(
                sent.method, sent.url, params=sent.params, json=sent.body, headers=sent.headers
            )
            self.seconds[theirs].append(time.perf_counter() - began)
            pair[theirs] = (sent, answer)
        self.kinds[kind] += 1
        self.covered.add((route.method, route.pattern))
        self._judge(kind, role, *pair[True], pair[False][1])

    def _keep_own_keys_apart(self, sent: Sent) -> None:
        """Take a key of the other's once for an address: the second time it is this tenant's own."""
        key = sent.headers.get("Idempotency-Key")
        if key is None:
            return
        if (sent.method, sent.url, key) in self.taken:
            sent.headers["Idempotency-Key"] = f"{key}-{self.count}"
        self.taken.add((sent.method, sent.url, key))

    def slower(self) -> float:
        """How much longer the median answer to the other's ids takes than that to nobody's."""
        return statistics.median(self.seconds[True]) / statistics.median(self.seconds[False])

    def _judge(
        self, kind: str, role: str, sent: Sent, answer: httpx2.Response, other: httpx2.Response
    ) -> None:
        self.statuses[answer.status_code] += 1
        about = (kind, role, sent, answer.status_code, answer.text[:500], other.status_code, other.text[:500])
        assert answer.status_code < 500, about
        assert "beta" not in answer.text, about
        assert answer.status_code == other.status_code, about
        if answer.status_code >= 400:
            assert _refusal(answer) == _refusal(other), about

    # --- the requests -------------------------------------------------------------------

    def _request(self, route: ListedRoute, dice: random.Random, *, theirs: bool) -> tuple[str, Sent]:
        resource = route.resource or ""
        id = self._id(resource, theirs=theirs)
        url = route.pattern.replace("{id}", id)
        headers = {"If-Match": dice.choice(['"1"', "*"])} if dice.random() < 0.5 else {}
        kind, params = "path", None
        body: Any = self._body(resource, dice) if route.method in ("POST", "PUT", "PATCH") else None
        if route.pattern.endswith("/batch"):
            kind, body = "batch", self._batch(resource, dice, id, theirs=theirs)
        elif route.pattern.endswith("/query"):
            kind, body = "query", self._query(resource, dice, id)
        elif route.operation == "list" and not route.pattern.endswith("/export"):
            kind, params = self._listed(resource, dice, id, theirs=theirs)
        elif body is not None and "{id}" not in route.pattern:
            kind, body = self._written(resource, dice, body, id, theirs=theirs)
        if dice.random() < 0.15:
            kind, headers = self._header(dice, headers, theirs=theirs)
        if dice.random() < 0.1:
            kind, url, body, params = "together", "/api/v1/batch", [self._step(resource, dice, id)], None
            return kind, Sent(method="POST", url=url, body=body, headers=headers)
        return kind, Sent(method=route.method, url=url, params=params, body=body, headers=headers)

    def _id(self, resource: str, *, theirs: bool) -> str:
        id = self.world.beta_ids[resource]
        return id if theirs else unknown(id)

    def _body(self, resource: str, dice: random.Random) -> dict[str, Any]:
        body = dict(body_for(resource, self.world.acme_ids))
        for name in ("title", "name"):
            if name in body:
                body[name] = f"acme {self.count} {dice.getrandbits(40)} {len(self.seconds[True])}"
        return body

    def _written(
        self, resource: str, dice: random.Random, body: dict[str, Any], id: str, *, theirs: bool
    ) -> tuple[str, dict[str, Any]]:
        references = REFERENCES.get(resource, {})
        choice = dice.randrange(3)
        if choice == 0 and references:
            name = dice.choice(sorted(references))
            return "reference", {**body, name: key_of(self._id(references[name], theirs=theirs))}
        if choice == 1:
            return "own id", {**body, "id": key_of(id)}
        tenant = int(self._id("Tenants", theirs=theirs))
        return "tenant in body", {**body, dice.choice(["tenantId", "tenant_id", "ownerId"]): tenant}

    def _listed(
        self, resource: str, dice: random.Random, id: str, *, theirs: bool
    ) -> tuple[str, dict[str, str]]:
        choice = dice.randrange(6)
        if choice == 0 and resource in RELATIONS:
            names = ",".join(RELATIONS[resource])
            return "include", {"include": names, "filter[id]": id, "limit": "100"}
        if choice == 1 and resource in REFERENCES:
            name = dice.choice(sorted(REFERENCES[resource]))
            other = self._id(REFERENCES[resource][name], theirs=theirs)
            return "filter by reference", {f"filter[{name}][{dice.choice(['eq', 'in'])}]": other}
        if choice == 2 and f"{resource.lower()}" in self.cursors:
            cursor = self.cursors[resource.lower()]
            return "cursor", {"sort": "id", "limit": "1", "cursor": cursor if theirs else cursor[::-1]}
        if choice == 3:
            tenant = self._id("Tenants", theirs=theirs)
            return "tenant in query", {dice.choice(["tenantId", "tenant", "filter[tenantId]"]): tenant}
        if choice == 4 and resource == "Documents":
            return "search", {"search": "beta" if theirs else "nobody"}
        if choice == 5:
            return "aggregate", {"aggregate": "count", "filter[or][0][id]": id}
        return "filter", {f"filter[id][{dice.choice(COMPARISONS)}]": id, "limit": "100"}

    def _query(self, resource: str, dice: random.Random, id: str) -> dict[str, Any]:
        test: dict[str, Any] = {"id": {"eq": key_of(id)}}
        if dice.random() < 0.5:
            test = {"or": [test, {"id": {"in": [key_of(id)]}}]}
        return {"filter": test, "limit": 100}

    def _batch(self, resource: str, dice: random.Random, id: str, *, theirs: bool) -> Any:
        operation = dice.choice(["update", "patch", "delete"])
        change = {} if operation == "delete" else self._body(resource, dice)
        item = {"id": key_of(id), **change}
        if dice.random() < 0.3 and resource in REFERENCES:
            name = dice.choice(sorted(REFERENCES[resource]))
            return [
                {
                    **self._body(resource, dice),
                    name: key_of(self._id(REFERENCES[resource][name], theirs=theirs)),
                }
            ]
        return {"operation": operation, "items": [item], "atomic": dice.random() < 0.5}

    def _step(self, resource: str, dice: random.Random, id: str) -> dict[str, Any]:
        operation = dice.choice(["read", "update", "patch", "delete"])
        step: dict[str, Any] = {"operation": operation, "resource": resource, "id": key_of(id)}
        if operation in ("update", "patch"):
            step["data"] = self._body(resource, dice)
        return step

    def _header(
        self, dice: random.Random, headers: dict[str, str], *, theirs: bool
    ) -> tuple[str, dict[str, str]]:
        if dice.random() < 0.5:
            return "tenant in header", {**headers, "X-Tenant": "beta" if theirs else "nobody"}
        mine = f"acme-{dice.getrandbits(60)}"  # drawn in either case, so that the chances stay the same
        key = dice.choice(self.keys)
        key = key if theirs else mine
        return "key", {**headers, "Idempotency-Key": f"{key}-{self.count}" if dice.random() < 0.5 else key}


def _refusal(answer: httpx2.Response) -> tuple[Any, ...]:
    error = answer.json()["error"]
    return error["code"], [(one["field"], one["code"]) for one in error.get("details", [])]
