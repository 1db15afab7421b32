"""How much a query may ask for, and how quickly too much is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from byodpp.conditions import Comparison, Parameter, Visibility
from byodpp.definitions import Bounds, ResourceDefinition
from byodpp.exceptions import ApiError, InvalidQuery, QueryTooComplex
from byodpp.query import Query, condition_from_json, judge, parse
from byodpp.query.cursors import Cursors
from byodpp.query.reader import QueryReader
from byodpp.query.text import parse_json
from byodpp.registry import Registry
from tests.computing import computing
from tests.query_world import build_registry


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return build_registry(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def ask(registry: Registry) -> Any:
    def ask(text: str, *, mode: Any = "list", lookup: Any = None, **bounds: int) -> Query:
        resource = registry.get("Products")
        if bounds:
            resource = replace(resource, bounds=Bounds(**bounds))
        return judge(parse(text), resource, registry, lookup, mode)

    return ask


def see_all(resource: ResourceDefinition) -> Visibility:
    return Visibility(None, dict.fromkeys(resource.fields))


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("filter[and][0][and][0][and][0][name]=x", {"max_filter_depth": 3}),
        ("filter[name]=a&filter[amount]=1&filter[price]=1", {"max_filter_terms": 2}),
        ("filter[tags][hasAny]=a,b,c", {"max_filter_terms": 2}),
        ("filter[name][in]=a,b,c", {"max_in_values": 2}),
        ("sort=name,price,amount", {"max_sorts": 2}),
        ("include=category,dpps,dpps.sections", {"max_includes": 2}),
        ("include=dpps.sections.unit", {"max_include_depth": 2}),
        ("include=dpps.sections&limit=100", {}),
        ("include=dpps&include[dpps][limit]=1000&limit=11", {}),
        ("include=category.products.category.products", {}),
        ("filter=" + "%7B%22not%22:" * 20_000, {}),
        ("filter=" + "%7B%22not%22:" * 40 + "%7B%22name%22:1%7D" + "%7D" * 40, {}),
        ("filter" + "[not]" * 33 + "[name]=x", {}),
        ("filter" + "[not]" * 500 + "[name]=x", {}),
        ("filter[metadata]" + "[a]" * 40 + "=x", {}),
        ("filter[metadata" + ".a" * 7_000 + "]=x", {}),
        ("filter[metadata][a" + ".a" * 12 + "]=x", {}),
        ("filter[category" + ".parent" * 40 + ".name]=x", {}),
        ("sort=category" + ".parent" * 40 + ".name", {}),
        ("&".join(f"filter[or][{i}][name]=x" for i in range(201)), {}),
    ],
)
def test_passing_a_bound_is_refused(ask: Any, text: str, bounds: dict[str, int]) -> None:
    with computing() as taken:
        with pytest.raises(QueryTooComplex) as error:
            ask(text, **bounds)
        assert error.value.status == 400
    assert taken.seconds < 0.1


@pytest.mark.parametrize(
    ("way", "steps"),
    [
        *((["category", *["parent"] * steps, "name"], steps) for steps in range(4)),
        *((["metadata", *["a"] * steps], steps) for steps in range(1, 4)),
    ],
)
def test_dots_and_brackets_are_equally_deep(ask: Any, way: list[str], steps: int) -> None:
    forms = (f"filter[{'.'.join(way)}]=x", "filter" + "".join(f"[{one}]" for one in way) + "=x")
    for bound in range(1, 7):
        refused = []
        for text in forms:
            try:
                ask(text, max_filter_depth=bound)
            except QueryTooComplex:
                refused.append(text)
        assert refused == ([] if bound > steps + 1 else list(forms)), bound


@pytest.mark.parametrize(
    "tree",
    [
        {f"name{number}": 1 for number in range(6_000)},
        {"or": [{"nothing": 1}] * 6_000},
        {"dpps": {f"some{number}": {} for number in range(6_000)}},
        {"name": {f"like{number}": "x" for number in range(6_000)}},
    ],
    ids=lambda tree: next(iter(tree)),
)
def test_a_filter_of_very_many_unknown_names_is_refused_before_all_are_looked_at(
    registry: Registry, tree: Any
) -> None:
    raw = parse_json({"filter": tree})
    with computing() as taken:
        with pytest.raises(QueryTooComplex):
            judge(raw, registry.get("Products"), registry, None, "list")
    assert taken.seconds < 0.1


def test_a_query_in_json_of_very_many_names_or_values_is_refused(registry: Registry) -> None:
    many = {f"name{number}": 1 for number in range(1_001)}
    for body in (many, {"fields": many}, {"include": many}, {"include": {"dpps": many}}):
        with pytest.raises(InvalidQuery) as error:
            parse_json(body)
        assert [detail.code for detail in error.value.details] == ["too_many"]
    reader = QueryReader(registry, Cursors(b"x" * 32))
    with pytest.raises(QueryTooComplex) as refused:
        reader.read_json({"having": {"or": [1] * 111_000}}, registry.get("Products"), None, "list", 1)
    assert [detail.message for detail in refused.value.details] == ["A query holds at most 110000 values."]


@pytest.mark.parametrize(
    "text",
    [
        *(
            f"limit={value}"
            for value in ("0", "-1", "1001", "1" + "0" * 30, "10;", "1e2", "", "%EF%BC%91", "1.0")
        ),
        *(f"offset={value}" for value in ("-1", str(2**62), "x", "")),
        *(
            "page=0",
            "page=-1",
            f"page={2**40}",
            "page=2&offset=20",
            "count=some",
            "count=",
            "search=",
            "search=%20",
        ),
        *(
            "include[category][limit]=3",
            "include[category][sort]=name",
            "fields[dpps]=id",
            "include=dpps&include[dpps][limit]=0",
        ),
    ],
)
def test_pages_outside_of_their_bounds_are_refused(ask: Any, text: str) -> None:
    with pytest.raises(InvalidQuery):
        ask(text)


def test_a_single_row_takes_fields_and_includes_only(ask: Any) -> None:
    assert ask("fields=id&include=dpps", mode="read").shape.limit is None
    for text in ("filter[id]=1", "sort=id", "limit=1", "page=1", "count=none", "search=x"):
        with pytest.raises(InvalidQuery) as error:
            ask(text, mode="read")
        assert [detail.code for detail in error.value.details] == ["unknown_parameter"]


@pytest.mark.parametrize(
    "text",
    [
        "&".join(f"p{i}=1" for i in range(10_000)),
        "&".join(f"filter[f{i}]=1" for i in range(999)),
        "&".join(f"unknown{i}=1" for i in range(999)),
        "fields=" + ",".join(f"f{i}" for i in range(9_000)),
        "include=" + ",".join(f"f{i}" for i in range(9_000)),
        "filter[name]=" + "a" * 60_000,
        "filter[" + "a" * 60_000 + "]=1",
        "filter[name][like]=" + "%25_" * 9_000,
        "filter[id][in]=" + ",".join(["1"] * 30_000),
        "sort=" + ",".join(f"n{i}" for i in range(9_000)),
        "[" * 60_000 + "=1",
        "cursor=" + "a" * 60_000,
        "aggregate=" + ",".join(f"sum:f{i}" for i in range(900)),
        "aggregate=count&group=" + ",".join(f"month(f{i})" for i in range(900)),
        "aggregate=count&having" + "[not]" * 60 + "[count]=1",
        "aggregate=count&" + "&".join(f"having[or][{i}][sum:f{i}]=1" for i in range(900)),
        "aggregate=count&sort=" + ",".join(f"sum:f{i}" for i in range(900)),
        "group=" + "(" * 30_000 + ")" * 30_000 + "&aggregate=count",
    ],
)
def test_hostile_queries_are_answered_within_a_tenth_of_a_second(ask: Any, text: str) -> None:
    with computing() as taken:
        try:
            ask(text, lookup=see_all)
        except ApiError as error:
            assert error.status == 400
            assert len(error.details) <= 101
    assert taken.seconds < 0.1


def test_lists_may_be_empty_for_trusted_callers_only(registry: Registry) -> None:
    products = registry.get("Products")
    condition, values = condition_from_json({"name": {"in": []}}, products, registry, None)
    assert (condition, values) == (Comparison((), "name", "in", Parameter(0)), ([],))
