"""A procedure from its beginning to its end: begun or taken up, its steps taken, each of them told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from byodpp.tenant_life.procedures import Procedures, Step

__all__ = ["Told", "nobody_told", "run"]

#: What may be said anew of a procedure that is taken up; else it is another one.
_FREE: Final[Mapping[str, frozenset[str]]] = {
    "onboard": frozenset({"region", "firstName", "lastName", "phone"}),
    "suspend": frozenset({"reason"}),
}
#: Steps before which one that has stopped gives its place to one with other words: later ones would be mixed.
_REPLACED_BEFORE: Final[Mapping[str, str]] = {"onboard": "administrator", "invite": "invitation"}

#: Told of every step: its name, and whether it was taken just now.
Told = Callable[[str, bool], object]


def nobody_told(step: str, taken: bool) -> None:
    """Tell nobody."""


async def run(
    procedures: Procedures, kind: str, slug: str, given: Mapping[str, Any], steps: Sequence[Step], told: Told
) -> Mapping[str, Any]:
    """Begin a procedure, or take it up, and go through its steps.

    Args:
        procedures: keep what is done.
        kind: of procedure.
        slug: of the tenant.
        given: what was asked for, with the id of the tenant as `tenant` where it is there.
        steps: all of them; those that are done are passed over.
        told: called after each step.

    Returns:
        Results by step.

    Raises:
        ApiError, MigrationError: as a step refuses, or because something else is under way.
    """
    procedure = await procedures.begin(
        kind, slug, given, free=_FREE.get(kind, ()), replaced_before=_REPLACED_BEFORE.get(kind, "")
    )
    results: dict[str, Any] = {}
    for step in steps:
        results[step.name], taken = await procedures.take(procedure, step, results)
        told(step.name, taken)
    await procedures.finish(procedure)
    return results
