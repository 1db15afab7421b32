"""What the query language accepts, refuses, and means; no database needed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import pytest

from byodpp.conditions import (
    AllOf,
    AnyOf,
    Comparison,
    Constant,
    Negation,
    Parameter,
    Quantified,
    Search,
    Sort,
    Variable,
    Visibility,
    with_constants,
)
from byodpp.definitions import Bounds, ResourceDefinition
from byodpp.exceptions import ApiError, InvalidEncoding, InvalidQuery
from byodpp.query import Query, condition_from_json, judge, parse, parse_json
from byodpp.registry import Registry
from scripts.fault_codes import DETAILS
from tests.query_world import build_registry


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return build_registry(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def products(registry: Registry) -> ResourceDefinition:
    return registry.get("Products")


@pytest.fixture(scope="module")
def ask(registry: Registry) -> Any:
    def ask(text: str | bytes, *, mode: Any = "list", lookup: Any = None, **bounds: int) -> Query:
        resource = registry.get("Products")
        if bounds:
            resource = replace(resource, bounds=Bounds(**bounds))
        return judge(parse(text), resource, registry, lookup, mode)

    return ask


def codes(error: pytest.ExceptionInfo[Any]) -> list[str]:
    return [detail.code for detail in error.value.details]


def lookup_of(fields: Mapping[str, Any] | None = None, **others: Any) -> Any:
    """Return a lookup in which Products shows `fields` and every other resource everything but `others`."""

    def lookup(resource: ResourceDefinition) -> Visibility | None:
        if resource.name in others:
            shown = others[resource.name]
            return None if shown is None else Visibility(None, dict.fromkeys(shown))
        if resource.name == "Products" and fields is not None:
            return Visibility(None, dict(fields))
        return Visibility(None, dict.fromkeys(resource.fields))

    return lookup


# --- syntax ---------------------------------------------------------------------------


def test_a_name_without_operator_is_equality(ask: Any) -> None:
    query = ask("filter[name]=x")
    assert query.shape.filter == Comparison((), "name", "eq", Parameter(0))
    assert query.values == ("x",)


def test_both_forms_of_a_filter_mean_the_same(ask: Any) -> None:
    brackets = ask(
        "filter[or][0][price][gte]=5&filter[or][1][not][category.name]=a&filter[status][in]=draft,retired"
    )
    tree = {
        "or": [{"price": {"gte": 5}}, {"not": {"category.name": "a"}}],
        "status": {"in": ["draft", "retired"]},
    }
    in_json = ask("filter=" + quote(json.dumps(tree)))
    assert brackets == in_json
    assert in_json.shape.filter == AllOf(
        (
            AnyOf(
                (
                    Comparison((), "price", "gte", Parameter(0)),
                    Negation(Comparison(("category",), "name", "eq", Parameter(1))),
                )
            ),
            Comparison((), "status", "in", Parameter(2)),
        )
    )
    assert in_json.values == (Decimal(5), "a", ["draft", "retired"])


def test_the_body_of_a_query_request_is_the_same_language(
    registry: Registry, products: Any, ask: Any
) -> None:
    body = {
        "filter": {"dpps": {"some": {"status": "x"}}},
        "sort": ["-name", "price:asc:nullsFirst"],
        "fields": ["id", "name"],
        "include": {"dpps": {"limit": 5, "filter": {"score": {"gt": 1}}, "sort": "score", "fields": "id"}},
        "limit": 5,
        "page": 3,
        "count": "none",
    }
    text = (
        "filter[dpps][some][status]=x&sort=-name,price:asc:nullsFirst&fields=name,id&include=dpps"
        "&include[dpps][limit]=5&include[dpps][filter][score][gt]=1&include[dpps][sort]=score&fields[dpps]=id"
        "&limit=5&page=3&count=none"
    )
    query = judge(parse_json(body), products, registry, None)
    assert query == ask(text)
    assert (query.limit, query.offset, query.page) == (5, 10, 3)


def test_two_queries_that_differ_in_values_only_share_a_shape(ask: Any) -> None:
    one, other = ask("filter[name][in]=a,b&limit=33"), ask("filter[name][in]=c&limit=34")
    assert one.shape == other.shape
    assert hash(one.shape) == hash(other.shape)
    assert one.values != other.values


def test_the_order_of_chosen_fields_does_not_make_another_shape(ask: Any) -> None:
    assert ask("fields=name,id").shape == ask("fields=id,name").shape
    assert ask("fields=name,id").shape.fields == ("id", "name")


def test_commas_in_lists_are_escaped_by_a_backslash(ask: Any) -> None:
    assert ask(r"filter[name][in]=a\,b,c\\,\x").values == (["a,b", "c\\", "\\x"],)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("filter[name=x", "format"),
        ("filter]name[=x", "format"),
        ("filter[name]]=x", "format"),
        ("filter[name]=%zz", "format"),
        ("filter[name]=%", "format"),
        ("filter[name]=%00", "format"),
        ("filter[name]=a&filter[name]=b", "repeated"),
        ("limit=1&limit=1", "repeated"),
        ("filter[name]=a&filter[name][gt]=b", "conflict"),
        ("filter[name][gt]=b&filter[name]=a", "conflict"),
        ("filter[name]=a&filter=%7B%22name%22:%22a%22%7D", "mixed"),
        ("filter=%7B%22name%22:%22a%22%7D&filter[name]=a", "mixed"),
        ("filter=[1]", "type"),
        ("filter=%7B", "malformed_json"),
        ("filter=%7B%22name%22:1,%22name%22:2%7D", "duplicate_key"),
        ("sort=-", "format"),
        ("sort=", "format"),
        ("sort=name:up", "format"),
        ("sort=-name:desc", "format"),
        ("sort=name:asc:desc", "format"),
        ("fields=", "format"),
        ("fields=id,id", "repeated"),
        ("include=category,category", "repeated"),
        ("include=category&include[]=category", "repeated"),
        ("include[dpps][colour]=1", "unknown_option"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, code: str) -> None:
    with pytest.raises(InvalidQuery) as error:
        parse(text)
    assert code in codes(error)
    assert set(codes(error)) <= DETAILS.keys(), "answered, not explained"


def test_text_that_is_not_utf8_is_refused() -> None:
    for text in (b"filter[name]=%ff", b"filter[name]=%c0%80", b"filter[name]=\xff", b"%ff=1"):
        with pytest.raises(InvalidEncoding):
            parse(text)


def test_an_empty_query_asks_for_the_first_page(ask: Any) -> None:
    query = ask("")
    assert (query.shape.filter, query.shape.limit, query.shape.offset, query.values) == (None, 20, None, ())
    assert (query.limit, query.offset, query.page, query.shape.count) == (20, 0, 1, "exact")


# --- names ----------------------------------------------------------------------------


def test_every_fault_of_a_query_is_told_at_once(ask: Any) -> None:
    with pytest.raises(InvalidQuery) as error:
        ask(
            "filter[nam]=x&filter[price][gt]=abc&filter[name][grater]=1&sort=pric&limit=0&colour=red&include=dpp"
        )
    assert [(d.field, d.code) for d in error.value.details] == [
        ("colour", "unknown_parameter"),
        ("filter[nam]", "unknown_field"),
        ("filter[price][gt]", "type"),
        ("filter[name][grater]", "unknown_operator"),
        ("sort", "unknown_field"),
        ("limit", "out_of_range"),
        ("include", "unknown_relation"),
    ]
    assert "Did you mean 'name'?" in error.value.details[1].message
    assert "Did you mean 'price'?" in error.value.details[4].message
    assert "Did you mean 'dpps'?" in error.value.details[6].message


GUESSES = [
    "filter[{}]=a",
    "filter[{}][gte]=a",
    "filter[{}][isNull]=x",
    "filter[{}][nonsense]=x",
    "filter[not][or][0][{}]=a",
    "filter[{}][a][b]=1",
    "filter[{}.x]=1",
    "sort={}",
    "sort=-{}:nullsFirst",
    "fields={}",
    "filter[dpps][some][product.{}]=a",
    "include=dpps&include[dpps][filter][product.{}]=1",
    "sort=category.{}",
]


@pytest.mark.parametrize("guess", GUESSES)
@pytest.mark.parametrize("mode", ["list", "read"])
def test_a_field_that_may_not_be_read_is_refused_as_one_that_does_not_exist(
    ask: Any, guess: str, mode: str
) -> None:
    """The hidden name occurs nowhere else in the two answers, so that they must be equal but for it."""
    shown = {"id": None, "name": None, "categoryId": None}
    categories = ("id", "name")
    answers = []
    for name in ("amount", "amoumt"):
        with pytest.raises(InvalidQuery) as error:
            ask(guess.format(name), mode=mode, lookup=lookup_of(shown, Categories=categories))
        answers.append((type(error.value), error.value.message, error.value.details))
    assert repr(answers[0]).replace("amount", "amoumt") == repr(answers[1])
    assert "rank" not in repr(answers)


@pytest.mark.parametrize(
    "guess", ["filter[{}.status]=a", "filter[{}][some][status]=a", "sort={}.status", "include={}"]
)
def test_a_relation_whose_target_may_not_be_read_does_not_exist(ask: Any, guess: str) -> None:
    answers = []
    for name in ("dpps", "dpqs"):
        with pytest.raises(InvalidQuery) as error:
            ask(guess.format(name), lookup=lookup_of(Dpps=None))
        answers.append(repr((error.value.message, error.value.details)))
    assert answers[0].replace("dpps", "dpqs") == answers[1]


def test_a_relation_is_hidden_with_the_reference_it_would_tell(ask: Any) -> None:
    for lookup in (lookup_of({"id": None, "name": None}), lookup_of(Dpps=("id", "status"))):
        with pytest.raises(InvalidQuery):
            ask("include=dpps,category", lookup=lookup)


def test_a_write_only_field_is_never_readable(ask: Any) -> None:
    for text in ("fields=secret", "filter[secret]=x", "sort=secret"):
        with pytest.raises(InvalidQuery) as error:
            ask(text, lookup=lookup_of())
        assert codes(error) == ["unknown_field"]


def test_a_field_that_is_not_filterable_can_be_read_but_not_filtered_or_sorted(ask: Any) -> None:
    assert ask("fields=remark", lookup=lookup_of()).shape.fields == ("remark",)
    for text, code in (("filter[remark]=x", "not_filterable"), ("sort=remark", "not_sortable")):
        with pytest.raises(InvalidQuery) as error:
            ask(text, lookup=lookup_of())
        assert codes(error) == [code]


def test_search_exists_only_where_a_searched_field_may_be_read(ask: Any, registry: Registry) -> None:
    assert ask("search=boot", lookup=lookup_of()).shape.filter == Search(
        ("name", "description"), Parameter(0)
    )
    assert ask("search=boot", lookup=lookup_of({"id": None, "name": None})).shape.filter == Search(
        ("name",), Parameter(0)
    )
    with pytest.raises(InvalidQuery) as error:
        ask("search=boot", lookup=lookup_of({"id": None, "price": None}))
    assert codes(error) == ["unknown_parameter"]
    with pytest.raises(InvalidQuery):
        judge(parse("search=x"), registry.get("Dpps"), registry, None)


@pytest.mark.parametrize(
    "name",
    [
        "t0.name",
        "products.name",
        "name::text",
        "name->>'a'",
        "Name",
        "tenant_id",
        'a"',
        "a'",
        "a;--",
        "a%",
        "__class__",
    ],
)
def test_names_of_the_database_are_no_names_of_the_language(ask: Any, name: str) -> None:
    for text in (
        f"filter[{quote(name)}]=1",
        f"sort={quote(name)}",
        f"fields={quote(name)}",
        f"include={quote(name)}",
    ):
        with pytest.raises(InvalidQuery):
            ask(text)


# --- values and operators -------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "filter[amount]=1.5",
        "filter[amount]=1_000",
        "filter[amount]=%EF%BC%91",
        "filter[amount]=1000000000000000000000000000000",
        "filter[price]=NaN",
        "filter[price][gt]=1e5",
        "filter[isFeatured]=yes",
        "filter[releasedOn]=2024-02-30",
        "filter[checkedAt]=2024-02-03T00:00:00",
        "filter[code]=abc",
        "filter[amount][between]=1",
        "filter[amount][between]=1,2,3",
        "filter[amount][isNull]=1",
        "filter[amount][like]=1",
        "filter[isFeatured][gt]=true",
        "filter[tags]=a",
        "filter[tags][eq]=a",
        "filter[metadata]=a",
        "filter[amount][in]=",
        "filter[amount][in]=1,,2",
        "filter[name][like]=%25%5C",
        "filter[dpps]=1",
        "filter[dpps.status]=x",
        "filter[dpps.some.status]=x",
        "filter[dpps][any][status]=x",
        "filter[category]=1",
        "filter[or]=x",
        "filter[or][a][name]=x",
        "filter[not]=x",
        "filter[name][]=x",
        "filter=%7B%7D",
        "filter=%7B%22name%22:%7B%7D%7D",
        "filter=%7B%22name%22:%7B%22in%22:[]%7D%7D",
        "filter=%7B%22name%22:1%7D",
        "filter=%7B%22name%22:%22%5Cu0000%22%7D",
        "filter=%7B%22name%22:%22%5Cud800%22%7D",
        "filter=%7B%22amount%22:%221%22%7D",
        "filter=%7B%22amount%22:true%7D",
        "filter=%7B%22or%22:[]%7D",
        "filter=%7B%22metadata%22:%7B%22a%22:%7B%22gt%22:1e9999%7D%7D%7D",
    ],
)
def test_values_are_checked_against_the_type_of_the_field(ask: Any, text: str) -> None:
    with pytest.raises(ApiError) as error:
        ask(text, lookup=lookup_of())
    assert error.value.status == 400


def test_null_has_operators_of_its_own(ask: Any) -> None:
    tree = {"and": [{"name": None}, {"price": {"ne": None}}, {"amount": {"in": [1, None]}}]}
    assert ask("filter=" + quote(json.dumps(tree))).shape.filter == AllOf(
        (
            Comparison((), "name", "isNull", Constant(True)),
            Comparison((), "price", "isNull", Constant(False)),
            AnyOf(
                (
                    Comparison((), "amount", "in", Parameter(0)),
                    Comparison((), "amount", "isNull", Constant(True)),
                )
            ),
        )
    )


@pytest.mark.parametrize(
    ("operator", "value", "pattern"),
    [
        ("like", "abc", "%abc%"),
        ("like", "a_c", "a_c"),
        ("like", "a%", "a%"),
        ("like", "a\\b", "%a\\\\b%"),
        ("ilike", "abc", "%abc%"),
        ("contains", "50%_\\", "%50\\%\\_\\\\%"),
        ("startsWith", "a%", "a\\%%"),
        ("endsWith", "_a", "%\\_a"),
    ],
)
def test_text_operators_become_complete_patterns(ask: Any, operator: str, value: str, pattern: str) -> None:
    assert ask(f"filter[name][{operator}]={quote(value)}").values == (pattern,)


def test_to_many_relations_take_quantifiers(ask: Any) -> None:
    query = ask("filter[dpps][every][sections][some][title]=x&filter[category.products][none][name]=y")
    assert query.shape.filter == AllOf(
        (
            Quantified(
                ("dpps",),
                "every",
                Quantified(("sections",), "some", Comparison((), "title", "eq", Parameter(0))),
            ),
            Quantified(("category", "products"), "none", Comparison((), "name", "eq", Parameter(1))),
        )
    )
    assert query.shape.touched == (
        ("v1", "Products"), ("v1", "Categories"), ("v1", "Dpps"), ("v1", "Sections"),
    )  # fmt: skip


def test_an_object_below_a_relation_is_another_way_to_write_its_path(ask: Any) -> None:
    assert ask("filter[category][parent][name][gt]=x") == ask("filter[category.parent.name][gt]=x")


def test_a_value_inside_json_may_be_text_or_what_the_text_spells(ask: Any) -> None:
    query = ask("filter[metadata.size]=5&filter[metadata][a][b][gt]=x&filter[metadata.n][lte]=1.50")
    assert query.shape.filter == AllOf(
        (
            Comparison((), "metadata", "in", Parameter(0), ("size",), "json"),
            Comparison((), "metadata", "gt", Parameter(1), ("a", "b"), "text"),
            Comparison((), "metadata", "lte", Parameter(2), ("n",), "number"),
        )
    )
    assert query.values == (['"5"', "5"], "x", Decimal("1.50"))


def test_sorts_follow_to_one_relations_and_place_nulls(ask: Any) -> None:
    assert ask("sort=-category.name,amount:asc:nullsFirst,price:desc:nullsLast").shape.sort == (
        Sort(("category",), "name", True, None),
        Sort((), "amount", False, True),
        Sort((), "price", True, False),
    )


@pytest.mark.parametrize(
    "text", ["sort=category", "sort=dpps", "sort=dpps.status", "sort=metadata", "sort=tags", "sort=name,name"]
)
def test_what_has_no_order_cannot_be_sorted(ask: Any, text: str) -> None:
    with pytest.raises(InvalidQuery):
        ask(text)


# --- rules ----------------------------------------------------------------------------


def test_variables_are_for_rules_only(registry: Registry, products: Any, ask: Any) -> None:
    assert ask("filter[name]=$user.id").values == ("$user.id",)
    condition, _ = condition_from_json(
        {"amount": "$user.id", "name": {"in": ["$user.roles", "$$x"]}, "checkedAt": {"lte": "$now"}},
        products, registry, None,
    )  # fmt: skip
    assert isinstance(condition, AllOf)
    assert condition.parts[0] == Comparison((), "amount", "eq", Variable("user.id"))
    assert condition.parts[2] == Comparison((), "checkedAt", "lte", Variable("now"))
    for tree in (
        {"name": "$nobody"},
        {"name": {"like": "$user.name"}},
        {"name": "$user.emial"},
        {"metadata": {"a": "$user.id"}},
        {"name": {"between": ["$user.emial", "z"]}},
        {"name": {"between": ["a", "$nobody"]}},
        {"tags": {"has": "$user.email"}},
        {"tags": {"hasAny": ["a", "$user.email"]}},
        {"tags": {"hasAll": ["$user.email"]}},
        {"metadata": {"a": {"in": [["$user.id"]]}}},
        {"metadata": {"a": {"between": ["$user.email", "z"]}}},
        {"metadata": {"hasAny": ["$user.email"]}},
        {"nam": 1},
    ):
        with pytest.raises(InvalidQuery):
            condition_from_json(tree, products, registry, None)


def test_a_variable_may_be_an_end_of_what_lies_between(registry: Registry, products: Any) -> None:
    def judged(tree: Any) -> Any:
        condition, values = condition_from_json(tree, products, registry, None)
        return with_constants(condition, values)

    assert judged({"name": {"between": ["$user.email", "z"]}}) == AllOf(
        (
            Comparison((), "name", "gte", Variable("user.email")),
            Comparison((), "name", "lte", Constant("z")),
        )
    )
    assert judged({"name": {"between": ["a", "$$z"]}}) == AllOf(
        (Comparison((), "name", "gte", Constant("a")), Comparison((), "name", "lte", Constant("$z")))
    )
    assert judged({"tags": {"hasAny": ["$$x"]}}) == judged({"tags": {"has": "$$x"}})
    assert "$$" not in str(judged({"tags": {"hasAll": ["$$x", "a"]}}))


def test_a_rule_carries_its_values(registry: Registry, products: Any) -> None:
    condition, values = condition_from_json(
        {"name": {"in": ["a", "b"]}, "amount": {"gt": 1}}, products, registry, None
    )
    assert with_constants(condition, values) == AllOf(
        (Comparison((), "name", "in", Constant(("a", "b"))), Comparison((), "amount", "gt", Constant(1)))
    )
