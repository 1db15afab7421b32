"""Revision files: written from a plan, read without being run.

``<app>/migrations/0002_add_price_expand.py`` is an Alembic revision that a reviewer reads from
top to bottom: a sentence and the SQL for each step. The numbers give the order; two files
that follow the same one are a merge gone wrong and are refused.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from byodpp.exceptions import MigrationError, Problem
from byodpp.migrations.plan import Plan, Step, StepKind, batches

__all__ = ["Revision", "new", "new_empty", "read_revisions", "revisions_folder", "unknown_revision"]

_FILE: Final = re.compile(r"\d{4,}_\w+\.py")
_KEYS: Final = ("revision", "down_revision", "kind", "destructive", "may_wait", "fingerprint")
_MAX_SLUG: Final = 40
_APPLY_FIRST: Final = (
    "Run `byodpp migrate apply` first, with --allow-destructive where it waits for that; or delete their"
    " files, unless they hold SQL of your own: the next revision will do what they would have done."
)
_BRING_BACK: Final = (
    "It is newer, or its file was deleted: bring the file back, as from version control. A database for"
    " trying out may go instead: delete .byodpp/ and start again."
)
#: What SQLAlchemy's text() would read as a parameter, or as an escaped one: a backslash before it stays.
_ESCAPED: Final = re.compile(r"\\(?=:\w*(?![:\w]))|(?<![:\w\\]):(?=\w+(?![:\w]))")
#: What a revision of the application's own begins with.
_OWN_SQL: Final = Step(
    description="SQL of your own goes here; the owner of the tables runs it, in one transaction",
    kind="expand",
    statements=("SELECT 1",),
    rank=0,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """What a revision file says about itself."""

    revision: str
    down_revision: str | None
    kind: StepKind
    destructive: bool  # loses data
    may_wait: bool  # the program works before it is applied
    fingerprint: str  # of the schema the plan leads to
    path: Path


def revisions_folder(app_dir: Path) -> Path:
    """Return where an application keeps its revisions."""
    return app_dir / "migrations"


def read_revisions(app_dir: Path) -> tuple[Revision, ...]:
    """Return the revisions of an application in their order.

    Raises:
        MigrationError: a file is not a revision, or the files are not one chain.
    """
    folder = revisions_folder(app_dir)
    found = [_read(path) for path in sorted(folder.glob("*.py")) if _FILE.fullmatch(path.name)]
    previous: str | None = None
    for revision in found:
        if revision.down_revision != previous:
            reason = f"follows {revision.down_revision}, but the revision before it is {previous}"
            raise MigrationError([Problem(str(revision.path), reason, "Number and chain the files anew.")])
        previous = revision.revision
    return tuple(found)


def _read(path: Path) -> Revision:
    values: dict[str, Any] = {}
    # What it says about itself stands above its first function; the SQL below may be megabytes.
    head = re.split(r"^def ", path.read_text(encoding="utf-8"), maxsplit=1, flags=re.MULTILINE)[0]
    try:
        for node in ast.parse(head).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                if node.targets[0].id in _KEYS:
                    values[node.targets[0].id] = ast.literal_eval(node.value)
        return Revision(path=path, **values)
    except (SyntaxError, ValueError, TypeError) as error:
        raise MigrationError([Problem(str(path), f"is not a revision: {error}")]) from error


def new(app_dir: Path, plan: Plan, message: str) -> list[Path]:
    """Write the revision files of a plan: one that expands, one that contracts, as needed.

    Hundreds of steps become several files, each small enough for one transaction.

    Args:
        app_dir: the application's folder.
        plan: made against a database that has every revision of the folder.
        message: what the change is for; it becomes the file's name and first line.

    Raises:
        MigrationError: the plan is empty, or its database lacks revisions of the folder.
    """
    if not plan:
        raise MigrationError(
            [
                Problem(
                    "",
                    "the database fits the manifest: there is nothing to migrate",
                    "SQL of your own (a view, a function) goes into a revision made with --empty.",
                )
            ]
        )
    newest = _newest(app_dir, plan)
    kinds: tuple[StepKind, ...] = ("expand", "contract")
    paths: list[Path] = []
    for kind in kinds:
        for steps in batches(plan.of_kind(kind)):
            paths.append(_write(app_dir, newest, kind, steps, plan.fingerprint, message))
            newest = paths[-1].stem
    return paths


def new_empty(app_dir: Path, plan: Plan, message: str) -> Path:
    """Write a revision that expands and does nothing yet, for SQL of the application's own.

    Args:
        app_dir: as for `new`.
        plan: as for `new`; what the manifest asks for comes first, so it must be empty.
        message: as for `new`.

    Raises:
        MigrationError: the plan is not empty, or its database lacks revisions of the folder.
    """
    newest = _newest(app_dir, plan)
    if plan:
        raise MigrationError(
            [Problem("", "the manifest asks for changes first", "Run `byodpp migrate new`, then `apply`.")]
        )
    return _write(app_dir, newest, "expand", (_OWN_SQL,), plan.fingerprint, message)


def _newest(app_dir: Path, plan: Plan) -> str | None:
    """Return the revision that a plan's revisions follow."""
    present = read_revisions(app_dir)
    newest = present[-1].revision if present else None
    if plan.revision == newest:
        return newest
    names = [one.revision for one in present]
    if plan.revision is not None and plan.revision not in names:
        raise MigrationError([unknown_revision(plan.revision)])
    waiting = names[names.index(plan.revision) + 1 :] if plan.revision else names
    raise MigrationError([Problem("", f"the database lacks {', '.join(waiting)}", _APPLY_FIRST)])


def unknown_revision(name: str) -> Problem:
    """Return the mistake of a folder that lacks a revision which a database has."""
    reason = f"the database is at revision {name}, which this application does not have"
    return Problem("migrations/", reason, _BRING_BACK)


def _write(
    app_dir: Path, newest: str | None, kind: StepKind, steps: Sequence[Step], fingerprint: str, message: str
) -> Path:
    """Write the revision that follows `newest`."""
    folder = revisions_folder(app_dir)
    folder.mkdir(parents=True, exist_ok=True)
    number = int(newest.partition("_")[0]) + 1 if newest else 1
    slug = re.sub(r"[^a-z0-9]+", "_", message.lower()).strip("_")[:_MAX_SLUG].strip("_") or "change"
    name = f"{number:04d}_{slug}_{kind}"
    path = folder / f"{name}.py"
    path.write_text(_text(name, newest, kind, steps, fingerprint, message), encoding="utf-8")
    return path


def _text(
    name: str, previous: str | None, kind: StepKind, steps: Sequence[Step], fingerprint: str, message: str
) -> str:
    destructive = any(step.destructive for step in steps)
    waits = kind == "contract" and all(step.may_wait for step in steps)
    title = " ".join(message.split()).replace("\\", "/").replace('"""', "'''").rstrip(".")
    effect = "loses data" if destructive else "loses nothing"
    lines = [
        "# ruff: noqa: E501",
        f'"""{title}.',
        "",
        f"A revision of kind {kind}; it {effect}.",
        '"""',
        "",
        "from alembic import op",
        "",
        f'revision = "{name}"',
        f'down_revision = "{previous}"' if previous else "down_revision = None",
        f'kind = "{kind}"',
        f"destructive = {destructive}",
        f"may_wait = {waits}",
        f'fingerprint = "{fingerprint}"',
        "",
        "",
        "def upgrade() -> None:",
    ]
    for step in steps:
        lines.append(
            f"    # {' '.join(step.description.split())}" + (" (loses data)" if step.destructive else "")
        )
        lines += _calls(step.statements)
    return "\n".join(lines) + "\n"


def _calls(statements: Iterable[str]) -> Iterable[str]:
    for statement in statements:
        quoted = _raw(_ESCAPED.sub(r"\\\g<0>", statement))
        yield f"    op.execute({quoted})"


def _raw(text: str) -> str:
    """Return a Python literal of the text that reads as SQL."""
    if '"""' in text or text.endswith(('"', "\\")):
        text += " "
    if '"""' in text:
        return repr(text)
    prefix = "r" if "\\" in text else ""
    return f'{prefix}"""{text}"""'
