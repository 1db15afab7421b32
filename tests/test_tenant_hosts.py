"""Hosts that name tenants: for who may choose one, and for nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.exceptions import SettingsError
from byodpp.settings import load_settings
from byodpp.testing import Bench, TestedApplication
from tests.worlds import build

PAGES = "/api/v1/pages"
MANIFEST = {
    "resources": [
        {
            "name": "Pages",
            "fields": {
                "name": {"type": "string", "index": True},
                "shown": {"type": "boolean", "index": True},
            },
            "access": {
                "read": ["Admin", {"roles": ["public"], "filter": {"shown": True}}],
                "write": ["Admin"],
            },
        }
    ],
    "include": ["byodpp:tenancy", "byodpp:access", "byodpp:grants"],
}


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("hosts"), MANIFEST)


@pytest_asyncio.fixture(loop_scope="session")
async def tested(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(
        blueprint, tenant_domain="dpp.example", public_url="https://api.dpp.example"
    ) as application:
        for slug in ("acme", "beta"):
            for name, shown in ((f"{slug} shown", True), (f"{slug} hidden", False)):
                answer = await application.client(tenant=slug).post(
                    PAGES, json={"name": name, "shown": shown}
                )
                assert answer.status_code == 201, answer.text
        yield application


async def seen(client: httpx2.AsyncClient, host: str, **headers: str) -> Any:
    """Return the names of the pages, or the status where they are refused."""
    answer = await client.get(f"{PAGES}?sort=name", headers={"Host": host, **headers})
    if answer.status_code != 200:
        return answer.status_code
    return [one["name"] for one in answer.json()["data"]]


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("acme.dpp.example", ["acme shown"]),
        ("ACME.Dpp.Example:8443", ["acme shown"]),
        ("beta.dpp.example.", ["beta shown"]),
        ("nobody.dpp.example", 404),
        ("-.dpp.example", 404),
        ("%00.dpp.example", 400),
        ("acme%2ebeta.dpp.example", 400),
        # These are nobody's, and name nobody.
        ("dpp.example", ["acme shown", "beta shown"]),
        ("api.dpp.example", ["acme shown", "beta shown"]),
        ("acme.beta.dpp.example", ["acme shown", "beta shown"]),
        ("acmedpp.example", ["acme shown", "beta shown"]),
        ("acme.dpp.example.evil.example", ["acme shown", "beta shown"]),
        ("[::1]:3000", ["acme shown", "beta shown"]),
    ],
)
async def test_who_is_not_signed_in_finds_the_hosts_tenant(
    tested: TestedApplication, host: str, found: Any
) -> None:
    assert await seen(tested.client(role=None), host) == found


async def test_an_operator_acts_for_the_hosts_tenant(tested: TestedApplication) -> None:
    operator = tested.client(tenant="platform", user="root")
    assert await seen(operator, "beta.dpp.example") == ["beta hidden", "beta shown"]
    assert await seen(operator, "nobody.dpp.example") == 404


async def test_a_tenants_user_is_at_home_at_his_own_host_and_nowhere_else(tested: TestedApplication) -> None:
    user, own = tested.client(), ["acme hidden", "acme shown"]
    assert await seen(user, "acme.dpp.example") == await seen(user, "api.dpp.example") == own
    assert await seen(user, "beta.dpp.example") == 403
    assert await seen(user, "nobody.dpp.example") == 403
    answer = await user.post(PAGES, json={"name": "x"}, headers={"Host": "beta.dpp.example"})
    assert answer.status_code == 403


async def test_header_and_host_do_not_contradict_each_other(tested: TestedApplication) -> None:
    nobody = tested.client(role=None)
    assert await seen(nobody, "acme.dpp.example", **{"X-Tenant": "acme"}) == ["acme shown"]
    assert await seen(nobody, "acme.dpp.example", **{"X-Tenant": "beta"}) == 400
    assert await seen(nobody, "api.dpp.example", **{"X-Tenant": "beta"}) == ["beta shown"]


async def test_a_header_that_is_empty_is_not_one_that_is_not_there(tested: TestedApplication) -> None:
    for host in ("acme.dpp.example", "api.dpp.example"):
        for client in (
            tested.client(role=None),
            tested.client(),
            tested.client(tenant="platform", user="root"),
        ):
            assert await seen(client, host, **{"X-Tenant": ""}) == 400


async def test_a_host_may_be_a_ulid_in_small_letters(tested: TestedApplication) -> None:
    ulid, nobody = (await tested.tenant("acme")).ulid, tested.client(role=None)
    for host in (f"{ulid}.dpp.example", f"{ulid.lower()}.dpp.example"):
        assert await seen(nobody, host) == ["acme shown"]
        assert await seen(nobody, host, **{"X-Tenant": ulid}) == ["acme shown"]
        # The same tenant, and not the same word.
        assert await seen(nobody, host, **{"X-Tenant": "acme"}) == 400
    assert await seen(nobody, "7zzzzzzzzzzzzzzzzzzzzzzzzz.dpp.example") == 404


async def test_what_a_proxy_says_of_the_host_names_nobody(tested: TestedApplication) -> None:
    for name in ("X-Forwarded-Host", "Forwarded", "X-Host", "X-Original-Host"):
        told = {name: "host=acme.dpp.example" if name == "Forwarded" else "acme.dpp.example"}
        assert await seen(tested.client(role=None), "api.dpp.example", **told) == ["acme shown", "beta shown"]


async def test_without_the_setting_a_host_names_nobody(byodpp_bench: Bench, blueprint: Blueprint) -> None:
    async with byodpp_bench.application(blueprint) as plain:
        await plain.client(tenant="beta").post(PAGES, json={"name": "b", "shown": True})
        assert await seen(plain.client(role=None), "acme.dpp.example") == ["b"]
        assert await seen(plain.client(), "beta.dpp.example") == []


@pytest.mark.parametrize(
    "domain", ["Dpp.example", ".dpp.example", "dpp.example.", "a b", "x:80", "*.x", "a/b"]
)
def test_a_domain_that_is_none_stops_the_start(blueprint: Blueprint, domain: str) -> None:
    given = {"BYODPP_ENV": "test", "TENANT_DOMAIN": domain, "PUBLIC_URL": "https://api.dpp.example"}
    with pytest.raises(SettingsError, match="must be a host name"):
        load_settings(blueprint.app_dir, given)


def test_a_domain_needs_the_servers_own_address_which_would_be_a_tenants(blueprint: Blueprint) -> None:
    given = {"BYODPP_ENV": "test", "TENANT_DOMAIN": "dpp.example"}
    with pytest.raises(SettingsError, match=r"public_url.* is needed with tenant_domain"):
        load_settings(blueprint.app_dir, given)
    settings = load_settings(blueprint.app_dir, {**given, "PUBLIC_URL": "https://api.dpp.example"})
    assert settings.tenant_domain == "dpp.example"


async def test_a_suspended_tenant_is_not_found_by_name_and_what_it_published_is(
    tested: TestedApplication,
) -> None:
    operator, nobody = tested.client(tenant="platform", user="root"), tested.client(role=None)
    id = (await tested.tenant("acme")).id
    assert (await operator.post(f"/api/v1/tenants/{id}/deactivate")).status_code == 200
    assert await seen(nobody, "acme.dpp.example") == 404
    assert await seen(nobody, "api.dpp.example", **{"X-Tenant": "acme"}) == 404
    assert await seen(nobody, "api.dpp.example") == ["acme shown", "beta shown"]
    assert await seen(tested.client(), "acme.dpp.example") == 401
    assert await seen(operator, "acme.dpp.example") == ["acme hidden", "acme shown"]


# --- tenants' own domains -------------------------------------------------------------------


@pytest_asyncio.fixture(loop_scope="session")
async def own(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(
        blueprint, tenant_domain="dpp.example", public_url="https://api.dpp.example", tenant_own_domains=True
    ) as application:
        for slug in ("acme", "beta"):
            for name, shown in ((f"{slug} shown", True), (f"{slug} hidden", False)):
                page = {"name": name, "shown": shown}
                assert (await application.client(tenant=slug).post(PAGES, json=page)).status_code == 201
        given = await domain_of(application, "acme", "passports.acme.example")
        assert given.status_code == 200, given.text
        yield application


async def domain_of(tested: TestedApplication, slug: str, domain: str | None) -> httpx2.Response:
    operator = tested.client(tenant="platform", user="root")
    return await operator.patch(f"/api/v1/tenants/{(await tested.tenant(slug)).id}", json={"domain": domain})


async def test_a_tenants_own_domain_names_it_for_whoever_may_name_it(own: TestedApplication) -> None:
    host, both = "passports.acme.example", ["acme shown", "beta shown"]
    nobody, user, other = own.client(role=None), own.client(), own.client(tenant="beta")
    assert await seen(nobody, host) == await seen(nobody, "PASSPORTS.acme.example.:8443") == ["acme shown"]
    assert await seen(own.client(tenant="platform", user="root"), host) == ["acme hidden", "acme shown"]
    assert await seen(user, host) == ["acme hidden", "acme shown"]
    assert await seen(other, host) == 403
    assert await seen(nobody, host, **{"X-Tenant": "acme"}) == ["acme shown"]
    assert await seen(nobody, host, **{"X-Tenant": "beta"}) == 400
    for unknown in ("acme.example", "a.passports.acme.example", "passports.acme.example.evil.example"):
        assert await seen(nobody, unknown) == both
        assert await seen(other, unknown) == ["beta hidden", "beta shown"]
    for no_domain in ("127.0.0.1:3000", "[::1]:3000", "localhost", "api.dpp.example", "-.example", "x" * 200):
        assert await seen(nobody, no_domain) == both
    assert await seen(nobody, "acme.dpp.example") == ["acme shown"], "as before"


async def test_a_domain_is_given_taken_away_and_nobody_elses(own: TestedApplication) -> None:
    nobody, host = own.client(role=None), "passports.acme.example"
    assert (await domain_of(own, "beta", host)).status_code == 409
    for wrong in ("Passports.beta.example", "beta.example:80", "https://beta.example", "*.example", ""):
        assert (await domain_of(own, "beta", wrong)).status_code == 422, wrong
    tenant = (await own.tenant("acme")).id
    refused = await own.client().patch(f"/api/v1/tenants/{tenant}", json={"domain": "bank.example"})
    assert refused.status_code == 403, "a tenant gives itself no host"
    assert (await domain_of(own, "acme", None)).status_code == 200
    assert (await domain_of(own, "beta", host)).status_code == 200
    assert await seen(nobody, host) == ["beta shown"]
    # What is ours is nobody's own, whatever stands in a row.
    for ours in ("api.dpp.example", "dpp.example", "acme.dpp.example"):
        assert (await domain_of(own, "beta", ours)).status_code == 200
        expected = ["acme shown"] if ours.startswith("acme") else ["acme shown", "beta shown"]
        assert await seen(nobody, ours) == expected


async def test_without_their_setting_own_domains_name_nobody(tested: TestedApplication) -> None:
    assert (await domain_of(tested, "acme", "passports.acme.example")).status_code == 200
    assert await seen(tested.client(role=None), "passports.acme.example") == ["acme shown", "beta shown"]
