"""Finding the classes that an application drops into `logics/` and `schemas/`.

Files are imported by path under a private package, so that an application's folder names never
collide with installed packages, and relative imports between its files work. Importing happens
once, at start; every failure is collected, so that one broken file does not hide the next.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
import re
import sys
import traceback
import types
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.abc import SourceLoader
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any, Generic, TypeVar

from byodpp.exceptions import Problem
from byodpp.registry import Registry
from byodpp.suggestion import nearest

__all__ = ["Found", "find_classes", "unknown_resource"]

T = TypeVar("T")

_VERSION = re.compile(r"v[1-9][0-9]*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found(Generic[T]):
    """A class that an application brings."""

    cls: type[T]
    place: str  # `logics/v1/products/feature.py:12 ProductsFeature`, for messages
    version: str | None  # the folder's, when it lies below one named like a version


class _Loader(SourceFileLoader):
    """Keeps the code that it runs, so that nobody has to compile it once more."""

    code: types.CodeType | None = None

    def get_code(self, fullname: str) -> types.CodeType | None:
        self.code = super().get_code(fullname)
        return self.code


def find_classes(
    app_dir: Path, folder: str, parents: tuple[type[T], ...]
) -> tuple[list[Found[T]], list[Problem]]:
    """Import every module below `app_dir/folder` and return the classes derived from `parents`.

    Args:
        app_dir: the application's folder.
        folder: `logics` or `schemas`; a missing folder holds nothing.
        parents: classes whose strict descendants are wanted; abstract ones are passed over, and so
            is a class whose name begins with an underscore. One that says what it serves and lacks
            the parent or a method is a mistake.

    Returns:
        The classes in the order of their files, and what went wrong.
    """
    root = app_dir / folder
    found: list[Found[T]] = []
    problems: list[Problem] = []
    if not root.is_dir():
        return found, problems
    package = _private_package(root)
    for path in sorted(root.rglob("*.py")):
        if path.name == "__init__.py" or any(part.startswith((".", "__pycache__")) for part in path.parts):
            continue
        relative = path.relative_to(root)
        module = _import(package, relative, path, f"{folder}/{relative.as_posix()}", problems)
        if module is None:
            continue
        lines = _lines_of_classes(module)
        for cls in _own_classes(module):
            place = f"{folder}/{relative.as_posix()}:{lines.get(cls.__qualname__, 1)} {cls.__qualname__}"
            reason, advice = _unfit(cls, parents)
            if reason:
                problems.append(Problem(place, reason, advice))
            elif _descends(cls, parents) and not inspect.isabstract(cls):
                version = next((part for part in relative.parts[:-1] if _VERSION.match(part)), None)
                found.append(Found(cls=cls, place=place, version=version))
    return found, problems


def unknown_resource(registry: Registry, name: str, version: str, place: str) -> Problem:
    """Return the mistake of a class for a resource that its version does not declare.

    Either the name was mistyped, or it is another version's, or the class was left over when the
    resource went.
    """
    elsewhere = sorted(found for found, known in registry.resources if known == name)
    if elsewhere:
        advice = f"It is in {' and '.join(elsewhere)}: move the file there, or declare {name} in {version}."
    else:
        known = sorted(one.name for one in registry if one.version == version)
        left_over = f"Delete the class, if it is left over, or declare {name} in resources.json."
        advice = nearest(name, known, list_up_to=0) or left_over
    return Problem(place, f"there is no resource {name!r} in {version}", advice)


def _private_package(root: Path) -> str:
    """Register a package for the folder under a name that nothing else has; forget a former load."""
    name = f"_byodpp_{root.name}_{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:12]}"
    for known in [known for known in sys.modules if known == name or known.startswith(name + ".")]:
        del sys.modules[known]
    _register_package(name, root)
    return name


def _register_package(name: str, folder: Path) -> None:
    package = types.ModuleType(name)
    package.__path__ = [str(folder)]
    sys.modules[name] = package


def _import(
    package: str, relative: Path, path: Path, shown: str, problems: list[Problem]
) -> types.ModuleType | None:
    parts = [_identifier(part) for part in relative.with_suffix("").parts]
    folder = path.parents[len(parts) - 1]
    for depth, original in enumerate(relative.parts[:-1], start=1):
        folder = folder / original
        parent = ".".join([package, *parts[:depth]])
        if parent not in sys.modules:
            _register_package(parent, folder)
    name = ".".join([package, *parts])
    if name in sys.modules:  # a sibling imported it already
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path, loader=_Loader(name, os.fspath(path)))
    if spec is None or spec.loader is None:
        problems.append(Problem(shown, "the file cannot be loaded as a Python module"))
        return None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    # Whatever an application's file raises is its mistake, told with its line; Ctrl-C is nobody's.
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        problems.append(Problem(f"{shown}:{_line_of(error, path)}", f"{type(error).__name__}: {error}"))
        return None
    return module


def _identifier(part: str) -> str:
    return re.sub(r"\W", "_", part)


def _line_of(error: BaseException, path: Path) -> int:
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return error.lineno
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
    ]
    return lines[-1] or 1 if lines else 1


def _own_classes(module: types.ModuleType) -> Iterator[type[Any]]:
    for name, value in vars(module).items():
        if inspect.isclass(value) and value.__module__ == module.__name__ and not name.startswith("_"):
            yield value


def _lines_of_classes(module: types.ModuleType) -> dict[str, int]:
    """Return where the classes of a module begin; those that a function has made are not among them.

    By the code that was run: `inspect` would parse the whole file anew for each class.
    """
    loader = module.__spec__ and module.__spec__.loader
    if isinstance(loader, _Loader):
        code = loader.code
    else:  # a sibling imported it
        code = loader.get_code(module.__name__) if isinstance(loader, SourceLoader) else None
    found = code.co_consts if code is not None else ()
    return {one.co_qualname: one.co_firstlineno for one in found if isinstance(one, types.CodeType)}


def _descends(cls: type[Any], parents: tuple[type[Any], ...]) -> bool:
    """Return whether a class is derived from one of several: `issubclass` asks all their descendants, too."""
    return not set(parents).isdisjoint(cls.__mro__)


def _unfit(cls: type[Any], parents: tuple[type[Any], ...]) -> tuple[str, str]:
    """Return why a class that means to serve something cannot, and what to do; empty texts for no reason."""
    own = vars(cls).keys()
    serves = "resource" in own and bool({"operation", "action"} & own)
    if not _descends(cls, parents):
        if not serves:
            return "", ""  # it only helps others
        names = " or ".join(parent.__name__ for parent in parents)
        return f"is not derived from {names}", f"Write class {cls.__name__}({parents[0].__name__}):"
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing and (serves or "events" in own):
        advice = f"Write `async def {missing[0]}`, or begin its name with _ if others extend it."
        return f"has no {', '.join(missing)}", advice
    return "", ""
