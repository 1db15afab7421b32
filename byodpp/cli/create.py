"""`init`, `new resource`, `new logic`: files an integrator would otherwise type.

Comes in: names. Goes out: files, and one line per file on the terminal. Nothing that exists is
ever overwritten; what does not fit is refused before the first file is written.
"""

from __future__ import annotations

import json
import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from byodpp.cli.output import print_step
from byodpp.cli.place import Place, place_of
from byodpp.exceptions import ManifestError, Problem, StartError

if TYPE_CHECKING:
    from byodpp.definitions import ResourceDefinition
    from byodpp.registry import Registry

__all__ = ["init", "new_logic", "new_resource"]

_NAME = re.compile(r"[A-Z][A-Za-z0-9]{1,49}\Z")
#: Methods whose requests bring a body.
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
#: What a class without a table behind it returns to begin with, where it is no object.
_ANSWERS = {"list": "[]", "delete": "None", "batch": "[]"}


def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make, or an empty one.")],
) -> None:
    """Make a small, complete application in a new folder.

    It has two related resources, a logic class, demo data, and a first test.

    `byodpp init shop`, `cd shop`, `byodpp serve`
    """
    target = directory.expanduser().absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StartError(
            [Problem(str(target), "is not empty", "Name a new folder, or empty this one yourself.")]
        )
    words = {"__APP__": target.name, "__TITLE__": _title(target.name)}
    for path, content in _scaffold("application"):
        _write(target / path, _filled(content, words), shown=f"{directory}/{path}")
    _write(target / "resources.schema.json", _manifest_schema(), shown=f"{directory}/resources.schema.json")
    typer.echo(f"\nNext:\n  cd {_quoted(str(directory))}\n  byodpp serve")


def new_resource(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Plural noun in PascalCase, e.g. Warehouses.")],
) -> None:
    """Add a resource to resources.json; everything else in the file stays as it is.

    `byodpp new resource Warehouses`

    With `"include": ["resources/*.json"]` in the manifest, the resource gets a file of its own there.
    """
    place = place_of(context)
    place.application()
    if not _NAME.match(name):
        raise StartError([Problem(name, "is not a resource name", f"Use PascalCase, e.g. {_pascal(name)}.")])
    registry = _registry(place)
    if registry.find(name) is not None and registry.get(name).part is None:
        raise StartError([Problem(name, "exists already", f"See it with: byodpp routes {name}")])
    path, text = _with_resource(place, _new_resource(name))
    before = path.read_text(encoding="utf-8") if path.exists() else None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    try:
        _registry(place)
    except ManifestError:
        # What was there is worth more than what we add.
        if before is None:
            path.unlink()
        else:
            path.write_text(before, encoding="utf-8")
        raise
    print_step("changed" if before is not None else "made", _relative(path, place))
    typer.echo("\nNext:\n  edit its fields\n  byodpp migrate new\n  byodpp serve")


def new_logic(
    context: typer.Context,
    resource: Annotated[str, typer.Argument(metavar="RESOURCE", help="Name of the resource, e.g. Products.")],
    operation: Annotated[
        str, typer.Argument(metavar="OPERATION", help="One of the seven operations, or the key of an action.")
    ],
    version: Annotated[str, typer.Option("--api-version", help="API version.")] = "v1",
) -> None:
    """Write a logic class for an operation or an action, and a test for it.

    byodpp new logic Products create

    byodpp new logic Products feature:post
    """
    from byodpp.authorization import rules_of
    from byodpp.definitions import Kind

    place = place_of(context)
    registry = _registry(place)
    definition = _resource(registry, resource, version)
    is_action = _check_key(definition, operation)
    word = re.sub(r"[^A-Za-z0-9]+", "_", operation.removesuffix(":post"))
    folder = definition.segment.replace("-", "_")
    method = _method(definition, operation)
    public = any("public" in rule.roles for rule in rules_of(definition, operation))
    words = {
        "__RESOURCE__": definition.name,
        "__CLASS__": definition.name + _pascal(word),
        "__KEY__": operation,
        "__URL__": _url(definition, operation),
        "__EXAMPLE_URL__": re.sub(r"\{[^}]*\}", "1", _url(definition, operation)),
        "__METHOD__": method,
        "__BODY__": ", json={}" if method in _WITH_BODY else "",
        "__ANONYMOUS__": "served" if public else "refused",
        "__COMPARED__": "!=" if public else "==",
        "__ANSWER__": _ANSWERS.get(operation, '{"params": dict(self.request.params)}'),
        "__NAME__": f"{folder}_{word.lower()}",
        "__FILE__": f"logics/{version}/{folder}/{word.lower()}.py",
    }
    logic = place.app_dir / words["__FILE__"]
    test = place.app_dir / "tests" / f"test_{words['__NAME__']}.py"
    for path in (logic, test):
        if path.exists():
            raise StartError(
                [Problem(_relative(path, place), "exists already", "Edit it, or remove it first.")]
            )
    templates = dict(_scaffold("logic"))
    if is_action:
        template = "action.py" if method in _WITH_BODY else "question.py"
    else:
        template = "answer.py" if definition.kind is Kind.LOGIC else "operation.py"
    _write(logic, _filled(templates[template], words), _relative(logic, place))
    _write(test, _filled(templates["test.py"], words), _relative(test, place))
    typer.echo("\nNext:\n  byodpp logics\n  pytest " + _relative(test, place))


# --- the manifest -----------------------------------------------------------------------


def _registry(place: Place) -> Registry:
    from byodpp.manifest import load_manifest

    return load_manifest(place.application())


def _with_resource(place: Place, resource: dict[str, Any]) -> tuple[Path, str]:
    """Return the file that takes the resource, and its new text."""
    from byodpp.cli.manifest_text import insert_resource

    text = place.manifest.read_text(encoding="utf-8")
    pattern = _included_folder(json.loads(text))
    if pattern is not None:
        path = place.app_dir / pattern.replace("*", _kebab(resource["name"]))
        return path, json.dumps({"resources": [resource]}, indent=2, ensure_ascii=False) + "\n"
    try:
        return place.manifest, insert_resource(text, resource)
    except ValueError as error:
        raise StartError([Problem(str(place.manifest), str(error), 'Add `"resources": []` to it.')]) from None


def _included_folder(manifest: Any) -> str | None:
    """Return the first include that is a folder's `*.json`, None when there is none."""
    for part in [manifest, *(manifest if isinstance(manifest, list) else manifest.get("services", []))]:
        include = part.get("include", []) if isinstance(part, dict) else []
        for pattern in [include] if isinstance(include, str) else include:
            if isinstance(pattern, str) and pattern.endswith("/*.json") and pattern.count("*") == 1:
                return pattern
    return None


def _new_resource(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "database",
        "fields": {
            "name": {"type": "string", "minLength": 1, "maxLength": 255, "required": True, "index": True},
            "description": {"type": "text"},
        },
        "routes": {"crud": ["list", "create", "read", "update", "patch", "delete", "batch"]},
        "access": {"read": ["Admin", "Manager", "Viewer"], "write": ["Admin", "Manager"]},
    }


def _manifest_schema() -> str:
    from byodpp.grammar import manifest_schema

    return json.dumps(manifest_schema(), indent=2, ensure_ascii=False) + "\n"


# --- the resource of a logic class ------------------------------------------------------


def _resource(registry: Registry, name: str, version: str) -> ResourceDefinition:
    from byodpp.suggestion import nearest

    found = registry.resources.get((version, name))
    if found is None:
        names = sorted(known for of_version, known in registry.resources if of_version == version)
        raise StartError([Problem(name, f"there is no such resource in {version}", nearest(name, names))])
    return found


def _check_key(resource: ResourceDefinition, key: str) -> bool:
    """Return whether the key is an action's; refuse one that the resource does not have."""
    from byodpp.suggestion import nearest

    actions = [action.key for action in resource.actions]
    if key in actions:
        return True
    if key not in resource.operations:
        advice = nearest(key, [*resource.operations, *actions])
        raise StartError([Problem(f"{resource.name} {key}", "has no route in resources.json", advice)])
    return False


def _url(resource: ResourceDefinition, key: str) -> str:
    for action in resource.actions:
        if action.key == key:
            return action.url
    usual = resource.base_url + ("" if key in ("list", "create") else "/batch" if key == "batch" else "/{id}")
    return resource.crud_routes.get(key, usual)


def _method(resource: ResourceDefinition, key: str) -> str:
    for action in resource.actions:
        if action.key == key:
            return action.method
    return {"list": "GET", "read": "GET", "update": "PUT", "patch": "PATCH", "delete": "DELETE"}.get(
        key, "POST"
    )


# --- files ------------------------------------------------------------------------------


def _scaffold(name: str) -> list[tuple[str, str]]:
    """Return relative path and text of every file of a scaffold.

    Files lie in the package under names no tool takes for its own: `dot.gitignore` is
    `.gitignore`, and `.txt` behind the real ending is dropped.
    """

    def walk(folder: Traversable, prefix: str) -> list[tuple[str, str]]:
        found = []
        for entry in sorted(folder.iterdir(), key=lambda one: one.name):
            if entry.is_dir():
                found += walk(entry, f"{prefix}{entry.name}/")
            else:
                real = entry.name.removesuffix(".txt").removeprefix("dot")
                found.append((prefix + real, entry.read_text(encoding="utf-8")))
        return found

    return walk(files("byodpp") / "scaffolds" / name, "")


def _filled(text: str, words: dict[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(word, value)
    return text


def _write(path: Path, text: str, shown: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print_step("made", shown)


def _relative(path: Path, place: Place) -> str:
    return path.relative_to(place.app_dir).as_posix()


def _quoted(word: str) -> str:
    import shlex

    return shlex.quote(word)


# --- words ------------------------------------------------------------------------------


def _pascal(word: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", word))


def _kebab(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()


def _title(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", " ", name).strip().title() or "Application"
