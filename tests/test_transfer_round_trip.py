"""What is exported comes back by import as equal rows, for every type of field and every format."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from byodpp.bootstrap import Blueprint
from byodpp.testing import Bench, TestedApplication
from byodpp.transfer.formats import MEDIA_TYPES, READABLE, Format
from tests.transfer_world import FILE_LOGICS, FILES, GOODS, WRITABLE, lines_of
from tests.worlds import build

EXAMPLES = 40
_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
_STRANGE = st.sampled_from(
    ["", "'", "''", "'=", "=1+1", "+1", "-1", "@x", "\tx", "\rx", "\n", "\uff1dx", '"', '""', ",", ";",
     "#end", "<a>&amp;</a>", "]]>", "\ufffe", "😀", "null", "true", "007",
     " x ", "a,b\r\nc", "\\N", "\x01\x1f", "\u2028"]
)  # fmt: skip
_ANY_TEXT = st.one_of(_TEXT, _STRANGE)
_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**20), 10**20), _ANY_TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_ANY_TEXT, inner, max_size=3)),
    max_leaves=6,
)
_DIGITS = st.integers(-(2**63), 2**63 - 1)

#: A JSON value of each writable field; None is null.
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "sku": st.just(None),  # unique: given below
    "note": _ANY_TEXT,
    "price": st.decimals(0, 10**9, places=2, allow_nan=False).map(lambda one: float(one)),
    "exact": st.decimals(-(10**20), 10**20, places=5, allow_nan=False).map(lambda one: f"{one:f}"),
    "stock": st.integers(-(2**31), 2**31 - 1),
    "big": _DIGITS,
    "digits": _DIGITS.map(str),
    "weight": st.floats(allow_nan=False, allow_infinity=False),
    "flag": st.booleans(),
    "day": st.dates().map(str),
    "hour": st.times().map(lambda one: one.isoformat("microseconds")),
    "moment": st.datetimes().map(lambda one: one.isoformat("T", "microseconds") + "Z"),
    "code": st.uuids().map(str),
    "mark": st.text("0123456789ABCDEFGHJKMNPQRSTVWXYZ", min_size=25, max_size=25).map(lambda one: f"0{one}"),
    "extra": _JSON,
    "box": st.fixed_dictionaries({}, optional={"width": st.integers(-9, 9), "unit": _ANY_TEXT}),
    "tags": st.lists(_ANY_TEXT, max_size=3),
    "size": st.sampled_from(["small", "large"]),
}
ROWS = st.lists(
    st.fixed_dictionaries({name: st.one_of(st.none(), kind) for name, kind in VALUES.items()}),
    min_size=1,
    max_size=4,
)


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("files"), FILES, FILE_LOGICS)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def files(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint) as tested:
        yield tested


@pytest.mark.slow
@pytest.mark.parametrize("format", READABLE)
async def test_what_was_exported_is_imported_as_it_was(files: TestedApplication, format: Format) -> None:
    assert set(VALUES) | {"name"} == set(WRITABLE)
    ours, theirs = files.client(), files.client(tenant="beta")
    fields = ",".join(WRITABLE)
    seen = 0

    async def cycle(rows: list[dict[str, Any]]) -> None:
        nonlocal seen
        for client in (ours, theirs):
            await client.post(
                f"{GOODS}/batch", json={"operation": "delete", "filter": {"name": {"ne": ""}}, "max": 1000}
            )
        names = ["#end", "=n", "'n", '"n']  # the first column
        items = [{"name": names[place], **row, "sku": f"-{place}"} for place, row in enumerate(rows)]
        body = json.dumps(items, ensure_ascii=False).encode("utf-8", "surrogatepass")
        made = await ours.post(f"{GOODS}/batch", content=body, headers={"Content-Type": "application/json"})
        assert made.status_code == 201, made.text
        file = await ours.get(f"{GOODS}/export?format={format}&fields={fields}")
        done = await theirs.post(
            f"{GOODS}/import?again=true",
            content=file.content,
            headers={"Content-Type": MEDIA_TYPES[format][0]},
        )
        assert done.status_code == 200 and done.json()["data"]["created"] == len(rows), done.text
        asked = f"{GOODS}/export?fields={fields}&sort=name"
        first, second = (await ours.get(asked)).text, (await theirs.get(asked)).text
        assert _same(first) == _same(second)
        seen += 1

    loop = asyncio.get_running_loop()

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(rows=ROWS)
    def run(rows: list[dict[str, Any]]) -> None:
        asyncio.run_coroutine_threadsafe(cycle(rows), loop).result()

    await asyncio.to_thread(run)  # hypothesis knows no event loop
    assert seen >= EXAMPLES


async def test_a_file_of_one_column_brings_its_empty_cells_back(files: TestedApplication) -> None:
    client, plates = files.client(), "/api/v1/plates"
    for number in ("a", None, None, "", None):
        assert (await client.post(plates, json={"number": number})).status_code == 201
    exported = await client.get(f"{plates}/export?format=csv&fields=number&sort=id")
    assert exported.text == 'number\r\n"a"\r\n\r\n\r\n""\r\n\r\n#end,5\r\n'
    for row in (await client.get(plates)).json()["data"]:
        await client.delete(f"{plates}/{row['id']}")
    done = await client.post(
        f"{plates}/import", content=exported.content, headers={"Content-Type": "text/csv"}
    )
    assert (done.status_code, done.json()["data"].get("created")) == (200, 5), done.text
    rows = (await client.get(f"{plates}?sort=id&fields=number")).json()["data"]
    assert [row["number"] for row in rows] == ["a", None, None, "", None]


def _same(text: str) -> list[Any]:
    return [list(row.items()) for row in lines_of(text)]
