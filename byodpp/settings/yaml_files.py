"""A YAML file of settings as a mapping: `name: value` lines, each name once."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from byodpp.exceptions import Problem

__all__ = ["yaml_mapping"]

#: The same language, read by a library in C where PyYAML was built with it.
_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def yaml_mapping(path: Path, problems: list[Problem]) -> dict[Any, Any]:
    """Return what a file holds; nothing when there is none.

    Args:
        path: of the file.
        problems: gets what is wrong with it.
    """
    try:
        text = path.read_text(encoding="utf-8")
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            content = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        problems.append(Problem(str(path), f"cannot be read: {' '.join(str(error).split())}"))
        return {}
    if content is None:
        return {}
    if not isinstance(content, dict) or not isinstance(node, yaml.MappingNode):
        problems.append(Problem(str(path), "must hold `name: value` lines"))
        return {}
    # The loader keeps the last of two equal keys without a word; the composed node has both.
    keys = [key.value for key, _ in node.value]
    problems += [Problem(f"{path}: {key}", "is given twice") for key in set(keys) if keys.count(key) > 1]
    return content
