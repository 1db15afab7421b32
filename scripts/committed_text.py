"""Checks what no committed file may hold, and that pinned requirements are complete.

Comes in: the files git tracks or would track. Goes out: one line per finding: a path of
somebody's machine, the address of a package registry, or a requirement without its hash.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["findings"]

ROOT = Path(__file__).resolve().parent.parent
#: Pieces are joined here so that this file does not hold what it looks for.
_REGISTRIES = "|".join(
    re.escape(".".join(parts))
    for parts in (
        ("pypi", "org"),
        ("files", "python" + "hosted", "org"),
        ("registry", "npmjs", "org"),
        ("registry", "yarnpkg", "com"),
    )
)
_FORBIDDEN = (
    (re.compile(_REGISTRIES), "names a package registry's host"),
    (re.compile(r"(?<![\w.~-])/(?:home|Users)/(?!\.|<)[\w-]+/"), "names somebody's home folder"),
)
_PINNED = re.compile(r"^[a-z0-9][\w.-]*(?:\[[a-z0-9,-]+\])?==\S+(?: ; [^\\]+)? \\$")


def findings(root: Path = ROOT) -> list[str]:
    """Return one sentence per finding."""
    return [fault for path in _tracked(root) for fault in (*_texts(root, path), *_unpinned(root, path))]


def _tracked(root: Path) -> Iterator[Path]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if listed.returncode:  # an unpacked archive has no history to ask
        return
    yield from (root / name for name in listed.stdout.split("\0") if name and (root / name).is_file())


def _texts(root: Path, path: Path) -> Iterator[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return
    for number, line in enumerate(lines, start=1):
        for pattern, reason in _FORBIDDEN:
            if pattern.search(line):
                yield f"{path.relative_to(root).as_posix()}:{number}: {reason}"


def _unpinned(root: Path, path: Path) -> Iterator[str]:
    if path.parent.name != "requirements" or path.suffix != ".txt":
        return
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line and not line.startswith(("#", "    --hash=sha256:")) and not _PINNED.match(line):
            yield f"{path.relative_to(root).as_posix()}:{number}: not pinned with a hash"


if __name__ == "__main__":
    found = findings()
    print("\n".join(found) or "committed text: nothing that should not be there")
    sys.exit(bool(found))
