"""`byodpp check` reads the seeds: what is wrong in them without a database is told before one is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from byodpp.bootstrap import Blueprint
from byodpp.exceptions import StartError
from byodpp.schemas import SchemaMap
from byodpp.seed_check import check_seeds
from byodpp.seeding import Seeder
from byodpp.tenant_life.plans import given_names
from byodpp.testing import Bench, TestedApplication
from tests.commands import byodpp
from tests.worlds import SHOP, build

FIND = {"$find": {"resource": "Categories", "filter": {"name": "Lamps"}}}
LAMPS = {"tenant": "acme", "resource": "Categories", "rows": [{"name": "Lamps"}]}
ARC = {"tenant": "acme", "resource": "Products", "rows": [{"name": "Arc", "categoryId": FIND, "price": 9.5}]}
PUBLISH = {"tenant": "acme", "resource": "Products", "action": "publish:post", "where": {"name": "Arc"}}
GOOD: dict[str, Any] = {"tenants": [{"slug": "acme", "name": "Acme"}], "steps": [LAMPS, ARC, PUBLISH]}

#: What is changed, and what is said of it.
MISTAKES: dict[str, tuple[Callable[[dict[str, Any]], Any], str, str]] = {
    "a list": (lambda one: [], "seeds/1.json", "must be an object"),
    "key": (lambda one: {**one, "step": one.pop("steps")}, "$.step", "Did you mean 'steps'?"),
    "tenant": (lambda one: put(one, "steps", 0, "tenant", "acne"), "steps[0].tenant", "Did you mean 'acme'?"),
    "slug": (lambda one: put(one, "tenants", 0, "slug", "A b"), "tenants[0].slug", "lower-case"),
    "step key": (lambda one: put(one, "steps", 0, "row", []), "steps[0].row", "Did you mean 'rows'?"),
    "resource": (lambda one: put(one, "steps", 0, "resource", "Category"), "[0].resource", "'Categories'?"),
    "no resource": (lambda one: put(one, "steps", 0, "resource", 7), "[0].resource", "name of a resource"),
    "rows": (lambda one: put(one, "steps", 0, "rows", {}), "steps[0].rows", "must be a list"),
    "row": (lambda one: put(one, "steps", 0, "rows", 0, 7), "rows[0]", "must be an object"),
    "field": (lambda one: put(one, "steps", 0, "rows", 0, "nmae", "x"), "rows[0].nmae", "'name'"),
    "value": (lambda one: put(one, "steps", 1, "rows", 0, "price", "much"), "rows[0].price", "number"),
    "required": (lambda one: put(one, "steps", 1, "rows", 0, {"price": 1}), "rows[0].categoryId", "equired"),
    "field later": (lambda one: put(one, "steps", 1, "rows", 0, "categoryIdd", FIND),
                    "categoryIdd", "'categoryId'"),
    "read-only": (lambda one: put(one, "steps", 1, "rows", 0, "isFeatured", True),
                  "isFeatured", "set by the server"),
    "found where": (lambda one: put(one, "steps", 1, "rows", 0, "categoryId", "$find", "resource", "Users"),
                    "categoryId", "refers to Categories"),
    "found what": (lambda one: put(one, "steps", 1, "rows", 0, "categoryId", "$find", "filter", {"nam": "x"}),
                   "$find.filter", "'name'"),
    "found nowhere": (
        lambda one: put(one, "steps", 1, "rows", 0, "categoryId", "$find", "resource", "Category"),
        "categoryId.$find",
        "'Categories'?",
    ),
    "found how": (lambda one: put(one, "steps", 1, "rows", 0, "categoryId", {"$find": 7}),
                  "categoryId", "$find must"),
    "given": (lambda one: put(one, "steps", 0, "rows", 0, "name", {"$given": "name"}),
              "name", "in seeds/tenants/ only"),
    "action": (lambda one: put(one, "steps", 2, "action", "publsh:post"),
               "steps[2].action", "'publish:post'?"),
    "where": (lambda one: put(one, "steps", 2, "where", {"nmae": "Arc"}), "steps[2].where", "'name'"),
    "where at all": (lambda one: put(one, "steps", 2, "where", FIND), "steps[2].where", "must be an object"),
    "found where by": (lambda one: put(one, "steps", 2, "where", {"categoryId": {"$find": 7}}),
                       "steps[2].where", "$find must"),
    "where beside": (lambda one: put(one, "steps", 2, "where", {"categoryId": FIND, "nmae": "Arc"}),
                     "steps[2].where", "'name'"),
    "where what": (lambda one: put(one, "steps", 2, "where", {"or": [{"catgoryId": {"in": [FIND]}}]}),
                   "steps[2].where", "'categoryId'"),
    "where how": (lambda one: put(one, "steps", 2, "where", {"categoryId": {"gt": FIND, "inn": [FIND]}}),
                  "steps[2].where", "'in'"),
    "where type": (lambda one: put(one, "steps", 2, "where", {"categoryId": {"in": [FIND, "x"]}}),
                   "steps[2].where", "integer"),
    "body": (lambda one: put(put(one, "steps", 2, "action", "patch"), "steps", 2, "body", {"nmae": 1}),
             "steps[2].body.nmae", "'name'"),
}  # fmt: skip


def put(document: dict[str, Any], *path: Any) -> dict[str, Any]:
    """Set what lies at a path, whose last item is the value."""
    *way, last, value = path
    inside: Any = document
    for one in way:
        inside = inside[one]
    inside[last] = value
    return document


def said(folder: Path, blueprint: Blueprint, schemas: SchemaMap | None = None) -> list[str]:
    judging = schemas or SchemaMap.build(blueprint.registry)
    found = check_seeds(folder, blueprint.registry, judging, given_names())
    return [f"{one.path} | {one.reason} {one.suggestion}" for one in found]


def written(folder: Path, document: Any, name: str = "1.json") -> Path:
    path = folder / "seeds" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("seeds"), SHOP)


def test_good_seeds_are_nothing_to_tell_of(blueprint: Blueprint, tmp_path: Path) -> None:
    written(tmp_path, {"$comment": "invented", **GOOD})
    beginning = {"name": {"$given": "name"}}
    written(tmp_path, {"steps": [{"resource": "Categories", "rows": [beginning]}]}, "tenants/010.json")
    written(tmp_path, {"steps": []}, "tenants/cars/010.json")
    assert said(tmp_path, blueprint) == []


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_its_place(blueprint: Blueprint, tmp_path: Path, mistake: str) -> None:
    change, at, told = MISTAKES[mistake]
    written(tmp_path, change(json.loads(json.dumps(GOOD))))
    found = said(tmp_path, blueprint)
    assert any(at in one.split(" | ")[0] and told in one for one in found), found


def test_files_of_beginnings_name_no_tenant_and_no_unknown_value(
    blueprint: Blueprint, tmp_path: Path
) -> None:
    wrong = {"name": {"$given": "nam"}}
    step = {"tenant": "acme", "resource": "Categories", "rows": [wrong]}
    written(tmp_path, {"tenants": [{"slug": "acme"}], "steps": [step]}, "tenants/cars/010.json")
    place = "seeds/tenants/cars/010.json: $."
    found = said(tmp_path, blueprint)
    assert [one.split(" | ")[0] for one in found] == [
        f"{place}tenants",
        f"{place}steps[0].tenant",
        f"{place}steps[0].rows[0].name",
    ]
    assert "Did you mean 'name'?" in found[-1]


def test_no_file_is_told_of_without_end(blueprint: Blueprint, tmp_path: Path) -> None:
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / "0.json").write_text('{"steps": [}', encoding="utf-8")
    written(tmp_path, {**GOOD, "steps": [{**LAMPS, "rows": [{}] * 70}]})
    found = said(tmp_path, blueprint)
    assert found[0].startswith("seeds/0.json | ")
    assert len(found) == 52 and "20 mistakes more" in found[-1]


async def load(tested: TestedApplication, folder: Path) -> int:
    connected = tested.connected
    return await Seeder(connected.service, connected.database).load(sorted((folder / "seeds").glob("*.json")))


@pytest.mark.parametrize(
    "mistake",
    [
        "field",
        "value",
        "required",
        "resource",
        "no resource",
        "action",
        "found what",
        "found how",
        "found nowhere",
        "where",
        "where at all",
        "found where by",
        "where beside",
        "where what",
        "where how",
        "where type",
    ],
)
async def test_what_is_told_without_a_database_is_refused_with_one(
    byodpp_bench: Bench, blueprint: Blueprint, tmp_path: Path, mistake: str
) -> None:
    written(tmp_path / "good", GOOD)
    written(tmp_path / "bad", MISTAKES[mistake][0](json.loads(json.dumps(GOOD))))
    async with byodpp_bench.application(blueprint) as tested:
        with pytest.raises(StartError, match=r"seeds/1\.json: "):
            await load(tested, tmp_path / "bad")
        assert await load(tested, tmp_path / "good") == 2


async def test_what_is_found_may_be_what_something_else_is_found_by(
    byodpp_bench: Bench, blueprint: Blueprint, tmp_path: Path
) -> None:
    inside = {"$find": {"resource": "Categories", "filter": {"parentId": FIND}}}
    inner = {"tenant": "acme", "resource": "Categories", "rows": [{"name": "Inner", "parentId": FIND}]}
    bow = put(json.loads(json.dumps(ARC)), "rows", 0, {"name": "Bow", "categoryId": inside, "price": 1})
    where = {"categoryId": {"in": [inside], "between": [inside, 1_000]}, "not": {"categoryId": FIND}}
    cheaper = {"action": "patch", "body": {"price": 7}, "where": where}
    step = {"tenant": "acme", "resource": "Products", **cheaper}
    written(tmp_path, {**GOOD, "steps": [LAMPS, ARC, inner, bow, step]})
    assert said(tmp_path, blueprint) == []
    async with byodpp_bench.application(blueprint) as tested:
        assert await load(tested, tmp_path) == 4
        rows = (await tested.client().get("/api/v1/products?sort=name&fields=name,price")).json()["data"]
    assert [(one["name"], float(one["price"])) for one in rows] == [("Arc", 9.5), ("Bow", 7)]


@pytest.mark.parametrize(
    "look",
    [
        "if data['categoryId'] == -1:\n            raise ValidationError('no')",
        "if not data.get('categoryId'):\n            raise ValidationError('no category')",
        "if not data.get('categoryId'):\n            raise ValidationError('Not a valid one', 'categoryId')",
    ],
)
def test_what_is_filled_in_later_is_not_missed_by_a_class_that_looks_at_the_row(
    tmp_path: Path, look: str
) -> None:
    schema = (
        "from marshmallow import Schema, ValidationError, validates_schema\n\n\n"
        "class ProductsCreate(Schema):\n    resource = 'Products'\n    operation = 'create'\n"
        "    extends = True\n\n    @validates_schema\n    def look(self, data, **_):\n"
        f"        {look}\n"
    )
    blueprint = build(tmp_path, SHOP, {"schemas/v1/products.py": schema})
    written(tmp_path, GOOD)
    assert said(tmp_path, blueprint, blueprint.schemas) == []
    arc = {"name": "Arc", "categoryId": FIND, "price": "much", "siez": 1}
    written(tmp_path, put(json.loads(json.dumps(GOOD)), "steps", 1, "rows", 0, arc))
    found = said(tmp_path, blueprint, blueprint.schemas)
    assert [one.split(" | ")[0].rpartition(".")[2] for one in found] == ["price", "siez"]


def test_a_class_that_looks_at_single_fields_is_heard_though_others_are_filled_in_later(
    tmp_path: Path,
) -> None:
    schema = (
        "from marshmallow import Schema, fields, validate\n\n\n"
        "class ProductsCreate(Schema):\n    resource = 'Products'\n    operation = 'create'\n"
        "    extends = True\n    name = fields.String(required=True, validate=validate.Length(min=3))\n"
    )
    blueprint = build(tmp_path, SHOP, {"schemas/v1/products.py": schema})
    written(tmp_path, GOOD)
    assert said(tmp_path, blueprint, blueprint.schemas) == []
    written(tmp_path, put(json.loads(json.dumps(GOOD)), "steps", 1, "rows", 0, "name", "A"))
    (found,) = said(tmp_path, blueprint, blueprint.schemas)
    assert "rows[0].name | Shorter than minimum length 3" in found


def test_check_ends_with_1_when_seeds_are_wrong(tmp_path: Path) -> None:
    build(tmp_path, SHOP)
    written(tmp_path, GOOD)
    done = byodpp("--app", tmp_path, "check", BYODPP_ENV="test")
    assert done.returncode == 0, done.stderr
    written(tmp_path, put(json.loads(json.dumps(GOOD)), "steps", 0, "rows", 0, "nmae", 1))
    done = byodpp("--app", tmp_path, "check", BYODPP_ENV="test")
    assert done.returncode == 1
    assert "seeds/1.json: $.steps[0].rows[0].nmae" in done.stderr and "Did you mean 'name'?" in done.stderr
