"""Extending an application: logic classes, event handlers, schemas, versions, resources without a table."""

from __future__ import annotations

import asyncio
import json
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint, assemble
from byodpp.exceptions import ExtensionError, StartError
from byodpp.extensions import find_classes
from byodpp.logics import Logic
from byodpp.testing import Bench, TestedApplication
from tests.worlds import build, write_application

PRODUCTS = "/api/v1/products"

_FIELDS = {
    "name": {"type": "string", "maxLength": 100, "required": True, "unique": True},
    "price": {"type": "decimal", "precision": 10, "scale": 2},
    "isFeatured": {"type": "boolean", "default": False, "readOnly": True},
    "stock": {"type": "integer", "default": 0},
    "secret": {"type": "string"},
}
_ACCESS = {
    "read": ["Admin", {"roles": ["Clerk"], "fields": ["id", "name", "price", "isFeatured", "stock"]}],
    "write": ["Admin"],
    "create": ["Admin", "Clerk"],
    "feature:post": ["Admin", "Clerk"],
    "reach:post": ["Admin", "Clerk"],
    "perform:post": ["Admin", "Clerk"],
}


def _action(name: str, method: str = "post", *, row: bool = False) -> dict[str, Any]:
    middle = "/{id}" if row else ""
    return {"url": f"/api/v1/products{middle}/{name}", "method": method}


MANIFEST = {
    "services": [
        {
            "name": "Shop",
            "resources": [
                {
                    "name": "Products",
                    "fields": _FIELDS,
                    "versioned": True,
                    "audit": True,
                    "events": ["create", "patch"],
                    "access": _ACCESS,
                    "routes": {
                        "actions": [
                            _action("feature", row=True),
                            _action("reach"),
                            _action("perform"),
                            _action("swallow"),
                            _action("reply"),
                            _action("batchwise"),
                            _action("download", "get"),
                            _action("count", "get"),
                            {"url": "/api/v1/products/open", "method": "post", "public": True},
                        ]
                    },
                },
                {"name": "Logs", "fields": {"text": {"type": "string", "required": True}}},
                {
                    "name": "Weather",
                    "type": "logic",
                    "routes": {"crud": ["list", "read", "create"], "actions": []},
                    "access": {"read": ["*"], "write": ["Admin"]},
                },
            ],
        },
        {
            "name": "Shop",
            "version": "v2",
            "resources": [
                {
                    "name": "Products",
                    "fields": {**_FIELDS, "sku": {"type": "string", "maxLength": 20, "index": True}},
                    "versioned": True,
                    "audit": True,
                    "access": {"read": ["Admin"], "write": ["Admin"]},
                }
            ],
        },
    ],
    "include": ["byodpp:audit"],
}

LOGIC = '''
import marshmallow as ma
from decimal import Decimal
from byodpp.logics import Logic, Reply
from byodpp.exceptions import Conflict, Forbidden, NotFound, Detail, ValidationFailed


class Create(Logic):
    resource, operation = "Products", "create"

    async def execute(self):
        if self.request.body["name"] == "refused":
            raise Conflict("Not this name", details=[Detail("name", "taken", "Not this one.")])
        if self.request.body["name"] == "broken":
            raise RuntimeError("a secret of the inside")
        self.request.body["name"] = self.request.body["name"].strip().title()
        if self.request.body["name"] == "Free":
            self.request.body["isFeatured"] = True
            self.request.body["price"] = Decimal("0")
        if self.request.body["name"] == "Wrong":
            self.request.body["price"] = "not a number"
        row = await self.default()
        self.emit("product.welcomed", {"name": row["name"]}, resource_id=row["id"])
        await self.system["Logs"].create({"text": f"made {row['name']}"})
        return row | {"extra": [1, Decimal("2.50")]}


class Read(Logic):
    resource, operation = "Products", "read"

    async def execute(self):
        row = await self.default()
        return row | {"seenBy": self.request.user.user_id}


class Update(Logic):
    resource, operation = "Products", "update"

    async def execute(self):
        return await self.default()


class FeatureInput(ma.Schema):
    reason = ma.fields.String(required=True, validate=ma.validate.Length(min=3))
    times = ma.fields.Integer(load_default=1, strict=True)


class Feature(Logic):
    resource, action = "Products", "feature:post"
    input = FeatureInput

    async def execute(self):
        key = self.request.params["id"]
        async with self.lock("featured"):
            if await self.system["Products"].count({"isFeatured": True}) >= 3:
                raise Conflict("At most 3 products can be featured")
            row = await self.system["Products"].patch(key, {"isFeatured": True})
        await self.audit("FEATURE", key, {"reason": self.request.body["reason"]})
        return row


class Reach(Logic):
    resource, action = "Products", "reach:post"

    async def execute(self):
        told = {}
        own = await self.repository.list(sort="name")
        told["own"] = sorted({name for row in own for name in row})
        told["system"] = sorted({name for row in await self.system["Products"].list() for name in row})
        try:
            await self.repositories["Logs"].list()
        except Exception as error:
            told["logs"] = type(error).__name__
        try:
            await self.repository.list({"secret": "x"})
        except Exception as error:
            told["filter"] = type(error).__name__
        told["logged"] = await self.system["Logs"].count()
        told["ids"] = len(str(self.ids.ulid()))
        told["missing"] = await self.repository.find({"name": "nowhere"})
        told["exists"] = await self.repository.exists({"name": {"startsWith": "La"}})
        told["names"] = "Logs" in self.repositories and "Nothing" not in self.repositories
        return told


class Perform(Logic):
    resource, action = "Products", "perform:post"

    async def execute(self):
        made = await self.perform("Products", "create", {"name": "by perform"})
        try:
            await self.perform("Logs", "create", {"text": "x"})
        except Forbidden as error:
            return {"made": made["name"], "refused": error.message}
        return {"made": made["name"]}


class Swallow(Logic):
    """Catches what must not be committed, and goes on as if nothing had been."""

    resource, action = "Products", "swallow:post"
    status = None

    async def execute(self):
        await self.system["Logs"].create({"text": "before"})
        try:
            await self.repository.create({"name": "Lamp"})
        except Exception:
            pass
        return {"done": True}


class Batchwise(Logic):
    resource, action = "Products", "batchwise:post"

    async def execute(self):
        rows = await self.repository.batch([{"name": "one"}, {"name": "two", "isFeatured": True}])
        last = await self.repository.update(rows[0]["id"], {"name": "one", "stock": 5})
        await self.repository.delete(rows[1]["id"])
        return [last, (await self.repository.read(rows[0]["id"], fields="id,stock"))]


class Answer(Logic):
    resource, action = "Products", "reply:post"
    input = ma.Schema.from_dict({"kind": ma.fields.String(required=True)})

    async def execute(self):
        match self.request.body["kind"]:
            case "accepted":
                return Reply(data={"job": 7}, status=202, message="Queued", headers={"X-Job": "7"})
            case "redirect":
                return Reply.redirect("/elsewhere")
            case "nothing":
                return None
            case "empty":
                return Reply(status=204)
            case "list":
                return [{"a": 1}, {"b": None}]
            case "text":
                return Reply(body=b"plain", media_type="text/plain; charset=utf-8")
            case "header":
                return Reply(data=1, headers={"X-Bad": "a\\r\\nSet-Cookie: b=c"})
        raise NotFound("No such kind")


class Download(Logic):
    resource, action = "Products", "download:get"

    async def execute(self):
        async def lines():
            for number in range(3):
                yield f"{number}\\n".encode()

        return Reply.file(lines(), name="a \\u00fc\\".csv", media_type="text/csv")


class Count(Logic):
    resource, action = "Products", "count:get"

    async def execute(self):
        return {"count": await self.repository.count(), "limit": self.request.query.limit}


class Open(Logic):
    resource, action = "Products", "open:post"

    async def execute(self):
        return {"anonymous": self.request.user.anonymous, "seen": len(await self.system["Products"].list())}
'''

WEATHER = """
from byodpp.logics import Logic
from byodpp.exceptions import NotFound


class List(Logic):
    resource, operation = "Weather", "list"

    async def execute(self):
        return [{"city": "Berlin"}]


class Read(Logic):
    resource, operation = "Weather", "read"

    async def execute(self):
        if self.request.params["id"] != "berlin":
            raise NotFound("No such city")
        return {"city": "Berlin", "products": await self.repositories["Products"].count()}


class Create(Logic):
    resource, operation = "Weather", "create"

    async def execute(self):
        return {"made": self.request.body}
"""

V2 = """
from byodpp.logics import Logic


class CreateV2(Logic):
    resource, operation = "Products", "create"

    async def execute(self):
        self.request.body["sku"] = self.request.body["sku"] or "none"
        return await self.default()
"""

HANDLERS = """
from byodpp.events import EventHandler

class Broken(EventHandler):
    events = ("products.*", "product.welcomed")

    async def handle(self, event):
        raise RuntimeError("handler trouble")

class Slow(EventHandler):
    events = ("product.welcomed",)
    heard = []

    async def handle(self, event):
        self.heard.append(event.data["name"])
"""

SCHEMAS = """
import marshmallow as ma


class ProductsCreate(ma.Schema):
    resource, operation, extends = "Products", "create", True

    @ma.validates("name")
    def no_numbers(self, value, **kwargs):
        if any(character.isdigit() for character in value):
            raise ma.ValidationError("No digits in names.")


class LogsPatch(ma.Schema):
    resource, operation = "Logs", "patch"
    text = ma.fields.String(validate=ma.validate.OneOf(["a", "b"]))
"""

FILES = {
    "logics/v1/products/all.py": LOGIC,
    "logics/v1/weather.py": WEATHER,
    "logics/v2/products/create.py": V2,
    "logics/v1/handlers.py": HANDLERS,
    "schemas/products.py": SCHEMAS,
}


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("extended"), MANIFEST, FILES)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    """It, for what leaves nothing behind that another test would notice."""
    async with byodpp_bench.application(blueprint) as tested:
        yield tested


@pytest_asyncio.fixture(loop_scope="session")
async def shop(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint) as tested:
        yield tested


async def stored(application: TestedApplication, statement: str) -> Any:
    async with application.connected.database.system() as transaction:
        return await transaction.fetchval(statement)


# --- operations -------------------------------------------------------------------------


async def test_a_class_comes_before_and_after_the_generic_operation(shop: TestedApplication) -> None:
    client = shop.client()
    made = await client.post(PRODUCTS, json={"name": " lamp ", "price": 3})
    assert made.status_code == 201, made.text
    row = made.json()["data"]
    assert (row["name"], row["isFeatured"], row["extra"]) == ("Lamp", False, [1, 2.5])
    assert '"price":3.00' in made.text and '"extra":[1,2.50]' in made.text
    assert made.headers["location"] == f"{PRODUCTS}/{row['id']}"
    read = (await client.get(made.headers["location"])).json()["data"]
    assert read["seenBy"] > 0 and read["name"] == "Lamp"
    assert await stored(shop, "select text from logs") == "made Lamp"
    names = [event.name for event in await shop.events()]
    assert sorted(names) == ["product.welcomed", "products.created"]
    assert await stored(shop, "select string_agg(name, ',' order by number, place) from byodpp.events()") in (
        "products.created,product.welcomed",
        "product.welcomed,products.created",
    )


async def test_a_class_may_set_what_a_client_may_not_and_is_validated_all_the_same(
    shop: TestedApplication,
) -> None:
    client = shop.client()
    free = (await client.post(PRODUCTS, json={"name": "free", "price": 9})).json()["data"]
    assert (free["isFeatured"], free["price"]) == (True, 0)
    wrong = await client.post(PRODUCTS, json={"name": "wrong"})
    assert wrong.status_code == 422
    assert wrong.json()["error"]["details"][0]["field"] == "price"
    client_sent = await client.post(PRODUCTS, json={"name": "x", "isFeatured": True})
    assert client_sent.status_code == 422


async def test_a_refusal_or_a_failure_leaves_nothing_behind(shop: TestedApplication) -> None:
    client = shop.client()
    refused = await client.post(PRODUCTS, json={"name": "refused"})
    assert (refused.status_code, refused.json()["error"]["details"][0]["code"]) == (409, "taken")
    broken = await client.post(PRODUCTS, json={"name": "broken"})
    assert broken.status_code == 500
    assert "secret" not in broken.text and "RuntimeError" not in broken.text
    assert (await client.post(PRODUCTS, json={"name": "lamp"})).status_code == 201
    assert (await client.post(PRODUCTS, json={"name": "lamp"})).status_code == 409
    assert await stored(shop, "select count(*) from products") == 1
    assert await stored(shop, "select count(*) from logs") == 1
    assert await stored(shop, "select count(*) from byodpp.events()") == 2
    assert await stored(shop, "select count(*) from audit_logs") == 1


async def test_a_batch_goes_through_the_class_item_by_item(shop: TestedApplication) -> None:
    client = shop.client()
    done = await client.post(f"{PRODUCTS}/batch", json=[{"name": "a"}, {"name": "b"}])
    assert done.status_code == 201, done.text
    assert [row["name"] for row in done.json()["data"]] == ["A", "B"]
    refused = await client.post(f"{PRODUCTS}/batch", json=[{"name": "c"}, {"name": "refused"}])
    assert (refused.status_code, refused.json()["error"]["details"][0]["field"]) == (409, "1.name")
    partly = {
        "operation": "create",
        "items": [{"name": "c"}, {"name": "refused"}, {"name": "a"}],
        "atomic": False,
    }
    outcomes = (await client.post(f"{PRODUCTS}/batch", json=partly)).json()["data"]
    assert [one["success"] for one in outcomes] == [True, False, False]
    assert await stored(shop, "select string_agg(name, '' order by name) from products") == "ABC"
    assert await stored(shop, "select count(*) from logs") == 3
    steps = [
        {"operation": "create", "resource": "Products", "data": {"name": "d"}},
        {
            "operation": "feature:post",
            "resource": "Products",
            "id": "{{result[0].id}}",
            "data": {"reason": "best"},
        },
    ]
    together = await client.post("/api/v1/batch", json=steps)
    assert together.status_code == 200, together.text
    assert [row["isFeatured"] for row in together.json()["data"]] == [False, True]
    bad = await client.post("/api/v1/batch", json=[{**steps[1], "id": 1, "data": {}}])
    assert (bad.status_code, bad.json()["error"]["details"][0]["field"]) == (422, "0.reason")


async def test_an_update_through_a_class_replaces_the_whole_row(shop: TestedApplication) -> None:
    client = shop.client()
    made = await client.post(PRODUCTS, json={"name": "lamp", "price": 3, "stock": 4})
    put = await client.put(made.headers["location"], json={"name": "Lamp"})
    assert put.status_code == 200, put.text
    row = put.json()["data"]
    assert (row["price"], row["stock"]) == (None, 0)


# --- actions ----------------------------------------------------------------------------


async def test_an_actions_input_is_validated_by_its_schema(shop: TestedApplication) -> None:
    client = shop.client()
    url = (await client.post(PRODUCTS, json={"name": "lamp"})).headers["location"] + "/feature"
    for body, field in (
        ({}, "reason"),
        ({"reason": "x"}, "reason"),
        ({"reason": "good", "times": "1"}, "times"),
        ({"reason": "good", "more": 1}, "more"),
    ):
        refused = await client.post(url, json=body)
        assert refused.status_code == 422, refused.text
        assert refused.json()["error"]["details"][0]["field"] == field
    assert (
        await client.post(url, content=b"{", headers={"Content-Type": "application/json"})
    ).status_code == 400
    assert (await client.post(url)).status_code == 422
    assert (await client.post(f"{PRODUCTS}/999/feature", json={"reason": "good"})).status_code == 404
    assert (await client.post(url, json={"reason": "good"})).json()["data"]["isFeatured"] is True
    entry = await stored(shop, "select changes::text from audit_logs where action = 'FEATURE'")
    assert "good" in entry


async def test_a_lock_lets_one_request_at_a_time_pass(shop: TestedApplication) -> None:
    client = shop.client()
    made = (await client.post(f"{PRODUCTS}/batch", json=[{"name": name} for name in "abcdefgh"])).json()[
        "data"
    ]
    answers = await asyncio.gather(
        *(client.post(f"{PRODUCTS}/{row['id']}/feature", json={"reason": "good"}) for row in made)
    )
    assert sorted(one.status_code for one in answers) == [200] * 3 + [409] * 5
    assert await stored(shop, "select count(*) from products where is_featured") == 3


async def test_repositories_act_as_the_caller_and_system_for_the_tenant(shop: TestedApplication) -> None:
    admin, clerk, beta = shop.client(), shop.client(role="Clerk"), shop.client(role="Clerk", tenant="beta")
    assert (await admin.post(PRODUCTS, json={"name": "lamp", "secret": "hush"})).status_code == 201
    told = (await clerk.post(f"{PRODUCTS}/reach")).json()["data"]
    assert told["own"] == ["id", "isFeatured", "name", "price", "stock"]
    assert "secret" in told["system"]
    assert told["filter"] == "InvalidQuery"
    assert (told["logged"], told["ids"], told["missing"], told["exists"], told["names"]) == (
        1,
        26,
        None,
        True,
        True,
    )
    theirs = (await beta.post(f"{PRODUCTS}/reach")).json()["data"]
    assert (theirs["own"], theirs["system"], theirs["logged"], theirs["exists"]) == ([], [], 0, False)
    assert (await shop.client(role="Viewer").post(f"{PRODUCTS}/reach")).status_code == 403


async def test_perform_runs_an_operation_with_the_callers_rights_and_its_own_class(
    shop: TestedApplication,
) -> None:
    admin, clerk = shop.client(), shop.client(role="Clerk")
    done = await clerk.post(f"{PRODUCTS}/perform")
    assert done.status_code == 200, done.text
    assert done.json()["data"] == {"made": "By Perform", "refused": "You have no right to create Logs."}
    assert (await admin.post(f"{PRODUCTS}/perform")).status_code == 409
    assert await stored(shop, "select count(*) from logs") == 1


async def test_an_error_that_a_class_swallows_is_still_an_error(shop: TestedApplication) -> None:
    client = shop.client()
    await client.post(PRODUCTS, json={"name": "lamp"})
    response = await client.post(f"{PRODUCTS}/swallow")
    assert (response.status_code, response.json()["error"]["code"]) == (409, "unique_conflict")
    assert await stored(shop, "select count(*) from logs where text = 'before'") == 0


async def test_a_repository_writes_batches_updates_and_deletes(shop: TestedApplication) -> None:
    done = await shop.client().post(f"{PRODUCTS}/batchwise")
    assert done.status_code == 200, done.text
    first, second = done.json()["data"]
    assert (first["stock"], second) == (5, {"id": first["id"], "stock": 5})
    assert await stored(shop, "select count(*) from products") == 1


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("accepted", 202),
        ("redirect", 303),
        ("nothing", 204),
        ("empty", 204),
        ("list", 200),
        ("text", 200),
        ("header", 500),
        ("x", 404),
    ],
)
async def test_a_class_may_answer_in_many_ways(shared: TestedApplication, kind: str, status: int) -> None:
    response = await shared.client().post(f"{PRODUCTS}/reply", json={"kind": kind})
    assert response.status_code == status, response.text
    if kind == "accepted":
        body = response.json()
        assert (body["data"], body["message"], response.headers["x-job"]) == ({"job": 7}, "Queued", "7")
    elif kind == "redirect":
        assert response.headers["location"] == "/elsewhere"
    elif kind == "list":
        assert response.json()["data"] == [{"a": 1}, {"b": None}]
    elif kind == "text":
        assert (response.text, response.headers["content-type"]) == ("plain", "text/plain; charset=utf-8")
    elif kind == "header":
        assert "set-cookie" not in response.headers
    elif status == 204:
        assert response.content == b""


async def test_a_class_may_stream_a_file(shop: TestedApplication) -> None:
    response = await shop.client().get(f"{PRODUCTS}/download")
    assert response.text == "0\n1\n2\n"
    assert response.headers["content-type"] == "text/csv"
    assert response.headers["content-disposition"] == "attachment; filename*=UTF-8''a%20%C3%BC%22.csv"


async def test_a_get_action_takes_a_query_and_a_public_one_nobody(shop: TestedApplication) -> None:
    client, nobody = shop.client(), shop.client(role=None)
    await client.post(PRODUCTS, json={"name": "lamp"})
    assert (await client.get(f"{PRODUCTS}/count?limit=7")).json()["data"] == {"count": 1, "limit": 7}
    assert (await client.get(f"{PRODUCTS}/count?nothing=7")).status_code == 400
    assert (await nobody.get(f"{PRODUCTS}/count")).status_code == 401
    assert (await nobody.post(f"{PRODUCTS}/open")).json()["data"] == {"anonymous": True, "seen": 0}
    assert (await client.post(f"{PRODUCTS}/open")).json()["data"] == {"anonymous": False, "seen": 1}


PARAMETERS = """
from marshmallow import EXCLUDE, Schema, fields, validate

from byodpp.logics import Logic


class Asked(Schema):
    representation = fields.String(load_default="compressed", validate=validate.OneOf(["compressed", "full"]))
    date = fields.DateTime(metadata={"description": "As it was then.", "example": "2026-01-31T08:00:00Z"})
    element = fields.List(fields.String(), data_key="element[]")
    limit = fields.Integer(required=True, validate=validate.Range(1, 9))


class Shown(Logic):
    resource, action = "Things", "shown"
    query = Asked

    async def execute(self):
        asked = self.request.parameters
        return {**asked, "date": asked["date"].isoformat() if "date" in asked else None}


class Told(Logic):
    resource, action = "Things", "tell:post"
    query = Asked

    async def execute(self):
        return {"limit": self.request.parameters["limit"], "id": self.request.params["id"]}


class Lenient(Logic):
    resource, action = "Things", "lenient:get"

    class query(Schema):
        a = fields.Boolean()

        class Meta:
            unknown = EXCLUDE

    async def execute(self):
        return dict(self.request.parameters)


class Silent(Logic):
    resource, action = "Things", "silent:post"

    async def execute(self):
        return dict(self.request.parameters)
"""
THINGS = {
    "include": ["byodpp:access"],
    "resources": [
        {
            "name": "Things",
            "fields": {"name": {"type": "string", "index": True}},
            "routes": {
                "actions": [
                    {"url": "/v1/shown/{id}", "method": "get", "name": "shown", "public": True},
                    {"url": "/api/v1/things/{id}/tell", "method": "post"},
                    {"url": "/api/v1/things/lenient", "method": "get"},
                    {"url": "/api/v1/things/silent", "method": "post"},
                ]
            },
        }
    ],
}


async def test_an_action_has_parameters_of_its_own(byodpp_bench: Bench, tmp_path: Path) -> None:
    blueprint = build(tmp_path / "app", THINGS, {"logics/v1/things.py": PARAMETERS})
    async with byodpp_bench.application(blueprint) as tested:
        client, nobody = tested.client(), tested.client(role=None)
        shown = await nobody.get(
            "/v1/shown/1?limit=3&date=2026-01-31T08:00:00%2B01:00&element[]=a&element[]=b"
        )
        assert shown.json()["data"] == {
            "representation": "compressed",
            "date": "2026-01-31T08:00:00+01:00",
            "element": ["a", "b"],
            "limit": 3,
        }
        refused = await nobody.get("/v1/shown/1?representation=none&date=x&represntation=full&a=%00")
        assert refused.status_code == 400, refused.text
        faults = [(one["field"], one["code"]) for one in refused.json()["error"]["details"]]
        assert faults == [
            ("represntation", "unknown_parameter"),
            ("a", "format"),
            ("representation", "enum"),
            ("date", "type"),
            ("limit", "required"),
        ]
        twice = await nobody.get("/v1/shown/1?limit=1&limit=2")
        assert (twice.status_code, twice.json()["error"]["details"][0]["code"]) == (400, "repeated")
        assert (await nobody.get("/v1/shown/1?limit=%ff")).json()["error"]["code"] == "invalid_encoding"
        assert (await client.post("/api/v1/things/7/tell?limit=2")).json()["data"] == {"limit": 2, "id": "7"}
        assert (await client.post("/api/v1/things/7/tell")).status_code == 400
        assert (await client.get("/api/v1/things/lenient?a=true&b=1")).json()["data"] == {"a": True}
        silent = await client.post("/api/v1/things/silent?a=1")
        assert (silent.status_code, silent.json()["error"]["details"][0]["code"]) == (
            400,
            "unknown_parameter",
        )
        steps = [
            {"operation": "tell:post", "resource": "Things", "id": 7, "params": {"limit": "4"}},
            {"operation": "shown", "resource": "Things", "id": 1, "params": {"limit": 5}},
        ]
        both = (await client.post("/api/v1/batch", json=steps)).json()["data"]
        assert [one["limit"] for one in both] == [4, 5]
        steps[1]["params"] = {"limit": 0}
        wrong = await client.post("/api/v1/batch", json=steps)
        assert (wrong.status_code, wrong.json()["error"]["details"][0]["field"]) == (400, "1.limit")
        document = json.loads(tested.connected.document())
    described = document["paths"]["/v1/shown/{id}"]["get"]["parameters"]
    own = {one["name"]: one for one in described if one.get("in") == "query"}
    assert list(own) == ["representation", "date", "element[]", "limit"]
    assert own["limit"]["required"] and own["limit"]["schema"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 9,
    }
    assert own["date"]["example"] == "2026-01-31T08:00:00Z"
    assert own["representation"]["schema"]["default"] == "compressed"


def test_only_actions_have_parameters_of_their_own(tmp_path: Path) -> None:
    source = PARAMETERS.replace(
        'resource, action = "Things", "shown"', 'resource, operation = "Things", "list"'
    )
    with pytest.raises(ExtensionError) as caught:
        build(tmp_path / "app", THINGS, {"logics/v1/things.py": source})
    assert "only actions have parameters of their own" in str(caught.value)


async def test_after_commit_runs_after_the_commit_and_never_without(
    byodpp_bench: Bench, tmp_path: Path
) -> None:
    logic = """
    from byodpp.logics import Logic
    from byodpp.exceptions import Conflict

    told = []

    class Create(Logic):
        resource, operation = "Things", "create"

        async def execute(self):
            async def tell():
                told.append(self.request.body["name"])

            async def fail():
                raise RuntimeError("after the commit")

            self.after_commit(fail)
            self.after_commit(tell)
            row = await self.default()
            if row["name"] == "bad":
                raise Conflict("no")
            return row | {"told": list(told)}
    """
    manifest = {"resources": [{"name": "Things", "fields": {"name": {"type": "string", "required": True}}}]}
    blueprint = build(tmp_path / "app", manifest, {"logics/v1/things.py": textwrap.dedent(logic)})
    async with byodpp_bench.application(blueprint) as tested:
        client = tested.client()
        assert (await client.post("/api/v1/things", json={"name": "one"})).json()["data"]["told"] == []
        assert (await client.post("/api/v1/things", json={"name": "bad"})).status_code == 409
        assert (await client.post("/api/v1/things", json={"name": "two"})).json()["data"]["told"] == ["one"]


# --- events -----------------------------------------------------------------------------


async def test_a_handler_that_fails_disturbs_nobody(
    shop: TestedApplication, caplog: pytest.LogCaptureFixture
) -> None:
    client = shop.client()
    made = await client.post(PRODUCTS, json={"name": "lamp"})
    assert made.status_code == 201
    await shop.events()
    heard = next(one for one in shop.blueprint.handlers if type(one).__name__ == "Slow")
    assert "Lamp" in heard.heard  # type: ignore[attr-defined]
    assert sum("event handler failed" in record.message for record in caplog.records) == 2


# --- schemas ----------------------------------------------------------------------------


async def test_a_schema_class_adds_to_the_generated_one_or_replaces_it(shop: TestedApplication) -> None:
    client = shop.client()
    refused = await client.post(PRODUCTS, json={"name": "lamp 1", "price": "x", "more": 1})
    assert refused.status_code == 422
    assert {one["field"] for one in refused.json()["error"]["details"]} == {"name", "price", "more"}
    batch = await client.post(f"{PRODUCTS}/batch", json=[{"name": "a"}, {"name": "b2"}])
    assert (batch.status_code, batch.json()["error"]["details"][0]["field"]) == (422, "1.name")
    log = await client.post("/api/v1/logs", json={"text": "free"})
    assert log.status_code == 201
    assert (await client.patch(log.headers["location"], json={"text": "c"})).status_code == 422
    assert (await client.patch(log.headers["location"], json={"text": "b"})).json()["data"]["text"] == "b"
    assert (await client.patch(log.headers["location"], json={"id": 1})).status_code == 422


# --- versions and resources without a table ---------------------------------------------


async def test_two_versions_live_side_by_side_on_one_table(shop: TestedApplication) -> None:
    client = shop.client()
    one = (await client.post(PRODUCTS, json={"name": "lamp"})).json()["data"]
    two = await client.post("/api/v2/products", json={"name": "chair", "sku": None})
    assert two.status_code == 201, two.text
    assert two.headers["location"].startswith("/api/v2/products/")
    assert two.json()["data"]["sku"] == "none"
    listed = (await client.get("/api/v2/products")).json()["data"]
    assert [(row["name"], row["sku"]) for row in listed] == [("Lamp", None), ("chair", "none")]
    assert all("sku" not in row for row in (await client.get(PRODUCTS)).json()["data"])
    for accept, has_sku in (
        (None, False),
        ("application/json", False),
        ("application/vnd.byo-dpp.v1+json", False),
        ("application/vnd.byo-dpp.v2+json", True),
    ):
        response = await client.get(
            f"/api/products/{one['id']}", headers={"Accept": accept} if accept else {}
        )
        assert response.status_code == 200, response.text
        assert ("sku" in response.json()["data"]) is has_sku
    assert (
        await client.get("/api/products", headers={"Accept": "application/vnd.byo-dpp.v9+json"})
    ).status_code == 400
    assert (await client.get("/api/v9/products")).status_code == 404
    assert (await client.get("/api/v1/products?fields=sku")).status_code == 400
    assert (
        await client.get("/api/v1/products/1", headers={"Accept": "application/vnd.byo-dpp.v2+json"})
    ).status_code == 406


async def test_a_resource_without_a_table_is_served_by_its_classes(shop: TestedApplication) -> None:
    client, viewer = shop.client(), shop.client(role="Viewer")
    assert (await viewer.get("/api/v1/weather")).json()["data"] == [{"city": "Berlin"}]
    assert (await client.get("/api/v1/weather/berlin")).json()["data"] == {"city": "Berlin", "products": 0}
    assert (await client.get("/api/v1/weather/rome")).status_code == 404
    assert (await viewer.post("/api/v1/weather", json={})).status_code == 403
    assert (await client.put("/api/v1/weather/berlin", json={})).status_code == 405


# --- what fits nowhere stops the start --------------------------------------------------


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ('class A(Logic):\n    resource, operation = "Prodcts", "create"', "there is no resource 'Prodcts'"),
        ('class A(Logic):\n    resource, operation = "Products", "creat"', "has no operation 'creat'"),
        ('class A(Logic):\n    resource, action = "Products", "feature:get"', "has no action 'feature:get'"),
        ('class A(Logic):\n    resource, operation = "Products", "create"', "is served by"),
        ('class A(Logic):\n    resource = "Products"', "set either `operation` or `action`"),
        (
            'class A(Logic):\n    resource, operation, action = "Products", "create", "feature:post"',
            "set either",
        ),
        ('class A(Logic):\n    resource, operation, version = "Products", "list", "v2"', "the folder says"),
        ('class A(Logic):\n    resource, operation = "Weather", "delete"', "has no route"),
        ("import nothing_of_this_name", "nothing_of_this_name"),
        ('class B(Logic):\n    resource, operation = "Products", "delete"', "B: has no execute"),
        ('class B:\n    resource, operation = "Products", "delete"', "B: is not derived from Logic"),
        ("def broken(:", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_class_that_fits_nowhere_stops_the_start(tmp_path: Path, source: str, told: str) -> None:
    text = f"from byodpp.logics import Logic\n\n{source}\n"
    if "class A" in source:
        text += "\n    async def execute(self):\n        return None\n"
    folder = write_application(tmp_path / "app", MANIFEST, {**FILES, "logics/v1/products/other.py": text})
    with pytest.raises(ExtensionError) as caught:
        assemble(folder)
    assert told in str(caught.value)
    assert "logics/v1/products/" in str(caught.value)


_ACTION = 'class C(Logic):\n    resource, action = "Products", "feature:post"\n    '
_CREATE = 'class C(Logic):\n    resource, operation = "Products", "delete"\n    '
_HANDLER = 'class C(EventHandler):\n    events = ("products.created",)\n    '


@pytest.mark.parametrize(
    ("source", "told", "advice"),
    [
        (f"{_CREATE}def execute(self): ...", "execute is not async", "async def execute(self):"),
        (f"{_CREATE}async def execute(self, body): ...", "execute takes other arguments", "self.request"),
        (f"{_CREATE}def __init__(self): ...\n    async def execute(self): ...", "__init__ takes", "context"),
        (f"{_CREATE}status = 700\n    async def execute(self): ...", "status is 700", "200 to 399"),
        (
            f"{_CREATE}input = Schema\n    async def execute(self): ...",
            "only actions have an input",
            "schemas/",
        ),
        (
            f"{_ACTION}input = Schema()\n    async def execute(self): ...",
            "input is an object",
            "input = Schema",
        ),
        (
            f"{_ACTION}query = dict\n    async def execute(self): ...",
            "query is no marshmallow schema",
            "derived",
        ),
        (f"{_HANDLER}def handle(self, event): ...", "handle is not async", "async def handle(self, event):"),
        (f"{_HANDLER}async def handle(self): ...", "handle takes other arguments", "self, event"),
        (
            f"{_HANDLER}def __init__(self, a): ...\n    async def handle(self, event): ...",
            "__init__",
            "leave",
        ),
        (
            'class C(EventHandler):\n    events = "products.created"\n    async def handle(self, event): ...',
            "events is a text",
            "events = ('products.created',)",
        ),
        ("class C(EventHandler):\n    async def handle(self, event): ...", "names no event", "events ="),
        ("import sys\n\nsys.exit(3)", "SystemExit: 3", ""),
        (
            f"{_CREATE.replace('Products', 'Suppliers')}async def execute(self): ...",
            "no resource",
            "left over",
        ),
        (
            f"{_CREATE.replace('Products', 'Weather')}version = 'v2'\n    async def execute(self): ...",
            "no resource 'Weather' in v2",
            "It is in v1",
        ),
    ],
)
def test_a_class_that_could_not_be_run_stops_the_start(
    tmp_path: Path, source: str, told: str, advice: str
) -> None:
    text = (
        "from marshmallow import Schema\n\nfrom byodpp.events import EventHandler\n"
        f"from byodpp.logics import Logic\n\n\n{source}\n"
    )
    folder = write_application(tmp_path / "app", MANIFEST, {**FILES, "logics/other.py": text})
    with pytest.raises(ExtensionError) as caught:
        assemble(folder)
    assert told in str(caught.value) and advice in str(caught.value)
    assert "logics/other.py:" in str(caught.value)


_DECORATORS = """
import asyncio
import functools

from byodpp.events import EventHandler
from byodpp.logics import Logic


def timed(method):
    @functools.wraps(method)
    def wrapper(self):
        return method(self)

    return wrapper


def in_thread(method):
    @functools.wraps(method)
    async def wrapper(self):
        return await asyncio.to_thread(method, self)

    return wrapper


def with_number(method):
    @functools.wraps(method)
    async def wrapper(self):
        return await method(self, 42)

    return wrapper


async def _answer(number):
    return number


class _Answer:
    async def __call__(self):
        return 42


class _Base(Logic):
    async def _run(self, number):
        return number


"""


@pytest.mark.parametrize(
    "body",
    [
        "@timed\n    async def execute(self): return 42",
        "@in_thread\n    def execute(self): return 42",
        "@with_number\n    async def execute(self, number): return number",
        "@staticmethod\n    async def execute(): return 42",
        "@classmethod\n    async def execute(cls): return 42",
        "async def execute(self, *args, **more): return 42",
        "execute = functools.partialmethod(_Base._run, 42)",
        "execute = functools.partial(_answer, 42)",
        "execute = _Answer()",
        "def __init__(self, *args, n=42): super().__init__(*args)\n    async def execute(self): return 42",
    ],
)
async def test_a_method_in_another_form_is_as_good_as_a_plain_one(tmp_path: Path, body: str) -> None:
    text = f"{_DECORATORS}{_CREATE.replace('(Logic)', '(_Base)')}{body}\n"
    folder = write_application(tmp_path / "app", MANIFEST, {**FILES, "logics/other.py": text})
    [logic] = [one.logic for one in assemble(folder).logics if "logics/other.py" in one.place]
    context: Any = SimpleNamespace(call=None)
    assert await logic(context).execute() == 42


def test_a_class_is_placed_where_it_is_written_however_it_was_made(tmp_path: Path) -> None:
    text = """
from byodpp.logics import Logic
from .sibling import _plain


@_plain
class Written(Logic):
    resource, operation = "Products", "patch"
    async def execute(self): ...


async def _execute(self): ...
_made = {"__module__": __name__, "resource": "Products", "operation": "update", "execute": _execute}
Made = type("Made", (Logic,), _made)
"""
    sibling = """
from byodpp.logics import Logic
def _plain(cls): return cls
if True:
    class Sibling(Logic):
        resource, operation = "Products", "read"
        async def execute(self): ...
"""
    more = {"logics/other.py": text, "logics/sibling.py": sibling}
    found, problems = find_classes(write_application(tmp_path / "app", MANIFEST, more), "logics", (Logic,))
    assert not problems
    # What a function has made has no line of its own.
    assert [one.place for one in found] == [
        "logics/other.py:6 Written",
        "logics/other.py:1 Made",
        "logics/sibling.py:5 Sibling",
    ]


def test_the_events_of_a_handler_may_be_a_set(tmp_path: Path) -> None:
    text = (
        f"{_DECORATORS}class Heard(EventHandler):\n    events = {{'products.created', 'products.deleted'}}\n"
        "    async def handle(self, event): ...\n"
    )
    folder = write_application(tmp_path / "app", MANIFEST, {**FILES, "logics/other.py": text})
    names = {name for one in assemble(folder).handlers for name in one.events}
    assert {"products.created", "products.deleted"} <= names


_THINGS = """
from byodpp.logics import Logic


class ThingsPatch(Logic):
    resource, operation = "Things", "patch"

    async def execute(self):
        return {"id": self.request.params["id"], **self.request.body}


class ThingsDelete(Logic):
    resource, operation = "Things", "delete"

    async def execute(self):
        return None


class ThingsBatch(Logic):
    resource, operation = "Things", "batch"

    async def execute(self):
        return await self.default()
"""


async def test_a_batch_of_what_has_no_table_takes_any_key(byodpp_bench: Bench, tmp_path: Path) -> None:
    things = {
        "name": "Things",
        "type": "logic",
        "fields": {"name": {"type": "string"}},
        "routes": {"crud": ["patch", "delete", "batch"]},
        "access": {"write": ["Admin"]},
    }
    blueprint = build(tmp_path / "app", {"resources": [things]}, {"logics/things.py": _THINGS})
    async with byodpp_bench.application(blueprint) as tested:
        client = tested.client()
        items = [{"id": "a", "name": "x"}, {"id": 2, "name": "y"}]
        done = await client.post("/api/v1/things/batch", json={"operation": "patch", "items": items})
        assert done.status_code == 200, done.text
        assert [one["name"] for one in done.json()["data"]] == ["x", "y"]
        done = await client.post("/api/v1/things/batch", json={"operation": "delete", "items": ["A", "a"]})
        assert done.status_code in (200, 204), done.text


def test_a_route_that_nothing_serves_stops_the_start(tmp_path: Path) -> None:
    folder = write_application(tmp_path / "app", MANIFEST, {"logics/v1/weather.py": WEATHER})
    with pytest.raises(StartError) as caught:
        assemble(folder)
    for name in ("feature:post", "reach:post", "download:get"):
        assert name in str(caught.value)
    folder = write_application(tmp_path / "other", MANIFEST, {"logics/v1/products/all.py": LOGIC})
    with pytest.raises(StartError) as caught:
        assemble(folder)
    assert "Weather" in str(caught.value)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ('class A(ma.Schema):\n    resource, operation = "Nothing", "create"', "Nothing"),
        ('class A(ma.Schema):\n    resource, operation = "Products", "delete"', "delete"),
        ('class A(ma.Schema):\n    resource, operation = "Logs", "patch"', "LogsPatch"),
    ],
)
def test_a_schema_that_fits_nowhere_stops_the_start(tmp_path: Path, source: str, told: str) -> None:
    text = f"import marshmallow as ma\n\n{source}\n"
    folder = write_application(tmp_path / "app", MANIFEST, {**FILES, "schemas/z.py": text})
    with pytest.raises(ExtensionError) as caught:
        assemble(folder)
    assert told in str(caught.value)
