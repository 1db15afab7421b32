"""Random queries answer exactly like a slow, obvious evaluation in Python over the same rows.

`BYODPP_ORACLE_QUERIES` says how many (300 by default, 5,000 in `make soak`), `BYODPP_ORACLE_SEED` which ones.
"""

from __future__ import annotations

import datetime
import json
import os
import random
import uuid
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import pytest

from byodpp.conditions import Condition, Visibility, with_constants
from byodpp.definitions import ResourceDefinition
from byodpp.embedded import EmbeddedPostgres
from byodpp.exceptions import QueryTooComplex
from byodpp.query import condition_from_json, judge, parse, parse_json
from byodpp.statements import Statements
from tests.naive_query import DOCUMENTS, PATTERNS, RELATIONS, Naive, Rows
from tests.query_world import World, create_world

QUERIES = int(os.environ.get("BYODPP_ORACLE_QUERIES", "300"))
SEED = int(os.environ.get("BYODPP_ORACLE_SEED", "20240501"))
UTC = datetime.UTC

TEXTS = [
    "",
    "a",
    "A",
    "b",
    "ab",
    "aB",
    "50%",
    "a_b",
    "Zoë",
    "é",
    "É",
    "ä,b",
    "a\\b",
    "z",
    "%",
    "~",
    "\U0001f600",
]
WORDS = ["draft", "published", "retired"]
UUIDS = [str(uuid.UUID(int=number)) for number in (1, 2**64, 2**127)]
DATES = ["2023-12-31", "2024-01-01", "2024-02-29"]
MOMENTS = ["2024-01-01T00:00:00.000000Z", "2024-01-01T00:00:00.000001Z", "2025-06-30T23:59:59.999999Z"]
POOLS: dict[str, list[Any]] = {
    "name": TEXTS, "description": TEXTS, "title": TEXTS, "symbol": TEXTS, "status": WORDS, "code": UUIDS,
    "price": [Decimal("0.00"), Decimal("9.90"), Decimal("10.00"), Decimal("-1.50")],
    "weight": [0.5, -2.25, 1e10, 3.0], "amount": [-1, 0, 1, 2, 7], "rank": [1, 2, 3], "score": [0, 1, 2, 5],
    "isFeatured": [True, False], "releasedOn": DATES, "checkedAt": MOMENTS, "id": [1, 2, 3, 4, 5, 6, 99],
}  # fmt: skip
JSON_VALUES = ["red", "blue", "5", 5, 5.5, -1, True, False, "a_b", "true"]
COUNTS, COSTS, RATES = (
    ["7", "100", "20", "-3"],
    ["1.50", "20.00", "3.25", "-7.00"],
    ["1.5", "1.50", "20", "3"],
)
SIZES: dict[str, list[Any]] = {
    "label": ["a", "b", "10"], "depth": [0.1, 0.5, -2.25, 10.0],
    "count": COUNTS, "cost": COSTS, "rate": RATES,
}  # fmt: skip
LINES: dict[str, list[Any]] = {"sku": ["a", "b", "c"], "qty": [1, 2, 10], "cost": COSTS}
ITEMS = {"counts": COUNTS, "costs": COSTS, "rates": RATES}
ORDERED = ("gt", "gte", "lt", "lte", "between")
FIELDS = {
    "Categories": ["id", "name", "rank"],
    "Products": [
        "id", "name", "description", "price", "weight", "amount", "isFeatured", "releasedOn", "checkedAt",
        "code", "status",
    ],
    "Dpps": ["id", "status", "score"],
    "Sections": ["id", "title"],
    "Units": ["id", "symbol"],
}  # fmt: skip


# --- the rows -------------------------------------------------------------------------


def make_rows(chance: random.Random) -> Rows:
    """Return a tenant's rows, about a third of all values null."""

    def some(pool: list[Any]) -> Any:
        return None if chance.random() < 0.3 else chance.choice(pool)

    counts = {"Units": 3, "Categories": 4, "Products": 14, "Dpps": 18, "Sections": 14}
    rows: Rows = {}
    for name, count in counts.items():
        rows[name] = []
        for number in range(1, count + 1):
            row = {field: number if field == "id" else some(POOLS[field]) for field in FIELDS[name]}
            for target, many, local, _ in RELATIONS[name].values():
                if not many:
                    row[local] = some(list(range(1, counts[target] + 1)))
            if name == "Products":
                row["tags"] = some([["a"], ["a", "b"], [], ["50%", "b"]])
                row["metadata"] = some(
                    [{}, *({"k": value} for value in JSON_VALUES), {"k": None, "d": {"e": 5}}]
                )
                row |= make_documents(chance)
                row["deleted"] = chance.random() < 0.1
            rows[name].append(row)
    return rows


def make_documents(chance: random.Random) -> dict[str, Any]:
    """Return what lies in the documents of a row that say what lies in them."""

    def some(pools: dict[str, list[Any]]) -> dict[str, Any]:
        return {name: chance.choice(pool) for name, pool in pools.items() if chance.random() < 0.7}

    found: dict[str, Any] = {
        "size": some(SIZES),
        "lines": [some(LINES) for _ in range(chance.randint(0, 3))],
        "grid": [chance.sample([1, 2, 3], chance.randint(0, 2)) for _ in range(chance.randint(0, 2))],
    }
    found |= {name: chance.sample(pool, chance.randint(0, 3)) for name, pool in ITEMS.items()}
    return {name: None if chance.random() < 0.2 else value for name, value in found.items()}


async def store(world: World, rows: Rows, tenant: int) -> None:
    for name in ("Units", "Categories", "Products", "Dpps", "Sections"):
        resource = world.registry.get(name)
        for row in rows[name]:
            columns: dict[str, Any] = {"tenant_id": tenant}
            for field, value in row.items():
                if field == "deleted":
                    columns["deleted_at"] = datetime.datetime.now(UTC) if value else None
                elif field in ("tags", "metadata", *DOCUMENTS):
                    columns[field] = None if value is None else json.dumps(value)
                else:
                    columns[resource.columns[field]] = typed(field, value)
            if name == "Units":  # a library's keys are the platform's: never the same in two tenants
                columns |= {"id": row["id"] + (0 if tenant == 1 else 100)}
            if name == "Sections" and tenant == 2 and columns["unit_id"]:
                columns["unit_id"] += 100
            await world.add(name, **columns)


def typed(field: str, value: Any) -> Any:
    if value is None:
        return None
    if field == "releasedOn":
        return datetime.date.fromisoformat(value)
    if field == "checkedAt":
        return datetime.datetime.fromisoformat(value)
    return uuid.UUID(value) if field == "code" else value


# --- random queries -------------------------------------------------------------------


class Author:
    """Writes random queries."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def tree(self, name: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(self.chance.choice((1, 1, 1, 2, 3))):
            found.update(self.entry(name, depth))
        return found

    def entry(self, name: str, depth: int) -> dict[str, Any]:
        roll = self.chance.random()
        if depth > 0 and roll < 0.3:
            word = self.chance.choice(("and", "or"))
            return {word: [self.tree(name, depth - 1) for _ in range(self.chance.randint(1, 3))]}
        if depth > 0 and roll < 0.45:
            return {"not": self.tree(name, depth - 1)}
        if depth > 0 and roll < 0.75 and RELATIONS[name]:
            relation = self.chance.choice(list(RELATIONS[name]))
            target, many, *_ = RELATIONS[name][relation]
            if many:
                return {
                    relation: {self.chance.choice(("some", "every", "none")): self.tree(target, depth - 1)}
                }
            if self.chance.random() < 0.3 and any(many for _, many, *_ in RELATIONS[target].values()):
                return {f"{relation}.{key}": value for key, value in self.many(target, depth - 1).items()}
            return {f"{relation}.{key}": value for key, value in self.comparison(target).items()}
        return self.comparison(name)

    def many(self, name: str, depth: int) -> dict[str, Any]:
        relation = self.chance.choice([one for one, way in RELATIONS[name].items() if way[1]])
        target = RELATIONS[name][relation][0]
        return {
            relation: {self.chance.choice(("some", "every", "none")): self.tree(target, max(0, depth - 1))}
        }

    def comparison(self, name: str) -> dict[str, Any]:
        if name == "Products" and self.chance.random() < 0.25:
            return self.document() if self.chance.random() < 0.5 else self.declared()
        field = self.chance.choice(FIELDS[name])
        words = ["eq", "ne", "in", "nin", "isNull"]
        if field not in ("isFeatured",):
            words += ORDERED
        if field in ("name", "description", "title", "symbol", "status"):
            words += PATTERNS * 2
        word = self.chance.choice(words)
        return {field: {word: self.operand(word, POOLS[field], field in ("code",))}}

    def document(self) -> dict[str, Any]:
        roll = self.chance.random()
        if roll < 0.4:
            word = self.chance.choice(("has", "hasAny", "hasAll", "isNull"))
            tags = ["a", "b", "50%", "c"]
            values: Any = (
                self.chance.choice(tags)
                if word == "has"
                else self.chance.sample(tags, self.chance.randint(1, 3))
            )
            return {"tags": {word: self.chance.random() < 0.5 if word == "isNull" else values}}
        if roll < 0.5:
            return {"metadata": {"has": self.chance.choice(["k", "d", "x"])}}
        path = self.chance.choice(("k", "k", "d.e"))
        word = self.chance.choice(("eq", "ne", "in", "nin", "isNull", *ORDERED, "like", "contains"))
        pool: list[Any] = JSON_VALUES
        if word in ORDERED:
            pool = [5, 5.5, -1, 0] if self.chance.random() < 0.5 else ["red", "blue", "5"]
        return {f"metadata.{path}": {word: self.operand(word, pool)}}

    def declared(self) -> dict[str, Any]:
        """Ask about a document that says what lies in it: its items, or a value at the end of a path."""
        if self.chance.random() < 0.4:
            name = self.chance.choice(("lines", "grid", *ITEMS))
            word = self.chance.choice(("has", "hasAny", "hasAll"))
            found = [self.item(name) for _ in range(1 if word == "has" else self.chance.randint(1, 2))]
            return {name: {word: found[0] if word == "has" else found}}
        index = self.chance.choice((0, 1, 2, -1, -2))
        pools = {f"size.{name}": pool for name, pool in SIZES.items()}
        pools |= {f"lines.{index}.{name}": pool for name, pool in LINES.items()}
        pools |= {f"{name}.{index}": pool for name, pool in ITEMS.items()} | {f"grid.{index}.0": [1, 2, 3]}
        path = self.chance.choice(list(pools))
        word = self.chance.choice(("eq", "ne", "in", "nin", "isNull", *ORDERED * 2))
        return {path: {word: self.operand(word, pools[path])}}

    def item(self, name: str) -> Any:
        """Return what an array may have: of an object or an array a part."""
        if name == "grid":
            return self.chance.sample([1, 2, 3], self.chance.randint(0, 2))
        if name == "lines":
            chosen = self.chance.sample(list(LINES), self.chance.randint(1, 2))
            return {each: self.chance.choice(LINES[each]) for each in chosen}
        return self.chance.choice(ITEMS[name])

    def operand(self, word: str, pool: list[Any], text_only: bool = False) -> Any:
        if word == "isNull":
            return self.chance.random() < 0.5
        if word in ("in", "nin"):
            values = self.chance.sample(pool, self.chance.randint(1, min(3, len(pool))))
            return [*values, None] if self.chance.random() < 0.15 else values
        if word == "between":
            return [self.chance.choice(pool), self.chance.choice(pool)]
        if word in PATTERNS:
            pattern = self.chance.choice([*TEXTS, "%", "a%", "%b", "_", "a_", "%\\%%", "a\\_b", "%\\\\%"])
            return "a" if word in ("like", "ilike") and pattern.endswith("\\") else pattern
        if word in ("eq", "ne") and self.chance.random() < 0.1:
            return None
        return self.chance.choice(pool)

    def sorts(self, name: str) -> list[tuple[str, bool, bool | None]]:
        paths = [*FIELDS[name], *(["category.name", "category.parent.rank"] if name == "Products" else [])]
        chosen = self.chance.sample(paths, self.chance.randint(0, 2))
        return [
            (path, self.chance.random() < 0.5, self.chance.choice((None, None, True, False)))
            for path in chosen
        ]


def sort_text(sorts: list[tuple[str, bool, bool | None]]) -> str:
    nulls = {None: "", True: ":nullsFirst", False: ":nullsLast"}
    return ",".join(f"{path}:{'desc' if down else 'asc'}{nulls[first]}" for path, down, first in sorts)


def brackets(tree: Any, prefix: str = "filter") -> Iterator[tuple[str, str]]:
    """Spell a tree as parameters; null has no spelling there, and a document in a list is JSON."""
    if isinstance(tree, dict | list) and prefix.endswith(("[has]", "[hasAny]", "[hasAll]")):
        several = enumerate(tree) if prefix.endswith(("[hasAny]", "[hasAll]")) else [("", tree)]
        for place, value in several:
            spelled = json.dumps(value) if isinstance(value, dict | list) else str(value)
            yield f"{prefix}[{place}]" if place != "" else prefix, spelled
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield from brackets(value, f"{prefix}[{key}]")
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from brackets(value, f"{prefix}[{index}]")
    elif tree is None:
        raise ValueError(prefix)
    else:
        yield (
            prefix,
            str(tree).lower()
            if isinstance(tree, bool)
            else f"{tree:f}"
            if isinstance(tree, float)
            else str(tree),
        )


def encoded(pairs: Iterator[tuple[str, str]]) -> bytes:
    def escape(text: str) -> str:
        return "".join(f"%{byte:02X}" for byte in text.encode())

    return "&".join(f"{escape(name)}={escape(value)}" for name, value in pairs).encode()


# --- the tests ------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[World, Rows]]:
    folder = tmp_path_factory.mktemp("oracle")
    async with EmbeddedPostgres(folder, durable=False).running() as server:
        world = await create_world(server, folder, "oracle")
        await world.owner.execute("set session_replication_role = replica")  # rows come in any order
        rows = make_rows(random.Random(SEED))
        await store(world, rows, 1)
        await store(world, make_rows(random.Random(SEED + 1)), 2)
        yield world, rows
        await world.app.close()
        await world.owner.close()


def lookup_and_rows(world: World, rows: Rows, author: Author) -> tuple[Any, Rows]:
    """Return random rules, and the rows as these rules show them."""
    naive, rules, shown = Naive(rows), {}, {}
    for name in RELATIONS:
        resource = world.registry.get(name)

        def rule(tree: dict[str, Any] | None, resource: ResourceDefinition = resource) -> Condition | None:
            if tree is None:
                return None
            return with_constants(*condition_from_json(tree, resource, world.registry, None))

        row_tree = author.tree(name, 1) if author.chance.random() < 0.5 else None
        hidden = {
            field: author.tree(name, 1)
            for field in (*FIELDS[name], *(way[2] for way in RELATIONS[name].values() if not way[1]))
            if field != "id" and author.chance.random() < 0.2
        }
        fields = {field: rule(hidden.get(field)) for field in resource.fields}
        rules[resource.id] = Visibility(rule(row_tree), fields)
        shown[name] = [
            {
                field: value if field not in hidden or naive.holds(name, row, hidden[field]) else None
                for field, value in row.items()
            }
            for row in naive.rows[name]
            if row_tree is None or naive.holds(name, row, row_tree)
        ]
    return lambda resource: rules.get(resource.id), shown


async def ask(
    world: World, statements: Statements, resource: ResourceDefinition, raw: Any, lookup: Any
) -> Any:
    query = judge(raw, resource, world.registry, lookup)
    row = await world.run(statements.page(resource, query, lookup), query.values)
    return json.loads(row["data"]), row["total"]


@pytest.mark.slow
@pytest.mark.parametrize("queries", [QUERIES, pytest.param(5_000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("with_rules", [False, True], ids=["all-rows", "with-rules"])
async def test_random_queries_answer_like_the_obvious_evaluation(
    world: tuple[World, Rows], with_rules: bool, queries: int
) -> None:
    stored, rows = world
    author = Author(random.Random(SEED + with_rules))
    statements = Statements(stored.registry, stored.tables)
    lookup, shown = None, rows
    for number in range(queries // 2):
        if with_rules and number % 10 == 0:
            lookup, shown = lookup_and_rows(stored, rows, author)
        naive = Naive(shown)
        name = author.chance.choice(["Products", "Products", "Categories", "Dpps", "Sections"])
        resource = stored.registry.get(name)
        tree, sorts = author.tree(name, 3), author.sorts(name)
        expected = naive.ordered(
            name, [row for row in naive.rows[name] if naive.holds(name, row, tree)], sorts
        )
        limit, offset = author.chance.choice(((20, 0), (3, 0), (4, 2)))
        body: dict[str, Any] = {"filter": tree, "fields": "id", "limit": limit, "offset": offset}
        if sorts:
            body["sort"] = sort_text(sorts)
        try:
            found, total = await ask(stored, statements, resource, parse_json(body), lookup)
        except QueryTooComplex:
            continue
        wanted = [row["id"] for row in expected[offset : offset + limit]]
        assert ([row["id"] for row in found], total) == (wanted, len(expected)), json.dumps(body, default=str)
        await same_in_brackets(stored, statements, resource, tree, lookup, naive, expected)


async def same_in_brackets(
    world: World,
    statements: Statements,
    resource: ResourceDefinition,
    tree: Any,
    lookup: Any,
    naive: Naive,
    expected: Any,
) -> None:
    """Ask again in the bracket form, unless a value is spelled ambiguously there."""
    if "metadata" in json.dumps(tree, default=str):
        return
    try:
        text = encoded(brackets(tree))
    except ValueError:
        return
    found, total = await ask(world, statements, resource, parse(text + b"&limit=100&fields=id"), lookup)
    assert (sorted(row["id"] for row in found), total) == (
        sorted(row["id"] for row in expected),
        len(expected),
    ), text


@pytest.mark.slow
async def test_random_includes_bring_exactly_the_related_rows(world: tuple[World, Rows]) -> None:
    stored, rows = world
    author = Author(random.Random(SEED + 2))
    statements = Statements(stored.registry, stored.tables)
    for number in range(max(QUERIES // 6, 1)):
        lookup, shown = lookup_and_rows(stored, rows, author) if number % 2 else (None, rows)
        naive = Naive(shown)
        options: dict[str, Any] = {}
        for path, target in (("dpps", "Dpps"), ("dpps.sections", "Sections")):
            tree, sorts = author.tree(target, 1), author.sorts(target)
            options[path] = {"filter": tree, "limit": author.chance.choice((1, 2, 20)), "fields": "id"}
            if sorts:
                options[path]["sort"] = sort_text(sorts)
            options[path]["_"] = (tree, sorts)
        sent = {path: {k: v for k, v in one.items() if k != "_"} for path, one in options.items()}
        body = {
            "include": {**sent, "category.parent": True},
            "fields": {"category": "name", "category.parent": "id"},
        }
        found, _ = await ask(stored, statements, stored.registry.get("Products"), parse_json(body), lookup)
        assert len(found) == len(naive.rows["Products"])
        for answer in found:
            row = next(one for one in naive.rows["Products"] if one["id"] == answer["id"])
            assert answer["dpps"] == expected_include(
                naive, "Products", row, ["dpps", "sections"], "", options
            )
            category = naive.related("Products", row, "category")
            parent = naive.related("Categories", category[0], "parent") if category else []
            assert answer["category"] == (
                {"name": category[0]["name"], "parent": {"id": parent[0]["id"]} if parent else None}
                if category
                else None
            )


def expected_include(
    naive: Naive, name: str, row: dict[str, Any], path: list[str], prefix: str, options: dict[str, Any]
) -> list[Any]:
    relation, *rest = path
    target, here = RELATIONS[name][relation][0], f"{prefix}{relation}"
    tree, sorts = options[here]["_"]
    found = [one for one in naive.related(name, row, relation) if naive.holds(target, one, tree)]
    answer = []
    for one in naive.ordered(target, found, sorts)[: options[here]["limit"]]:
        shown: dict[str, Any] = {"id": one["id"]}
        if rest:
            shown[rest[0]] = expected_include(naive, target, one, rest, f"{here}.", options)
        answer.append(shown)
    return answer
