"""Settings from where they may be said.

In: the environment variables, ``config/<environment>.yaml``, ``config/base.yaml`` and the
overrides of the command line. Out: `Settings`. May reject: `load_settings`, with every
mistake at once (SettingsError). Nothing else in the package reads an environment variable.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from byodpp.exceptions import Problem, SettingsError
from byodpp.settings.consistency import contradictions
from byodpp.settings.reading import PREFIX, RELAXED, Settings, variables_of
from byodpp.settings.types import Declarations, convert, declarations
from byodpp.settings.yaml_files import yaml_mapping
from byodpp.suggestion import nearest

__all__ = ["load_settings"]

_Where = tuple[str, Any]  # where a value was said, and the raw value


def load_settings(app_dir: Path, environ: Mapping[str, str], **overrides: Any) -> Settings:
    """Read all settings.

    Overrides win over variables, those over the environment's YAML, that over base.yaml, and that over
    the defaults, of which dev and test have some of their own (`Setting.relaxed`).

    Args:
        app_dir: folder of the application; it need not hold a config folder.
        environ: usually os.environ. An empty value means "not set".
        overrides: values of the command line; None means "not given".

    Raises:
        SettingsError: with every unknown name, wrong type and value out of bounds.
    """
    app_dir = Path(app_dir).absolute()
    declared = declarations(Settings)
    problems: list[Problem] = []
    stronger = _from_environ(environ, declared, problems)
    stronger |= {name: (f"override {name}", value) for name, value in overrides.items() if value is not None}
    environment = _environment(stronger, declared, problems)
    given = _relaxed(environment, declared)
    for file in ("base", environment):
        given |= _from_yaml(app_dir / "config" / f"{file}.yaml", declared, problems)
    given |= stronger
    values = _converted(given, declared, problems)
    settings = None
    if not problems:
        settings = Settings(**values | {"app_dir": app_dir, "environment": environment})
        problems += contradictions(settings)
    if settings is None or problems:
        raise SettingsError(sorted(set(problems)))
    return settings


def _from_environ(
    environ: Mapping[str, str], declared: Declarations, problems: list[Problem]
) -> dict[str, _Where]:
    known: set[str] = set()
    found: dict[str, _Where] = {}
    for name, (_, setting) in declared.items():
        known.update(variables := variables_of(name, setting))
        said = [one for one in variables if environ.get(one, "").strip()]
        if said:
            found[name] = (said[0], environ[said[0]].strip())
    for name in sorted(environ):
        # Other programs may own variables with our prefix; only what looks like a slip is refused.
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.85)
            problems += [Problem(name, "no such setting", f"Did you mean {one!r}?") for one in near]
    return found


def _environment(given: Mapping[str, _Where], declared: Declarations, problems: list[Problem]) -> str:
    """Find which YAML file counts, before the files are read."""
    source, raw = given.get("environment", ("default", "dev"))
    try:
        return str(convert(raw, *declared["environment"]))
    except ValueError as error:
        # Base and dev are still read, so that their mistakes are in the same report.
        problems.append(Problem(source, f"{error.args[0]}, not {raw!r}", *error.args[1:]))
        return "dev"


def _relaxed(environment: str, declared: Declarations) -> dict[str, _Where]:
    """Give the defaults that hold where one person tries things out, or tests run."""
    if environment not in RELAXED:
        return {}
    return {
        name: ("default", setting.relaxed)
        for name, (_, setting) in declared.items()
        if setting.relaxed is not None
    }


def _from_yaml(path: Path, declared: Declarations, problems: list[Problem]) -> dict[str, _Where]:
    # The environment decides which file is read, so no file can decide it.
    names = declared.keys() - {"app_dir", "environment"}
    content = yaml_mapping(path, problems)
    for key in content.keys() - names:
        problems.append(
            Problem(f"{path}: {key}", "no such setting", nearest(str(key), sorted(names), list_up_to=0))
        )
    return {key: (f"{path}: {key}", value) for key, value in content.items() if key in names}


def _converted(
    given: Mapping[str, _Where], declared: Declarations, problems: list[Problem]
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, (source, raw) in given.items():
        if name not in declared:
            problems.append(Problem(source, "no such setting", nearest(name, declared, list_up_to=0)))
        elif name not in ("app_dir", "environment"):
            try:
                values[name] = convert(raw, *declared[name])
            except ValueError as error:
                shown = "" if declared[name].setting.secret else f", not {raw!r}"
                problems.append(Problem(source, f"{error.args[0]}{shown}", *error.args[1:]))
    return values
