"""Reading the pages of docs/: their blocks, the requests they show, and what is to come back.

A page is its own script. What a reader sees is what is run:

- an `http` block with a request is sent, the next one with `HTTP/1.1 …` is what must come back,
  its JSON as a part of the real one, `…` standing for anything;
- a `console` block is run line by line, what follows a command is what it must print;
- a comment says what is done with the block or table after it: `file: PATH` (write it),
  `add to resources.json` (a resource), `queries: ADDRESS as ROLE of TENANT` (a table of queries
  and the names of the rows they find), `stop serve`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "Block", "Exchange", "blocks", "difference", "exchanges", "matches", "pages", "tables"]

ROOT = Path(__file__).resolve().parent.parent
_BLOCK = re.compile(
    r"^(?:<!-- (?P<note>[^\n]*?) -->\n\n?)?(?:^```(?P<kind>[\w-]*)\n(?P<text>.*?)^```$)"
    r"|^<!-- (?P<alone>[^\n]*?) -->$",
    re.MULTILINE | re.DOTALL,
)
_TABLE = re.compile(r"^<!-- queries: (\S+) as (\w+) of (\w+) -->\n\n((?:\|[^\n]*\n)+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block, or a comment that stands alone (kind `note`)."""

    kind: str
    text: str
    note: str = ""
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request of a page and what it says comes back."""

    method: str
    path: str
    headers: dict[str, str]
    body: str
    status: int
    answer_headers: dict[str, str]
    answer: str
    line: int


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        if match["alone"] is not None:
            yield Block(kind="note", text="", note=match["alone"], line=line)
        else:
            yield Block(kind=match["kind"], text=match["text"], note=match["note"] or "", line=line)


def exchanges(page: Path) -> Iterator[Exchange]:
    """Yield the requests of a page with their answers."""
    found = [block for block in blocks(page) if block.kind == "http"]
    assert len(found) % 2 == 0, f"{page.name}: a request without an answer"
    for asked, told in zip(found[::2], found[1::2], strict=True):
        first, headers, body = _message(asked.text)
        method, path = first.split(" ", 1)
        status, answer_headers, answer = _message(told.text)
        assert status.startswith("HTTP/1.1 "), f"{page.name}:{told.line}: is no answer"
        yield Exchange(
            method=method,
            path=path,
            headers=headers,
            body=body,
            status=int(status.split(" ")[1]),
            answer_headers=answer_headers,
            answer=answer,
            line=asked.line,
        )


def tables(page: Path) -> Iterator[tuple[str, str, str, list[tuple[str, str]]]]:
    """Yield address, role, tenant, and the rows (query, what it finds) of each table of queries."""
    for address, role, tenant, table in _TABLE.findall(page.read_text(encoding="utf-8")):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
        yield address, role, tenant, [(cells[0].strip("`"), cells[1].strip("`")) for cells in rows]


def _message(text: str) -> tuple[str, dict[str, str], str]:
    head, _, body = text.partition("\n\n")
    first, *lines = head.strip().splitlines()
    headers = dict(line.split(": ", 1) for line in lines)
    return first, headers, body.strip()


def matches(expected: str, actual: str) -> bool:
    """Compare printed text, line ends forgiven; `…` stands for anything."""
    pattern = ".*?".join(re.escape(part) for part in _tidy(expected).split("…"))
    return re.fullmatch(pattern, _tidy(actual), re.DOTALL) is not None


def _tidy(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def difference(expected: Any, actual: Any, path: str = "$") -> str:
    """Return where the actual JSON lacks something of the expected; empty when it does not."""
    if expected == "…":
        return ""
    if isinstance(expected, dict) and isinstance(actual, dict):
        for name, value in expected.items():
            if name not in actual:
                return f"{path}.{name} is missing in {actual}"
            if found := difference(value, actual[name], f"{path}.{name}"):
                return found
        return ""
    if isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            return f"{path} has {len(actual)} items, not {len(expected)}: {actual}"
        parts = (
            difference(one, other, f"{path}[{index}]")
            for index, (one, other) in enumerate(zip(expected, actual, strict=True))
        )
        return next(filter(None, parts), "")
    if isinstance(expected, str) and isinstance(actual, str) and "…" in expected:
        return "" if matches(expected, actual) else f"{path} is {actual!r}, not {expected!r}"
    return "" if expected == actual else f"{path} is {actual!r}, not {expected!r}"
