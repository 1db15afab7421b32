"""Checks that imports inside `byodpp` go one way only: up the ladder of docs/architecture.md.

Comes in: the first fenced block under the heading `## The ladder`, a module per line, and the
source files. Goes out: one line per import that goes down, or per module that has no rung.
Imports under `if TYPE_CHECKING:` are promises to the type checker and not counted.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["broken_rungs", "read_ladder"]

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "byodpp"
#: The façade and the entry point of `python -m byodpp` stand beside the ladder.
BESIDE = frozenset({"__init__", "__main__"})


def read_ladder(document: Path = ROOT / "docs" / "architecture.md") -> list[str]:
    """Return the module names in order, those that import nothing first."""
    _, heading, rest = document.read_text(encoding="utf-8").partition("\n## The ladder\n")
    if not heading:
        raise SystemExit(f"{document}: the heading `## The ladder` is missing")
    block = rest.split("```")[1]
    lines = [line.split() for line in block.splitlines()[1:]]
    return [words[0].rstrip("/") for words in lines if words]


def broken_rungs(root: Path = ROOT, ladder: Sequence[str] | None = None) -> list[str]:
    """Return what stands against the ladder, one sentence per fault."""
    rungs = {name: position for position, name in enumerate(ladder or read_ladder())}
    faults = []
    present = set()
    for path in sorted((root / PACKAGE).rglob("*.py")):
        relative = path.relative_to(root / PACKAGE)
        stage = relative.parts[0].removesuffix(".py")
        if stage in BESIDE or stage == "scaffolds":
            continue
        present.add(stage)
        if stage not in rungs:
            faults.append(f"{PACKAGE}/{relative.as_posix()}: `{stage}` has no rung in the ladder")
            continue
        for line, target in _imports(path):
            if target != stage and rungs.get(target, len(rungs)) >= rungs[stage]:
                faults.append(
                    f"{PACKAGE}/{relative.as_posix()}:{line}: `{stage}` imports `{target}` from below"
                )
    return faults


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and stage of every import from the package."""
    for node in _executed(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == PACKAGE and len(parts) > 1:
                    yield node.lineno, parts[1]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            parts = node.module.split(".")
            if parts[0] != PACKAGE:
                continue
            if len(parts) > 1:
                yield node.lineno, parts[1]
            else:
                yield from ((node.lineno, alias.name) for alias in node.names if alias.name != "__version__")


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """Yield every node but those that only a type checker sees."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        yield child
        yield from _executed(child)


if __name__ == "__main__":
    found = broken_rungs()
    print("\n".join(found) or "import ladder: every import goes up")
    sys.exit(bool(found))
