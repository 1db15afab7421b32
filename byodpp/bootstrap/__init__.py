"""The bootstrap: the one place that builds objects, in the order of the ladder.

`assemble` (`blueprint`) reads and judges an application and makes everything that needs no
database: a Blueprint, which tests share. `Application` (`connected`) adds the parts that talk to
the outside; `build` puts them behind HTTP. May reject: StartError with all mistakes of a stage.
"""

from __future__ import annotations

import gc

from starlette.applications import Starlette

from byodpp.bootstrap.blueprint import Blueprint, assemble, openapi, snapshot
from byodpp.bootstrap.connected import Application
from byodpp.bootstrap.databases import connect_databases
from byodpp.heap import no_collection
from byodpp.seeding import Seeder, loading_alone, waiting_seeds
from byodpp.settings import Settings

__all__ = ["Application", "Blueprint", "assemble", "build", "load_demo", "openapi", "snapshot"]


def build(settings: Settings, blueprint: Blueprint | None = None) -> Starlette:
    """Return the application of a folder, ready to be served by this process until its end.

    Args:
        settings: with the address of a running database.
        blueprint: the folder's, where it has been assembled already.

    Raises:
        StartError: with all mistakes.
    """
    with no_collection():
        built = Application.connect(settings, blueprint or assemble(settings.app_dir)).asgi()
    # All of it stays: no collection between requests needs to look at it.
    gc.freeze()
    return built


async def load_demo(settings: Settings, blueprint: Blueprint | None = None, *, again: bool = False) -> int:
    """Load the application's `seeds/`, each file once, whoever else does so at the same time.

    Args:
        settings: with the addresses of a migrated database.
        blueprint: the folder's, where it has been assembled already.
        again: also those that were loaded before.

    Returns:
        Rows written.
    """
    database = connect_databases(settings)
    await database.open()
    try:
        if not await waiting_seeds(settings.app_dir, database, again=again):
            return 0
        async with loading_alone(database):
            files = await waiting_seeds(settings.app_dir, database, again=again)
            if not files:
                return 0
            connected = Application.connect(settings, blueprint or assemble(settings.app_dir))
            async with connected.lifespan():
                return await Seeder(connected.service, connected.database).load(files)
    finally:
        await database.close()
