"""What a plan is: the steps from the database as it is to the database as the manifest says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["Plan", "Step", "StepKind", "batches"]

#: Steps that one transaction takes: PostgreSQL's table of locks is finite (64 for each connection).
MAX_STEPS: Final = 200

StepKind = Literal["expand", "contract"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One change, in words and in SQL."""

    description: str
    kind: StepKind  # expand: a program that does not know the change goes on working
    statements: tuple[str, ...]
    rank: int  # order among the steps of its kind
    destructive: bool = False  # loses data
    may_wait: bool = True  # the program that asked for it works without it (contract only)
    table: str = ""

    @property
    def sql(self) -> str:
        """The statements as one script."""
        return ";\n".join(self.statements) + ";"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The steps in the order in which they run: expands, then contracts."""

    steps: tuple[Step, ...]
    fingerprint: str  # of the schema that the steps lead to
    revision: str | None = None  # newest revision that the database has; None is a fresh one

    @property
    def destructive(self) -> bool:
        """Whether some step loses data."""
        return any(step.destructive for step in self.steps)

    def of_kind(self, kind: StepKind) -> tuple[Step, ...]:
        """Return the steps of one kind."""
        return tuple(step for step in self.steps if step.kind == kind)

    @property
    def sql(self) -> str:
        """The whole as one script."""
        return "\n".join(step.sql for step in self.steps)

    def __bool__(self) -> bool:
        return bool(self.steps)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)


def batches(steps: Sequence[Step]) -> Iterator[tuple[Step, ...]]:
    """Yield the steps in runs that fit into one transaction each.

    A table is of no use to the application before its last step, which gives the rights.
    """
    for start in range(0, len(steps), MAX_STEPS):
        yield tuple(steps[start : start + MAX_STEPS])
