"""Writes what comes from the code into the pages that repeat it, and tells when they are stale.

Comes in: the tables in the code. Goes out: the text between `<!-- generated: NAME -->` and
`<!-- end -->` in docs/, and the whole of deploy/postgres/roles.psql. Run with `--check` it writes
nothing and fails where a file differs.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that it runs as a program as well as with `-m`

from byodpp.addresses import OPERATION_ADDRESSES  # noqa: E402
from byodpp.definitions import OPERATIONS, Bounds  # noqa: E402
from byodpp.exceptions import error_classes  # noqa: E402
from byodpp.fields import FIELD_TYPES  # noqa: E402
from byodpp.grammar import manifest_reference  # noqa: E402
from byodpp.query import OPERATORS  # noqa: E402
from byodpp.settings import settings_reference  # noqa: E402
from byodpp.tables.roles import provisioning_sql  # noqa: E402
from scripts.command_line import command_reference  # noqa: E402
from scripts.fault_codes import DETAILS, WHEN  # noqa: E402

__all__ = ["PAGES", "render", "stale"]

_BLOCK: Final = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
#: What each bound means.
_BOUNDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "limit": "rows of a page when `limit` is not given",
        "max_limit": "largest `limit`",
        "max_include_depth": "relations in a row in one `include` or `sort` path",
        "max_includes": "relations included by one request",
        "max_include_rows": "included rows at most: the page's `limit` times those of the includes",
        "max_filter_terms": "comparisons of one filter",
        "max_filter_depth": "nesting of one filter",
        "max_sorts": "terms of one `sort`",
        "max_in_values": "values of one `in` or `nin`, or of what `has` asks of an item",
        "max_batch": "items of one batch",
        "max_offset": "largest `offset`",
        "max_answer_bytes": "bytes of the rows of one answer",
    }
)


def settings_table() -> str:
    """Return every setting as a Markdown table."""
    rows = []
    for one in settings_reference():
        variables = ", ".join(f"`{name}`" for name in one.variables) or "none"
        rows.append((f"`{one.name}`", variables, one.type, one.default, one.doc))
    return _table(("In config/*.yaml", "Variables", "Type", "Default", "Meaning"), rows)


def error_table() -> str:
    """Return every answer other than success, by status."""
    rows = []
    seen = set()
    for one in sorted(error_classes(), key=lambda found: found.status):
        if (one.status, one.code) not in seen:
            seen.add((one.status, one.code))
            message = (one.__doc__ or "").strip().splitlines()[0]
            rows.append((str(one.status), f"`{one.code}`", message, WHEN.get(one.code, "")))
    return _table(("Status", "`code`", "Message unless it says more", "When"), rows)


def detail_table() -> str:
    """Return every code of a detail."""
    return _table(("`code`", "Meaning"), ((f"`{code}`", text) for code, text in sorted(DETAILS.items())))


def operator_table() -> str:
    """Return which field type understands which operator."""
    return _table(
        ("Type", "Operators", "`sort`"),
        (
            (
                f"`{name}`",
                " ".join(f"`{one}`" for one in OPERATORS if one in kind.operators),
                "yes" if kind.sortable else "no",
            )
            for name, kind in FIELD_TYPES.items()
        ),
    )


def type_table() -> str:
    """Return every field type with its column, constraints and an example."""
    return _table(
        ("Type", "What it holds", "Its own keys"),
        (
            (
                f"`{name}`",
                (type(kind).__doc__ or "").strip().splitlines()[0].removeprefix(f"`{name}`: "),
                " ".join(f"`{key}`" for key in sorted(kind.constraint_keys)) or "none",
            )
            for name, kind in FIELD_TYPES.items()
        ),
    )


def bounds_table() -> str:
    """Return every bound of a resource with its default."""
    usual = Bounds()
    return _table(
        ("In `bounds`", "Default", "Bounds"),
        (
            (f"`{_camel(name)}`", f"{getattr(usual, name):,}", _BOUNDS.get(name, ""))
            for name in Bounds.__dataclass_fields__
        ),
    )


def operation_table() -> str:
    """Return method and address of the seven operations."""
    return _table(
        ("Operation", "Method", "Address"),
        (
            (name, method, f"`/api/v1/products{tail}`")
            for name, (method, tail) in ((name, OPERATION_ADDRESSES[name]) for name in OPERATIONS)
        ),
    )


#: Name of a block -> what writes it.
PAGES: Final[Mapping[str, Callable[[], str]]] = MappingProxyType(
    {
        "bounds": bounds_table,
        "commands": command_reference,
        "details": detail_table,
        "errors": error_table,
        "manifest": manifest_reference,
        "operations": operation_table,
        "operators": operator_table,
        "provisioning": lambda: f"```sql\n{provisioning_sql().strip()}\n```\n",
        "settings": settings_table,
        "types": type_table,
    }
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


def _table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [_row(headings), "|" + "---|" * len(headings)]
    return "\n".join([*lines, *(_row(row) for row in rows)]) + "\n"


def _row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


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
