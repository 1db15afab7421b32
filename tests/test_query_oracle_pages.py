"""Random walks by cursor and random aggregates answer like the obvious evaluation over the same rows.

How many and which ones is said by the variables that `test_query_oracle` reads.
"""

from __future__ import annotations

import datetime
import json
import random
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from byodpp.exceptions import InvalidQuery, QueryTooComplex
from byodpp.query.aggregates import PERIODS
from byodpp.query.cursors import Cursors
from byodpp.query.reader import QueryReader
from byodpp.statements import Statements
from tests import test_query_oracle as oracle
from tests.naive_query import Naive, Rows, operation
from tests.query_world import World

world = oracle.world  # the fixture

NUMBERS = ("price", "weight", "amount", "rank", "score")
ORDERED = ("name", "description", "title", "status", "releasedOn", "checkedAt")
RULES = pytest.mark.parametrize("with_rules", [False, True], ids=["all-rows", "with-rules"])


@RULES
async def test_random_walks_by_cursor_bring_every_row_once_in_order(
    world: tuple[World, Rows], with_rules: bool
) -> None:
    stored, rows = world
    author = oracle.Author(random.Random(oracle.SEED + 10 + with_rules))
    statements = Statements(stored.registry, stored.tables)
    reader = QueryReader(stored.registry, Cursors(b"0" * 32))
    lookup, shown = None, rows
    for number in range(oracle.QUERIES // 8):
        if with_rules and number % 5 == 0:
            lookup, shown = oracle.lookup_and_rows(stored, rows, author)
        naive = Naive(shown)
        name = author.chance.choice(["Products", "Products", "Categories", "Dpps"])
        tree, sorts = author.tree(name, 1), author.sorts(name)
        found = [row for row in naive.rows[name] if naive.holds(name, row, tree)]
        expected = [row["id"] for row in naive.ordered(name, found, sorts)]
        asked: dict[str, Any] = {"filter": tree, "fields": "id", "limit": author.chance.choice((1, 2, 3, 5))}
        if sorts:
            asked["sort"] = oracle.sort_text(sorts)
        try:
            walked = await walk(stored, statements, reader, name, asked, lookup)
        except QueryTooComplex:
            continue
        assert walked == expected, json.dumps(asked, default=str)


async def walk(
    world: World, statements: Statements, reader: QueryReader, name: str, asked: dict[str, Any], lookup: Any
) -> list[Any]:
    resource, found, cursor = world.registry.get(name), [], None
    while True:
        more: dict[str, Any] = {} if cursor is None else {"cursor": cursor}
        query = reader.read_json({**asked, **more}, resource, lookup, "list", 1)
        record = await world.run(statements.page(resource, query, lookup), query.values)
        found += [row["id"] for row in json.loads(record["data"])]
        if not record["next"] or record["next"][-1] is None:
            return found
        cursor = reader.cursors.issue(query, 1, record["next"], position=len(found))


# --- aggregates ---------------------------------------------------------------------------


@RULES
async def test_random_aggregates_answer_like_the_obvious_evaluation(
    world: tuple[World, Rows], with_rules: bool
) -> None:
    stored, rows = world
    author = oracle.Author(random.Random(oracle.SEED + 20 + with_rules))
    statements = Statements(stored.registry, stored.tables)
    reader = QueryReader(stored.registry, Cursors(b"0" * 32))
    lookup, shown, asked_for = None, rows, 0
    for number in range(oracle.QUERIES // 4):
        if with_rules and number % 5 == 0:
            lookup, shown = oracle.lookup_and_rows(stored, rows, author)
        naive = Naive(shown)
        name = author.chance.choice(["Products", "Products", "Categories", "Dpps"])
        asked = question(author, name)
        resource = stored.registry.get(name)
        try:
            query = reader.read_json(asked, resource, lookup, "list", 1)
        except QueryTooComplex:
            continue
        record = await stored.run(statements.page(resource, query, lookup), query.values)
        found = json.loads(record["data"], parse_float=Decimal)
        expected = answered(naive, name, asked)
        told = json.dumps(asked, default=str)
        assert [one.get("group") for one in found] == [one.get("group") for one in expected], told
        for one, other in zip(found, expected, strict=True):
            assert same_numbers(one, other), told
        assert record["total"] == len(expected)
        asked_for += 1
    assert asked_for > oracle.QUERIES // 8


def question(author: oracle.Author, name: str) -> dict[str, Any]:
    """Return a random question about groups; sorted by a group or an aggregate, or not at all."""
    chance, fields = author.chance, oracle.FIELDS[name]
    words = ["count"]
    for field in chance.sample(fields, min(3, len(fields))):
        functions = ["countDistinct"]
        if field in NUMBERS or field == "id":
            functions += ["sum", "avg", "min", "max"]
        if field in ORDERED:
            functions += ["min", "max"]
        words.append(f"{chance.choice(functions)}:{field}")
    groups = chance.sample(fields, chance.randint(0, 2))
    if name == "Products":
        periods = [f"{period}(checkedAt)" for period in PERIODS]
        periods += [f"{period}(releasedOn)" for period in PERIODS if period != "hour"]
        groups += chance.sample([*periods, "category.name", "category.parent.rank"], chance.randint(0, 1))
    asked: dict[str, Any] = {"aggregate": words, "limit": 1000}
    if groups:
        asked["group"] = groups
    if chance.random() < 0.7:
        asked["filter"] = author.tree(name, 1)
    if chance.random() < 0.5:
        asked["having"] = {"count": {chance.choice(("gt", "lte", "ne")): chance.randint(0, 3)}}
        if chance.random() < 0.5:
            asked["having"] = {"not": asked["having"]}
    if chance.random() < 0.5:
        direction = chance.choice((":asc", ":desc", ":asc:nullsFirst", ":desc:nullsLast"))
        asked["sort"] = chance.choice([*groups, "count"]) + direction
    return asked


def answered(naive: Naive, name: str, asked: dict[str, Any]) -> list[dict[str, Any]]:
    groups = asked.get("group", [])
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {} if groups else {(): []}
    for row in naive.rows[name]:
        if naive.holds(name, row, asked.get("filter", {})):
            found.setdefault(tuple(group_value(naive, name, row, word) for word in groups), []).append(row)
    answers = []
    for key, rows in found.items():
        answer: dict[str, Any] = {"group": dict(zip(groups, key, strict=True))} if groups else {}
        for word in asked["aggregate"]:
            function, _, field = word.partition(":")
            value = number_of(
                function, [row[field] for row in rows if row[field] is not None] if field else rows
            )
            if field:
                answer.setdefault(function, {})[field] = value
            else:
                answer[function] = value
        tree = asked.get("having", {})
        if all(holds(answer["count"], word, operand) for word, operand in tree.items()):
            answers.append(answer)
    return ordered(answers, groups, asked.get("sort"))


def holds(count: int, word: str, operand: Any) -> bool:
    if word == "not":
        return not all(holds(count, one, other) for one, other in operand.items())
    return all(operation(count, one, other, False) for one, other in operand.items())


def ordered(answers: list[dict[str, Any]], groups: list[str], sort: str | None) -> list[dict[str, Any]]:
    def key_of(word: str) -> Any:
        return lambda answer: answer["count"] if word == "count" else answer["group"][word]

    terms: list[tuple[str, bool, bool | None]] = [(word, False, None) for word in groups]
    if sort:
        word, direction, *nulls = sort.split(":")
        terms.insert(0, (word, direction == "desc", nulls == ["nullsFirst"] if nulls else None))
    for word, descending, nulls_first in reversed(terms):
        key = key_of(word)
        present = [one for one in answers if key(one) is not None]
        absent = [one for one in answers if key(one) is None]
        present.sort(key=key, reverse=descending)
        answers = (
            absent + present if (descending if nulls_first is None else nulls_first) else present + absent
        )
    return answers


def group_value(naive: Naive, name: str, row: dict[str, Any], word: str) -> Any:
    period, _, field = word.rstrip(")").rpartition("(")
    value = naive.value(name, row, field)
    if not period or value is None:
        return value
    moment = datetime.datetime.fromisoformat(value)
    begins = moment.replace(minute=0, second=0, microsecond=0)
    if period != "hour":
        begins = begins.replace(hour=0)
    if period == "week":
        begins -= datetime.timedelta(days=begins.weekday())
    elif period in ("month", "quarter", "year"):
        first = {"month": begins.month, "quarter": (begins.month - 1) // 3 * 3 + 1, "year": 1}[period]
        begins = begins.replace(day=1, month=first)
    return begins.date().isoformat() if field == "releasedOn" else f"{begins:%Y-%m-%dT%H:%M:%S.%f}Z"


def number_of(function: str, values: list[Any]) -> Any:
    if function == "count":
        return len(values)
    if function == "countDistinct":
        return len(set(values))
    if not values:
        return None
    if function in ("sum", "avg"):
        total = sum(map(Fraction, values))
        return total if function == "sum" else total / len(values)
    return min(values) if function == "min" else max(values)


def same_numbers(found: Any, expected: Any) -> bool:
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(
            same_numbers(found[key], expected[key]) for key in expected
        )
    if isinstance(expected, Fraction | float | Decimal):
        return (
            found is not None
            and abs(Fraction(found) - Fraction(expected)) <= abs(Fraction(expected)) / 10**12
        )
    return bool(found == expected)


def test_a_question_about_groups_is_about_nothing_else(world: tuple[World, Rows]) -> None:
    stored, _ = world
    reader = QueryReader(stored.registry, Cursors(b"0" * 32))
    with pytest.raises(InvalidQuery):
        reader.read_json({"aggregate": "count", "fields": "id"}, stored.registry.get("Dpps"), None, "list", 1)
