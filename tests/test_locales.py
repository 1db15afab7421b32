"""A field that asks for a locale: what is told where the server does not know it."""

from __future__ import annotations

from pathlib import Path

import pytest

from byodpp.migrations import without_order
from byodpp.testing import Bench
from tests.worlds import build

MANIFEST = {
    "resources": [
        {
            "name": "Words",
            "fields": {"word": {"type": "string", "locale": "sv"}, "plain": {"type": "text"}},
        }
    ]
}


async def test_a_start_names_the_fields_whose_locale_the_server_does_not_know(
    byodpp_bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The embedded PostgreSQL has no ICU."""
    blueprint = build(tmp_path, MANIFEST)
    async with byodpp_bench.application(blueprint) as tested:
        told = await without_order(blueprint.registry, tested.settings.postgres_admin_uri or "")
    assert told == ["Words.word"]
    assert "Words.word is compared by code point" in caplog.text


async def test_nothing_is_told_where_no_field_asks_for_a_locale(byodpp_bench: Bench, tmp_path: Path) -> None:
    fields = {"word": {"type": "string"}}
    blueprint = build(tmp_path, {"resources": [{"name": "Words", "fields": fields}]})
    async with byodpp_bench.application(blueprint) as tested:
        assert await without_order(blueprint.registry, tested.settings.postgres_admin_uri or "") == []
