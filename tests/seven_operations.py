"""The seven operations on every resource of a manifest, over HTTP, with random valid data.

What must come back is worked out from the manifest alone. Every deviation is collected as one line
in `Examination.findings`; the run goes on, so that one report tells everything.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import httpx2

from tests.many_resources import Json, Values, dumps, own_resources

__all__ = ["Examination", "kebab", "read_json"]

_ROWS = 5
_ORDERED = frozenset("string text integer bigint decimal float date time datetime uuid ulid".split())
_MEMBERS = frozenset("json object array".split())


def read_json(text: str | bytes) -> Any:
    """Read JSON; numbers with a point or an exponent keep their digits."""
    return json.loads(text, parse_float=Decimal)


def kebab(name: str) -> str:
    """Return a resource's name in URLs, worked out letter by letter."""
    found = ""
    for index, letter in enumerate(name):
        before, after = name[index - 1 : index], name[index + 1 : index + 2]
        starts = letter.isupper() and (
            before.islower() or before.isdigit() or (before.isupper() and after.islower())
        )
        found += ("-" if starts else "") + letter.lower()
    return found.replace("_", "-")


@dataclass(kw_only=True)
class Subject:
    """One resource under examination."""

    version: str
    spec: Json
    client: httpx2.AsyncClient  # may write
    urls: dict[str, str]
    rows: list[Json] = field(default_factory=list)  # as the server showed them

    @property
    def name(self) -> str:
        return f"{self.version}/{self.spec['name']}"

    @property
    def fields(self) -> dict[str, Json]:
        found: dict[str, Json] = self.spec["fields"]
        return found

    @property
    def visible(self) -> list[str]:
        return [name for name, one in self.fields.items() if not one.get("writeOnly")]

    @property
    def writable(self) -> list[str]:
        state = self.spec.get("states", {}).get("field", "status") if "states" in self.spec else None
        return [name for name, one in self.fields.items() if not one.get("readOnly") and name != state]

    def filterable(self) -> list[str]:
        everything = bool(self.spec.get("filterable"))
        keyed = {name for names in self.spec.get("indexes", []) for name in names}
        for key in self.spec.get("unique", []):
            keyed |= set(key["fields"] if isinstance(key, dict) else key)
        keyed |= set(self.spec.get("search", []))
        return [
            name
            for name, one in self.fields.items()
            if one.get(
                "filterable",
                not one.get("writeOnly")
                and (
                    everything
                    or name in keyed
                    or bool(one.get("index") or one.get("unique") or "references" in one)
                ),
            )
        ]


class Examination:
    """Examines every database resource of a manifest.

    Args:
        manifest: the parsed manifest.
        writer: signed in as Admin of the tenant.
        platform: signed in as Admin of the platform; writes shared resources.
        stranger: signed in as Admin of another tenant.
        seed: of the values.
    """

    def __init__(
        self,
        manifest: Json,
        *,
        writer: httpx2.AsyncClient,
        platform: httpx2.AsyncClient,
        stranger: httpx2.AsyncClient,
        seed: int = 0,
    ) -> None:
        self.findings: list[str] = []
        self.requests = 0
        self._values = Values(seed)
        self._writer, self._platform, self._stranger = writer, platform, stranger
        self.subjects = [
            self._subject(version, spec)
            for version, spec in own_resources(manifest)
            if spec.get("type", "database") == "database"
        ]
        self._by_name = {(one.version, one.spec["name"]): one for one in self.subjects}

    async def run(self) -> list[str]:
        """Examine everything; return the findings."""
        for subject in self.subjects:
            await self._create(subject)
        for subject in self.subjects:
            if subject.rows:
                await self._read(subject)
                await self._filter(subject)
                await self._sort(subject)
                await self._include(subject)
                await self._stranger_sees_nothing(subject)
                await self._put_back(subject)
                await self._patch(subject)
                await self._batch(subject)
                await self._transitions(subject)
        for subject in reversed(self.subjects):
            await self._delete(subject)
        return self.findings

    # --- requests ---

    def _subject(self, version: str, spec: Json) -> Subject:
        base = f"/api/{version}/{kebab(spec['name'])}"
        urls = dict.fromkeys(("list", "create"), base)
        urls |= dict.fromkeys(("read", "update", "patch", "delete"), f"{base}/{{id}}")
        urls["batch"] = f"{base}/batch"
        for one in spec.get("routes", {}).get("crud", []):
            if isinstance(one, dict):
                url, single = one["url"].replace(":id", "{id}"), "{" in one["url"] or ":" in one["url"]
                word = {"get": "read" if single else "list", "post": "create", "put": "update"}
                method = str(one["method"])
                urls[word.get(method) or method] = url
        client = self._platform if spec.get("scope") == "shared" else self._writer
        return Subject(version=version, spec=spec, client=client, urls=urls)

    async def _call(
        self,
        subject: Subject,
        method: str,
        url: str,
        body: Any = None,
        *,
        expect: Iterable[int] = (200,),
        client: httpx2.AsyncClient | None = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """Send; return the parsed body, None when the status was another than expected."""
        self.requests += 1
        sent = {"Content-Type": "application/json"} if body is not None else {}
        answer = await (client or subject.client).request(
            method,
            url,
            content=None if body is None else dumps(body).encode(),
            headers=sent | (headers or {}),
        )
        if answer.status_code not in tuple(expect):
            shown = "" if body is None else f" with {dumps(body)[:300]}"
            self.find(
                subject, f"{method} {url[:300]}{shown}: {answer.status_code} {answer.content.decode()[:400]}"
            )
            return None
        if not answer.content:
            return {}
        return read_json(answer.content) | {"_headers": answer.headers}

    def find(self, subject: Subject, what: str) -> None:
        """Note a deviation."""
        self.findings.append(f"{subject.name}: {what}")

    def _same(self, subject: Subject, what: str, got: Any, wanted: Any) -> None:
        if not _equal(got, wanted):
            self.find(subject, f"{what}: got {got!r}, wanted {wanted!r}"[:600])

    def _at(self, subject: Subject, operation: str, row: Json) -> str:
        return subject.urls[operation].replace("{id}", quote(str(row["id"]), safe=""))

    def _guard(self, subject: Subject, row: Json) -> dict[str, str]:
        return {"If-Match": f'"{row["version"]}"'} if subject.spec.get("versioned") == "required" else {}

    # --- bodies ---

    def _body(self, subject: Subject, *, everything: bool) -> Json | None:
        """Return a valid body to create a row, None when a reference has nothing to lead to."""
        body: Json = {}
        for name in subject.writable:
            one = subject.fields[name]
            key = any(name in entry["fields"] for entry in subject.spec.get("unique", []))
            wanted = one.get("required") or everything or key
            if not wanted:
                continue
            if "references" in one:
                row = self._target(subject, one["references"])
                if row is None and one.get("required"):
                    return None
                body[name] = None if row is None else row["id"]
            else:
                body[name] = self._values.sent(one)
        return body

    def _target(self, subject: Subject, name: str) -> Json | None:
        target = self._by_name.get((subject.version, name)) or self._by_name[("v1", name)]
        twin = self._by_name.get(("v1", name), target)
        rows = target.rows or twin.rows
        return self._values.dice.choice(rows) if rows else None

    def _shown(self, subject: Subject, body: Json) -> Json:
        """Return what a created row must show of its declared fields."""
        found = {}
        for name in subject.visible:
            one = subject.fields[name]
            value = body.get(name, one.get("default"))
            found[name] = value if "references" in one else self._values.shown(one, value)
        if "states" in subject.spec:
            found[subject.spec["states"].get("field", "status")] = subject.spec["states"]["initial"]
        return found

    # --- the operations ---

    async def _create(self, subject: Subject) -> None:
        for number in range(_ROWS):
            body = self._body(subject, everything=number % 2 == 0)
            if body is None:
                return
            answer = await self._call(subject, "POST", subject.urls["create"], body, expect=[201])
            if answer is None:
                continue
            row = answer["data"]
            wanted = self._shown(subject, body)
            self._same(subject, "create shows", {name: row.get(name) for name in wanted}, wanted)
            hidden = [name for name in row if subject.fields.get(name, {}).get("writeOnly")]
            if hidden or "tenantId" in row or "deletedAt" in row:
                self.find(subject, f"shows what is hidden: {hidden}")
            self._same(subject, "Location", answer["_headers"]["location"], self._at(subject, "read", row))
            subject.rows.append(row)

    async def _read(self, subject: Subject) -> None:
        for row in subject.rows:
            answer = await self._call(subject, "GET", self._at(subject, "read", row))
            if answer is not None:
                self._same(subject, "read equals create", answer["data"], row)
        await self._call(subject, "GET", subject.urls["read"].replace("{id}", "0"), expect=[404])
        await self._call(subject, "GET", subject.urls["read"].replace("{id}", "%00"), expect=[400, 404])

    async def _list(self, subject: Subject, query: str, **options: Any) -> list[Json] | None:
        answer = await self._call(subject, "GET", f"{subject.urls['list']}?limit=50&{query}", **options)
        return None if answer is None else answer.get("data")

    async def _filter(self, subject: Subject) -> None:
        rows = await self._list(subject, "count=exact")
        if rows is None:
            return
        ids = {str(row["id"]) for row in rows}
        missing = {str(row["id"]) for row in subject.rows} - ids
        if missing:
            self.find(subject, f"list lacks {missing}")
        filterable = subject.filterable()
        for name in subject.fields:
            if name not in filterable:
                await self._list(subject, f"filter[{name}][isNull]=true", expect=[400])
        for name in filterable:
            await self._filter_field(subject, name, rows)

    async def _filter_field(self, subject: Subject, name: str, rows: list[Json]) -> None:
        spec = subject.fields[name]
        kind = spec.get("type", "reference")
        everything = {str(row["id"]) for row in rows}
        empty = {str(row["id"]) for row in rows if row[name] is None}

        async def ids(condition: Any) -> set[str]:
            found = await self._list(subject, f"filter={quote(dumps({name: condition}))}")
            return set() if found is None else {str(row["id"]) for row in found}

        def same(what: str, got: set[str], wanted: set[str]) -> None:
            if got != wanted:
                self.find(subject, f"filter {name} ({kind}) {what}: got {len(got)}, wanted {len(wanted)}")

        same("isNull", await ids({"isNull": True}), empty)
        same("not isNull", await ids({"isNull": False}), everything - empty)
        filled = [row for row in rows if row[name] is not None]
        if not filled or kind in _MEMBERS:
            return
        value = self._values.dice.choice(filled)[name]
        equal = {str(row["id"]) for row in rows if _equal(row[name], value)}
        same(f"eq {value!r}", await ids({"eq": value}), equal)
        same(f"ne {value!r}", await ids({"ne": value}), everything - equal)
        same(f"in {value!r}", await ids({"in": [value]}), equal)
        same(f"nin {value!r}", await ids({"nin": [value]}), everything - equal)
        text = value if isinstance(value, str) else dumps(value)
        found = await self._list(subject, f"filter[{name}][eq]={quote(text)}")
        if found is not None:
            same(f"[eq]={text!r}", {str(row["id"]) for row in found}, equal)
        if kind in _ORDERED:
            less, more = await ids({"lt": value}), await ids({"gt": value})
            same("lt + eq + gt", less | more | equal, everything - empty)
            if less & more or ((less | more) & equal and "locale" not in spec):
                self.find(subject, f"filter {name} ({kind}): lt, eq and gt overlap")
            same("lte", await ids({"lte": value}), less | equal)
            same("gte", await ids({"gte": value}), more | equal)
            same("between", await ids({"between": [value, value]}), equal)
        if kind in ("string", "text"):
            for operator, part in (
                ("contains", value[1:3]),
                ("startsWith", value[:2]),
                ("endsWith", value[-2:]),
            ):
                test = {"contains": str.__contains__, "startsWith": str.startswith, "endsWith": str.endswith}
                wanted = {str(row["id"]) for row in filled if test[operator](row[name], part)}
                same(f"{operator} {part!r}", await ids({operator: part}), wanted)

    async def _sort(self, subject: Subject) -> None:
        for name in subject.filterable():
            spec = subject.fields[name]
            if spec.get("type") in _MEMBERS:
                await self._list(subject, f"sort={name}", expect=[400])
                continue
            up = await self._list(subject, f"sort={name}")
            down = await self._list(subject, f"sort=-{name}")
            if up is None or down is None:
                continue
            values = [row[name] for row in up]
            filled = [one for one in values if one is not None]
            if values[len(filled) :] != [None] * (len(values) - len(filled)):
                self.find(subject, f"sort {name}: nulls are not last")
            if "locale" not in spec:
                key = _sort_key(spec)
                if [key(one) for one in filled] != sorted(key(one) for one in filled):
                    self.find(subject, f"sort {name}: {filled} is not in order")
            if [row[name] for row in down] != values[::-1]:
                self.find(subject, f"sort -{name} is not the reverse of sort {name}")

    async def _include(self, subject: Subject) -> None:
        to_one = {
            spec.get("as") or name.removesuffix("Id"): (name, spec["references"])
            for name, spec in subject.fields.items()
            if "references" in spec and not spec.get("writeOnly")
        }
        to_many = subject.spec.get("relations", {})
        if not to_one and not to_many:
            return
        query = ",".join([*to_one, *to_many])
        rows = await self._list(subject, f"include={query}")
        for row in rows or ():
            for relation, (name, target) in to_one.items():
                inner = row.get(relation)
                known = self._by_name[("v1", target)].rows
                wanted = next((one for one in known if one["id"] == row[name]), inner)
                if (row[name] is None) != (inner is None):
                    self.find(
                        subject, f"include {relation}: {name} is {row[name]!r}, included {inner!r}"[:300]
                    )
                elif subject.version == "v1":
                    self._same(subject, f"include {relation}", inner, wanted)
            for relation, one in to_many.items():
                for inner in row[relation]:
                    self._same(subject, f"include {relation}", inner[one["foreignField"]], row["id"])

    async def _stranger_sees_nothing(self, subject: Subject) -> None:
        if subject.spec.get("scope") == "shared":
            return
        ids = {str(row["id"]) for row in subject.rows}
        found = await self._list(subject, "", client=self._stranger)
        for row in found or ():
            if str(row["id"]) in ids and row in subject.rows:
                self.find(subject, f"another tenant sees {row['id']}")
        if subject.spec.get("id", "bigint") == "bigint":
            return  # the other tenant may have a row of the same number
        row = subject.rows[0]
        for method, operation in (("GET", "read"), ("DELETE", "delete"), ("PATCH", "patch")):
            url = self._at(subject, operation, row)
            body: dict[str, Any] | None = {} if method == "PATCH" else None
            await self._call(subject, method, url, body, expect=[404], client=self._stranger,
                             headers=self._guard(subject, row))  # fmt: skip

    async def _put_back(self, subject: Subject) -> None:
        for index, row in enumerate(subject.rows):
            hidden = [name for name in subject.writable if subject.fields[name].get("writeOnly")]
            if any(subject.fields[name].get("required") for name in hidden):
                continue
            url = self._at(subject, "update", row)
            answer = await self._call(subject, "PUT", url, row, headers=self._guard(subject, row))
            if answer is not None:
                changed = {"updatedAt", "version"}
                self._same(subject, "put back", _without(answer["data"], changed), _without(row, changed))
                subject.rows[index] = answer["data"]

    async def _patch(self, subject: Subject) -> None:
        names = [name for name in subject.writable if "references" not in subject.fields[name]]
        for name in names:
            spec, row = subject.fields[name], self._values.dice.choice(subject.rows)
            value = self._values.sent(spec)
            if spec["type"] == "object" or spec["type"] == "json":
                continue  # a merge patch merges; what comes of it is another test's
            url = self._at(subject, "patch", row)
            answer = await self._call(subject, "PATCH", url, {name: value}, headers=self._guard(subject, row))
            if answer is None:
                continue
            if name in subject.visible:
                self._same(subject, f"patch {name}", answer["data"][name], self._values.shown(spec, value))
            others = {"updatedAt", "version", name}
            self._same(subject, "patch leaves", _without(answer["data"], others), _without(row, others))
            subject.rows[subject.rows.index(row)] = answer["data"]

    async def _batch(self, subject: Subject) -> None:
        url = subject.urls["batch"]
        bodies = [self._body(subject, everything=flag) for flag in (True, False, True)]
        if None in bodies:
            return
        answer = await self._call(subject, "POST", url, bodies, expect=[200, 201])
        if answer is None:
            return
        made = answer["data"]
        for row, body in zip(made, bodies, strict=True):
            assert body is not None
            wanted = self._shown(subject, body)
            self._same(subject, "batch create", {name: row.get(name) for name in wanted}, wanted)
        if subject.spec.get("versioned") == "required":
            async with self._counting(subject, 0):
                await self._call(subject, "POST", url, {"operation": "delete", "items": [made[0]["id"]]},
                                 expect=[200, 204, 428])  # fmt: skip
            subject.rows.extend(made[1:])
            return
        unknown = {"id": made[0]["id"], "noSuchField": 1}
        mixed = {"operation": "patch", "atomic": False, "items": [unknown, {"id": made[1]["id"]}]}
        answer = await self._call(subject, "POST", url, mixed, expect=[200, 207])
        if answer is not None and len(answer["data"]) != 2:
            self.find(subject, f"a batch of two gave {dumps(answer['data'])}")
        async with self._counting(subject, 0):
            await self._call(subject, "POST", url, {**mixed, "atomic": True}, expect=[422])
        gone = {"operation": "delete", "items": [row["id"] for row in made]}
        async with self._counting(subject, -3):
            await self._call(subject, "POST", url, gone, expect=[200, 204])

    @asynccontextmanager
    async def _counting(self, subject: Subject, difference: int) -> AsyncIterator[None]:
        """Check by how much the number of rows changes, where it can be seen."""
        before = await self._list(subject, "count=exact")
        yield
        after = await self._list(subject, "count=exact")
        versioned = subject.spec.get("versioned") == "required"
        if before is not None and after is not None and not versioned:
            self._same(subject, "number of rows", len(after) - len(before), difference)

    async def _transitions(self, subject: Subject) -> None:
        if "states" not in subject.spec:
            return
        row = subject.rows[0]
        name = subject.spec["states"].get("field", "status")
        base = f"/api/{subject.version}/{kebab(subject.spec['name'])}/{quote(str(row['id']), safe='')}"
        for step, status, state in (
            ("hold", 409, None),
            ("publish", 200, "published"),
            ("hold", 200, "held"),
        ):
            answer = await self._call(
                subject, "POST", f"{base}/{step}", expect=[status], headers=self._guard(subject, row)
            )
            if answer is not None and state is not None:
                row = answer["data"]
                self._same(subject, f"state after {step}", row[name], state)
        subject.rows[0] = row

    async def _delete(self, subject: Subject) -> None:
        for row in subject.rows:
            url = self._at(subject, "read", row)
            answer = await self._call(subject, "GET", url, expect=[200, 404])
            if answer is None or "data" not in answer:
                continue  # gone with a row it referred to
            url, guard = self._at(subject, "delete", row), self._guard(subject, answer["data"])
            done = await self._call(subject, "DELETE", url, expect=[204, 409], headers=guard)
            if done == {}:
                await self._call(subject, "GET", url, expect=[404])


def _equal(left: Any, right: Any) -> bool:
    """Whether two JSON values are equal; true is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_equal(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    if isinstance(left, float) or isinstance(right, float):
        return left is not None and right is not None and float(left) == float(right)
    return bool(left == right)


def _sort_key(spec: Json) -> Any:
    """Return how values of a field are ordered."""
    kind = spec.get("type")
    if kind == "decimal":
        return Decimal
    return int if kind == "bigint" else lambda value: value


def _without(row: Json, names: set[str]) -> Json:
    return {name: value for name, value in row.items() if name not in names}
