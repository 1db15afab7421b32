"""The reference application's own revisions lead to what its manifest wants."""

from __future__ import annotations

import asyncpg

from byodpp import migrations
from byodpp.bootstrap import Blueprint
from byodpp.embedded import SUPERUSER
from byodpp.tables.roles import OWNER, provision_database
from byodpp.testing import Bench

_NAME = "reference_revisions"


async def test_the_revisions_leave_nothing_to_do(byodpp_bench: Bench, byodpp_blueprint: Blueprint) -> None:
    server, app_dir = byodpp_bench.server, byodpp_blueprint.app_dir
    outside = await asyncpg.connect(server.uri(SUPERUSER, "postgres"))
    try:
        await outside.execute(f'drop database if exists "{_NAME}" with (force)')
        await outside.execute(f'create database "{_NAME}" owner {OWNER}')
        inside = await asyncpg.connect(server.uri(SUPERUSER, _NAME))
        await provision_database(inside)
        await inside.close()
        owner = server.uri(OWNER, _NAME)
        applied = await migrations.apply(app_dir, owner)
        assert [one.revision for one in migrations.read_revisions(app_dir)] == [
            one.revision for one in applied
        ]
        left = await migrations.plan(byodpp_blueprint.registry, owner)
        assert [step.description for step in left] == []
        status = await migrations.status(app_dir, byodpp_blueprint.registry, owner)
        assert (status.serves, status.pending) == (True, ())
    finally:
        await outside.execute(f'drop database if exists "{_NAME}" with (force)')
        await outside.close()
