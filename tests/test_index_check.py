"""Fields that may be filtered by though no index serves them are told, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from byodpp.bootstrap import Application, assemble
from byodpp.exceptions import ManifestError
from byodpp.index_check import unindexed
from byodpp.settings import load_settings
from tests.commands import byodpp
from tests.worlds import write_application

ROOT = Path(__file__).resolve().parent.parent


def application(folder: Path, **fields: Any) -> Path:
    resource = {
        "name": "Products",
        "fields": {"name": {"type": "string"}, **fields},
        "unique": [["sku", "colour"]],
        "indexes": [["size", "weight"]],
        "search": ["text"],
        "states": {
            "field": "status",
            "initial": "draft",
            "transitions": {"end": {"from": "draft", "to": "ended"}},
        },
    }
    return write_application(folder, {"resources": [resource, {"name": "Makers", "fields": {}}]})


FIELDS: dict[str, Any] = {
    "sku": {"type": "string"},
    "colour": {"type": "string"},
    "size": {"type": "integer"},
    "weight": {"type": "integer", "index": True},
    "text": {"type": "text"},
    "makerId": {"references": "Makers"},
    "code": {"type": "string", "unique": True},
    "data": {"type": "json", "index": True},
    "tags": {"type": "array", "items": {"type": "string"}, "filterable": True},
    "open": {"type": "string", "filterable": True},
    "closed": {"type": "string", "index": True, "filterable": False},
}


def test_every_filterable_field_needs_an_index_that_begins_with_it(tmp_path: Path) -> None:
    blueprint = assemble(application(tmp_path, **FIELDS))
    found = unindexed(blueprint.registry, blueprint.tables)
    names = {one.reason.split(" ")[0].removeprefix("Products.") for one in found}
    assert names == {"colour", "text", "tags", "open", "status"}
    assert all(one.path.startswith("$.resources[0]") and one.suggestion for one in found)
    assert "serves words alone" in next(one.reason for one in found if ".text " in one.reason)


def test_strict_indexes_let_nothing_start(tmp_path: Path) -> None:
    blueprint = assemble(application(tmp_path, **FIELDS))
    environ = {"POSTGRES_DB_URI": "postgresql://nobody@127.0.0.1:1/none"}
    Application.connect(load_settings(tmp_path, environ), blueprint)
    with pytest.raises(ManifestError, match="no index begins with it"):
        Application.connect(load_settings(tmp_path, environ, strict_indexes=True), blueprint)


@pytest.mark.parametrize("strict", [False, True])
def test_check_warns_or_refuses(tmp_path: Path, strict: bool) -> None:
    application(tmp_path, **FIELDS)
    done = byodpp("--app", tmp_path, "check", BYODPP_STRICT_INDEXES=str(strict).lower())
    assert done.returncode == int(strict), done.stderr
    assert "Products.open" in done.stdout + done.stderr
