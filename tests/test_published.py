"""What a public action offers everybody: the rows that the public rules open, of every tenant."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.testing import Bench, TestedApplication
from tests.worlds import build

NEWS: dict[str, Any] = {
    "include": ["byodpp:access", "byodpp:audit"],
    "services": [
        {
            "name": "News",
            "resources": [
                {
                    "name": "Bulletins",
                    "softDelete": True,
                    "fields": {
                        "code": {"type": "string", "maxLength": 40, "required": True, "index": True},
                        "secret": {"type": "string", "index": True},
                        "status": {
                            "type": "string", "enum": ["draft", "out"], "default": "draft", "index": True,
                        },
                        "deskId": {"references": "Desks"},
                    },
                    "routes": {
                        "crud": ["list", "create", "read", "update", "patch", "delete", "batch"],
                        "actions": [
                            {"url": "/bulletins", "method": "get", "name": "all", "public": True},
                            {"url": "/bulletins/{code}", "method": "get", "name": "one", "public": True},
                            {"url": "/bulletins/{key}/try", "method": "post", "name": "try", "public": True},
                        ],
                    },
                    "access": {
                        "read": [
                            "Admin",
                            {"roles": ["public"], "filter": {"status": "out"}, "fields": ["code", "status"]},
                        ],
                        "write": ["Admin"],
                    },
                },
                {"name": "Desks", "fields": {"name": {"type": "string"}}, "access": {"read": ["Admin"]}},
            ],
        }
    ],
}  # fmt: skip

CLASSES = """
from byodpp.exceptions import NotFound
from byodpp.logics import Logic


class All(Logic):
    resource, action = "Bulletins", "all"

    async def execute(self):
        return await self.published["Bulletins"].list(sort="code", count="exact")


class One(Logic):
    resource, action = "Bulletins", "one"

    async def execute(self):
        found = await self.published["Bulletins"].find({"code": self.request.params["code"]})
        if found is None:
            raise NotFound
        return found


class Try(Logic):
    resource, action = "Bulletins", "try"

    async def execute(self):
        rows, key = self.published["Bulletins"], self.request.params["key"]
        match self.request.headers["x-way"]:
            case "read":
                return await rows.read(key)
            case "filter":
                return await rows.list({"secret": "mine"})
            case "sort":
                return await rows.list(sort="secret")
            case "include":
                return await rows.list(include="desk")
            case "fields":
                return await rows.list(fields="secret")
            case "aggregate":
                return await rows.aggregate("min:secret")
            case "desks":
                return await self.published["Desks"].list()
            case "patch":
                return await rows.patch(key, {"code": "taken over"})
            case "create":
                return await rows.create({"code": "new"})
            case "delete":
                return await rows.delete(key)
"""


@pytest.fixture(scope="module", params=[True, False], ids=["both-fences", "row-level-security-alone"])
def blueprint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    files = {"logics/v1/bulletins/public.py": CLASSES}
    return build(tmp_path_factory.mktemp("news"), NEWS, files, enforce_scope=request.param)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def news(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(
        blueprint, tenant_domain="dpp.example", public_url="https://api.dpp.example"
    ) as tested:
        for tenant in ("acme", "beta"):
            client = tested.client(tenant=tenant)
            rows = [
                {"code": f"{tenant}-{name}", "status": status, "secret": "mine"}
                for name, status in (("out", "out"), ("draft", "draft"), ("gone", "out"))
            ]
            made = await client.post("/api/v1/bulletins/batch", json=rows)
            assert made.status_code == 201, made.text
            gone = made.json()["data"][2]["id"]
            assert (await client.delete(f"/api/v1/bulletins/{gone}")).status_code == 204
        yield tested


def everybody(news: TestedApplication) -> list[Any]:
    people = [(role, tenant) for role in ("Admin", "Reader") for tenant in ("acme", "beta")]
    return [news.client(role=None), *(news.client(role=role, tenant=tenant) for role, tenant in people)]


async def test_everybody_sees_the_published_rows_of_every_tenant_and_their_public_fields(
    news: TestedApplication,
) -> None:
    for client in everybody(news):
        answer = (await client.get("/bulletins")).json()
        shown = [{name: row[name] for name in row if name != "id"} for row in answer["data"]]
        assert shown == [{"code": f"{tenant}-out", "status": "out"} for tenant in ("acme", "beta")]
        assert answer["count"] == 2
        for tenant in ("acme", "beta"):
            assert (await client.get(f"/bulletins/{tenant}-out")).status_code == 200
            for hidden in ("draft", "gone", "never"):
                assert (await client.get(f"/bulletins/{tenant}-{hidden}")).status_code == 404


@pytest.mark.parametrize(
    ("way", "status"),
    [
        *((way, 400) for way in ("filter", "sort", "include", "fields", "aggregate")),
        *((way, 403) for way in ("patch", "create", "delete")),
        ("desks", 200),
    ],
)
async def test_nobody_sees_more_or_writes_through_it(news: TestedApplication, way: str, status: int) -> None:
    """An administrator's own rights say nothing here, and neither do they of his own rows."""
    before = (await news.client().get("/api/v1/bulletins?sort=id")).json()["data"]
    for client in everybody(news):
        answer = await client.post(f"/bulletins/{before[0]['id']}/try", headers={"X-Way": way})
        assert answer.status_code == status, answer.text
        assert status != 200 or answer.json()["data"] == []
    assert (await news.client().get("/api/v1/bulletins?sort=id")).json()["data"] == before


async def test_what_is_published_is_found_whatever_tenants_host_is_asked(
    news: TestedApplication,
) -> None:
    """A public address leads to the same row, whatever host it is asked at."""
    nobody = news.client(role=None)
    for host in ("acme.dpp.example", "beta.dpp.example"):
        shown = (await nobody.get("/bulletins", headers={"Host": host})).json()["data"]
        assert [row["code"] for row in shown] == ["acme-out", "beta-out"]
        for tenant in ("acme", "beta"):
            answer = await nobody.get(f"/bulletins/{tenant}-out", headers={"Host": host})
            assert answer.status_code == 200, answer.text


async def test_a_draft_is_not_found_by_its_key_either(news: TestedApplication) -> None:
    rows = (await news.client().get("/api/v1/bulletins?filter[status]=draft")).json()["data"]
    for client in everybody(news):
        draft = await client.post(f"/bulletins/{rows[0]['id']}/try", headers={"X-Way": "read"})
        assert draft.status_code == 404, draft.text
