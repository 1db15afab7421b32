"""Rows that stand outside the bounds that a manifest has come to ask for: counted, of every tenant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from byodpp import migrations
from byodpp.exceptions import MigrationError
from byodpp.testing import Bench
from tests.worlds import build

THINGS = "/api/v1/things"
_OPEN = {"read": ["Admin"], "write": ["Admin"]}


def manifest(fields: dict[str, Any]) -> dict[str, Any]:
    return {"resources": [{"name": "Things", "softDelete": True, "fields": fields, "access": _OPEN}]}


async def test_rows_outside_of_their_fields_bounds_are_counted(byodpp_bench: Bench, tmp_path: Path) -> None:
    before = build(tmp_path / "before", manifest({
        "price": {"type": "decimal", "precision": 8, "scale": 2},
        "size": {"type": "integer", "column": "Size"},
        "name": {"type": "text"},
        "secret": {"type": "integer", "encrypted": True},
        "word": {"type": "text"},
    }))  # fmt: skip
    after = build(tmp_path / "after", manifest({
        "price": {"type": "decimal", "precision": 8, "scale": 2, "minimum": 0.05, "exclusiveMaximum": 9},
        "size": {"type": "integer", "column": "Size", "maximum": 3},
        "name": {"type": "text", "minLength": 2, "maxLength": 4},
        "secret": {"type": "integer", "encrypted": True, "maximum": 1},
        "word": {"type": "text"},
        "new": {"type": "integer", "minimum": 5},
    }))  # fmt: skip
    async with byodpp_bench.application(before) as tested:
        for tenant in ("acme", "beta"):
            client = tested.client(tenant=tenant)
            for row in (
                {"price": 0.04, "size": 3, "name": "ab", "secret": 5},
                {"price": 9, "size": 4, "name": "a"},
                {"price": 0.05, "name": "abcde"},
                {},
            ):
                assert (await client.post(THINGS, json=row)).status_code == 201
            gone = (await client.post(THINGS, json={"price": -1})).json()["data"]["id"]
            assert (await client.delete(f"{THINGS}/{gone}")).status_code == 204
        uri = str(tested.settings.postgres_system_uri)
        found = [str(one) async for one in migrations.rows_outside(after.registry, uri)]
        end = "read as before, and refused when written"
        assert found == [
            f"Things.price: 2 rows are outside of minimum 0.05: {end}",
            f"Things.price: 2 rows are outside of exclusiveMaximum 9: {end}",
            f"Things.size: 2 rows are outside of maximum 3: {end}",
            f"Things.name: 2 rows are outside of minLength 2: {end}",
            f"Things.name: 2 rows are outside of maxLength 4: {end}",
        ]
        assert [one async for one in migrations.rows_outside(before.registry, uri)] == []
        nobody = uri.replace("byodpp_system", "nobody")
        with pytest.raises(MigrationError, match=r"postgres_system_uri: .* cannot be connected: .*nobody"):
            [one async for one in migrations.rows_outside(before.registry, nobody)]
        other = build(tmp_path / "other", manifest({"word": {"type": "integer", "minimum": 1}}))
        told = [str(one) async for one in migrations.rows_outside(other.registry, uri)]
        assert len(told) == 1 and told[0].startswith("Things: not counted (operator does not exist: text <")
