"""Which resources have files: where rows are created one by one, and where they are listed.

In: a resource and the map of logic classes. Out: whether it can be imported, or exported. An import is not
offered where a creation tells what is told once, as a key: a file's rows are answered by numbers. An export
is not offered where a logic class serves the list: what it hides, a file must not show. An action that
the application declares at one of these addresses comes first. Rejects nothing.
"""

from __future__ import annotations

from byodpp.definitions import Kind, ResourceDefinition
from byodpp.logics import LogicMap

__all__ = ["export_address", "exports", "import_address", "imports", "tells_once"]


def imports(resource: ResourceDefinition, logics: LogicMap) -> bool:
    """Tell whether files of rows can be imported."""
    made = resource.routed and resource.kind is Kind.DATABASE and "create" in resource.operations
    untold = tells_once(resource, logics)
    return made and not untold and not _is_declared(resource, import_address(resource))


def tells_once(resource: ResourceDefinition, logics: LogicMap) -> bool:
    """Tell whether a creation tells what nobody can be told later."""
    logic = logics.get(resource, "create")
    return logic is not None and logic.tells_once


def exports(resource: ResourceDefinition, logics: LogicMap) -> bool:
    """Tell whether rows can be exported."""
    listed = resource.routed and resource.kind is not Kind.LOGIC and "list" in resource.operations
    own = logics.get(resource, "list") is not None
    return listed and not own and not _is_declared(resource, export_address(resource))


def import_address(resource: ResourceDefinition) -> str:
    """Return where files are sent to."""
    return f"{resource.crud_routes.get('create', resource.base_url)}/import"


def export_address(resource: ResourceDefinition) -> str:
    """Return where files are had from."""
    return f"{resource.crud_routes.get('list', resource.base_url)}/export"


def _is_declared(resource: ResourceDefinition, address: str) -> bool:
    return any(action.url == address for action in resource.actions)
