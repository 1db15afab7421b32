"""The kept versions of a row as a page: newest first, each as the caller may see it.

In: the database as one caller may see it. Out: two texts of SQL, the versions as JSON and how
many there are. Today's rules hold for yesterday's rows: a version whose values would hide the
row is not shown, and no field is that is hidden now. Rejects nothing.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from byodpp.definitions import ResourceDefinition
from byodpp.statements.conditions import View
from byodpp.statements.history import kept_versions
from byodpp.statements.json import RowJson, row_columns, rows_text, select_columns
from byodpp.statements.parameters import bound

__all__ = ["versions_texts"]


def versions_texts(view: View, resource: ResourceDefinition) -> dict[str, sa.ColumnElement[Any]]:
    """Return `data` (a JSON array) and `total` for the row with parameter `id`.

    The page is told by the parameters `limit` and `offset`.
    """
    return {"data": rows_text(_page(view, resource)), "total": _total(view, resource)}


def _page(view: View, resource: ResourceDefinition) -> sa.Select[Any]:
    versions = kept_versions(view.tables, resource)
    moment = resource.fields["createdAt"]
    columns: dict[str, sa.ColumnElement[Any]] = {
        "number": versions.c._number,
        "operation": versions.c._operation,
        "at": moment.type.json_expression(versions.c._at, moment),
        "actorId": versions.c._actor,
        "requestId": versions.c._request,
        "row": RowJson(row_columns(view, resource, versions, None)),
    }
    page = select_columns(columns, versions).where(*_visible(view, resource, versions))
    return (
        page.order_by(versions.c._number.desc())
        .limit(bound(lambda sources: sources.named["limit"], sa.BigInteger(), "limit"))
        .offset(bound(lambda sources: sources.named["offset"], sa.BigInteger(), "offset"))
    )


def _total(view: View, resource: ResourceDefinition) -> sa.ColumnElement[Any]:
    versions = kept_versions(view.tables, resource)
    rows = sa.select(sa.func.count()).select_from(versions).where(*_visible(view, resource, versions))
    return rows.scalar_subquery()


def _visible(
    view: View, resource: ResourceDefinition, versions: sa.FromClause
) -> list[sa.ColumnElement[Any]]:
    """Return what makes a version one that the caller may see; a deleted one may be, too."""
    found = view.scope(resource, versions) if view.enforce_scope else []
    visibility = view.visibility(resource)
    if visibility is not None and visibility.rows is not None:
        found.append(view.trusted().condition(resource, versions, visibility.rows))
    return found
