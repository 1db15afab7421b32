"""Writes what comes from the code into the files that repeat it, and tells when they are stale.

Comes in: the tables in the code. Goes out: the text between `<!-- generated: NAME -->` and
`<!-- end -->` in docs/, and the whole of deploy/postgres/roles.psql. Run with `--check` it writes
nothing and fails where a file differs.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from byodpp.exceptions import error_classes
from byodpp.grammar import manifest_reference
from byodpp.roles import provisioning_sql
from byodpp.settings import settings_reference

__all__ = ["PAGES", "error_table", "render", "settings_table", "stale"]

ROOT: Final = Path(__file__).resolve().parent.parent
_BLOCK: Final = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def settings_table() -> str:
    """Return every setting as a Markdown table."""
    rows = ["| In config/*.yaml | Variables | Type | Default | Meaning |", "|---|---|---|---|---|"]
    for one in settings_reference():
        variables = ", ".join(f"`{name}`" for name in one.variables) or "none"
        rows.append(f"| `{one.name}` | {variables} | {one.type} | {one.default} | {_cell(one.doc)} |")
    return "\n".join(rows) + "\n"


def error_table() -> str:
    """Return every answer other than success as a Markdown table, by status."""
    rows = ["| Status | `code` | Meaning |", "|---|---|---|"]
    seen = set()
    for one in sorted(error_classes(), key=lambda found: found.status):
        if (one.status, one.code) not in seen:
            seen.add((one.status, one.code))
            meaning = (one.__doc__ or "").strip().splitlines()[0]
            rows.append(f"| {one.status} | `{one.code}` | {_cell(meaning)} |")
    return "\n".join(rows) + "\n"


#: Name of a block -> what writes it.
PAGES: Final[Mapping[str, Callable[[], str]]] = MappingProxyType(
    {"settings": settings_table, "errors": error_table, "manifest": manifest_reference}
)


def render(text: str) -> str:
    """Return a page with its generated blocks as the code has them now."""
    return _BLOCK.sub(lambda match: f"{match[1]}\n{PAGES[match[2]]().strip()}\n\n{match[3]}", text)


def stale(root: Path = ROOT) -> Iterator[tuple[Path, str]]:
    """Yield each file that differs from the code, with the text it should have."""
    for path in sorted((root / "docs").rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        if (fresh := render(text)) != text:
            yield path, fresh
    roles = root / "deploy" / "postgres" / "roles.psql"
    if not roles.exists() or roles.read_text(encoding="utf-8") != provisioning_sql():
        yield roles, provisioning_sql()


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    found = list(stale())
    for page, fresh_text in found:
        if "--check" not in sys.argv:
            page.write_text(fresh_text, encoding="utf-8")
        state = "is stale: run `make docs`" if "--check" in sys.argv else "written"
        print(f"{page.relative_to(ROOT).as_posix()}: {state}")
    if not found:
        print("generated pages: all fresh")
    sys.exit(bool(found) and "--check" in sys.argv)
