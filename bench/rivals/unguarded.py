"""BYO DPP without authorization: no rule is asked, and no context set for row-level security.

For measuring what these cost. Everything else is as ever: tokens are checked, since limits and the log
need to know who calls, and the tenant is in each statement, since it is half of the key.

`python -m bench.rivals.unguarded FOLDER PORT` serves an application on the database that BENCH_APP_URI
and BENCH_SYSTEM_URI name.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from starlette.applications import Starlette

from byodpp import bootstrap
from byodpp.authentication import Principal
from byodpp.authorization import Authorizer, Decision
from byodpp.authorization.presets import Presets
from byodpp.conditions import Lookup, Query, Visibility
from byodpp.definitions import ResourceDefinition
from byodpp.registry import Registry
from byodpp.settings import Settings, load_settings
from byodpp.statements import Compiled, Statements
from byodpp.workers import run

__all__ = ["application"]

_EVERYTHING = Decision(allowed=True, reason="nobody is asked")


class _Everything(Authorizer):
    """Allows everything to everybody."""

    def __init__(self, registry: Registry, **options: Any) -> None:
        super().__init__(registry, **options)
        self._whole: dict[tuple[str, str], Visibility] = {}

    def decide(self, principal: Principal, resource: ResourceDefinition, operation_key: str) -> Decision:
        """Allow it."""
        return _EVERYTHING

    def visibility(
        self, principal: Principal, resource: ResourceDefinition, operation: str = "read"
    ) -> Visibility | None:
        """Show everything."""
        found = self._whole.get(resource.id)
        if found is None:
            shown = (name for name, one in resource.fields.items() if not one.write_only)
            found = self._whole[resource.id] = Visibility(None, dict.fromkeys(shown))
        return found

    def presets(self, principal: Principal) -> Presets:
        """Preset nothing."""
        return _no_presets


def _no_presets(resource: ResourceDefinition) -> Mapping[str, Any]:
    return {}


class _WithoutContext(Statements):
    """Reads rows without telling PostgreSQL for whom."""

    def row(
        self,
        resource: ResourceDefinition,
        query: Query,
        lookup: Lookup | None,
        *,
        context_in_statement: bool = True,
        anywhere: bool = False,
    ) -> Compiled:
        """Return the statement of a row."""
        return super().row(resource, query, lookup, context_in_statement=False, anywhere=anywhere)


def application(settings: Settings) -> Starlette:
    """Return the application as ASGI."""
    blueprint = bootstrap.assemble(settings.app_dir)
    statements = _WithoutContext(blueprint.registry, blueprint.tables)
    with mock.patch("byodpp.bootstrap.connected.Authorizer", _Everything):
        built = bootstrap.Application.connect(settings, replace(blueprint, statements=statements))
    return built.asgi()


def main() -> None:
    """Serve."""
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    settings = load_settings(
        folder,
        os.environ,
        host="127.0.0.1",
        port=port,
        postgres_db_uri=os.environ["BENCH_APP_URI"],
        postgres_system_uri=os.environ["BENCH_SYSTEM_URI"],
    )
    run(settings, partial(application, settings))


if __name__ == "__main__":
    # Processes must find the factory under its importable name, not under `__main__`.
    from bench.rivals.unguarded import main as importable

    importable()
