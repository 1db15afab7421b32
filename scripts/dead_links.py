"""Checks that links between the Markdown files of this repository lead somewhere.

Comes in: every `.md` file. Goes out: one line per link whose file or heading does not exist.
Links to other sites are left alone: what they hold is not ours to promise.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

__all__ = ["anchors", "dead_links"]

ROOT = Path(__file__).resolve().parent.parent
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(\s*<?([^)>\s]+)>?[^)]*\)|!\[[^\]]*\]\(\s*([^)\s]+)[^)]*\)")
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
_FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")


def dead_links(root: Path = ROOT) -> list[str]:
    """Return one sentence per link that leads nowhere."""
    return [fault for path in _documents(root) for fault in _faults(root, path)]


def anchors(text: str) -> set[str]:
    """Return the anchors that the headings of a Markdown text get, as GitHub makes them."""
    found: dict[str, int] = {}
    result = set()
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).strip().replace(" ", "-")
        count = found.get(slug, 0)
        found[slug] = count + 1
        result.add(f"{slug}-{count}" if count else slug)
    return result


def _documents(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        # Folders that begin with a dot hold environments, caches, and databases, which come and go.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder) / name for name in sorted(files) if name.endswith(".md"))


def _faults(root: Path, path: Path) -> Iterator[str]:
    text = _CODE.sub("", _FENCE.sub("", path.read_text(encoding="utf-8")))
    for match in _LINK.finditer(text):
        target = unquote(match.group(1) or match.group(2))
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        file, _, anchor = target.partition("#")
        place = (root / file.lstrip("/") if file.startswith("/") else path.parent / file) if file else path
        shown = path.relative_to(root).as_posix()
        if not place.exists():
            yield f"{shown}: {target} does not exist"
        elif anchor and place.suffix == ".md" and anchor not in anchors(place.read_text(encoding="utf-8")):
            yield f"{shown}: {target} names no heading"


if __name__ == "__main__":
    found = dead_links()
    print("\n".join(found) or "links: all lead somewhere")
    sys.exit(bool(found))
