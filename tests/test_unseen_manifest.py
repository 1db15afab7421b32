"""Manifests that nobody wrote, of every field type, key, scope and relation, work without a finding."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from byodpp.bootstrap import assemble
from byodpp.testing import Bench, TestedApplication
from tests.many_resources import Json, dumps, logic_files, make_manifest, own_resources
from tests.seven_operations import Examination, kebab, read_json

#: First seed of the manifests, to repeat one or to try others.
SEED = int(os.environ.get("BYODPP_MANIFEST_SEED", "1"))


def write(folder: Path, manifest: Json) -> Path:
    """Write an application of this manifest, with the logic classes it needs."""
    folder.mkdir(parents=True)
    (folder / "resources.json").write_text(dumps(manifest), encoding="utf-8")
    for name, source in logic_files(manifest).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(source, encoding="utf-8")
    return folder


async def examine(served: TestedApplication, manifest: Json, seed: int) -> list[str]:
    return await Examination(
        manifest,
        writer=served.client(),
        platform=served.client(tenant="platform"),
        stranger=served.client(tenant="beta"),
        seed=seed,
    ).run()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "count"),
    [
        (SEED, 10),
        *(pytest.param(SEED + more, 40, marks=pytest.mark.soak) for more in range(1, 6)),
    ],
)
async def test_the_seven_operations_hold_on_every_resource(
    seed: int, count: int, tmp_path: Path, byodpp_bench: Bench
) -> None:
    manifest = make_manifest(seed, count)
    blueprint = assemble(write(tmp_path / "app", manifest))
    async with byodpp_bench.application(blueprint, rate_limit_enabled=False) as served:
        findings = await examine(served, manifest, seed)
        assert not findings, "\n".join(findings[:20])
        await check_document(served, manifest)
        await check_roles(served, manifest)
        await check_logic(served, manifest)


async def check_document(served: TestedApplication, manifest: Json) -> None:
    """The document is valid and tells of every route that is served, and of no other."""
    answer = await served.client().get("/openapi.json")
    document = json.loads(answer.content)
    OpenAPIV31SpecValidator(document).validate()
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item
                 if method in ("get", "post", "put", "patch", "delete")}  # fmt: skip
    # OpenAPI 3.1 has no word for the method QUERY; POST …/query says the same.
    routed = {(method, route.pattern) for route in served.connected.routes()
              for method in route.methods if method != "QUERY"}  # fmt: skip
    assert {one for one in routed if one[1].startswith(("/api/v", "/shop", "/x"))} <= described
    assert {one for one in described if one[1].startswith("/api/v")} <= routed


async def check_roles(served: TestedApplication, manifest: Json) -> None:
    """A row filter and a field list of `access` hold on lists and single rows; the public sees no more."""
    admin, viewer = served.client(), served.client(role="Viewer", user="vera")
    guest, public = served.client(role="Guest", user="gus"), served.client(role=None)
    for version, resource in own_resources(manifest):
        if version != "v1" or resource.get("type") == "logic" or any(
            isinstance(one, dict) for one in resource.get("routes", {}).get("crud", [])
        ):  # fmt: skip
            continue
        url = f"/api/v1/{kebab(resource['name'])}"
        rules = [one for one in resource["access"]["read"] if isinstance(one, dict)]
        fields = next((one["fields"] for one in rules if one["roles"] == ["Viewer"]), None)
        filters = [one["filter"] for one in rules if "filter" in one]
        everything = read_json((await admin.get(f"{url}?limit=50")).content)["data"]
        seen = await viewer.get(f"{url}?limit=50")
        # What everybody may see, a signed-in caller may see too: rules add up.
        if fields is not None and not any("public" in one["roles"] for one in rules):
            for row in read_json(seen.content)["data"]:
                assert set(row) == set(fields), url
        for caller in (guest, public) if filters else ():
            answer = await caller.get(f"{url}?limit=50")
            assert answer.status_code == (401 if not _opened(rules, caller is public) else 200), url
            if answer.status_code == 200:
                (name, _), = filters[0].items()  # fmt: skip
                assert all(row[name] >= 3 for row in read_json(answer.content)["data"]), url
        if not filters:
            assert (await guest.get(url)).status_code == 403
            assert (await public.get(url)).status_code == 401
        assert seen.status_code == 200 and isinstance(everything, list)


def _opened(rules: list[Json], public: bool) -> bool:
    return not public or any("public" in one["roles"] for one in rules)


async def check_logic(served: TestedApplication, manifest: Json) -> None:
    """Actions at their own addresses, and resources without a table, are served by their classes."""
    admin, public = served.client(), served.client(role=None)
    platform = served.client(tenant="platform")
    for _, resource in own_resources(manifest):
        caller = platform if resource.get("scope") == "shared" else admin
        for action in resource.get("routes", {}).get("actions", []):
            url = action["url"].replace("{gtin}", "0952%2F").replace("{serial}", "a%20b").replace("{id}", "7")
            answer = await caller.request(action["method"], url)
            assert answer.status_code == 200, (url, answer.text)
            anonymous = await public.request(action["method"], url)
            assert anonymous.status_code == (200 if action.get("public") else 401), url
    served_by_logic = await admin.get("/api/v1/exchange")
    assert served_by_logic.json()["data"]["served"] == "list"
