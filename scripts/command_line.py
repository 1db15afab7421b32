"""The command line as Markdown: a section per command, from the program's own help.

Comes in: the Typer program. Goes out: text for docs/reference/command-line.md.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from byodpp.cli.program import make_program

__all__ = ["command_reference"]


def command_reference() -> str:
    """Return every command with its arguments and options."""
    program: Any = get_command(make_program())
    sections = [_section("byodpp", program, shown="")]
    sections += [_section(name, command) for name, command in _commands("byodpp", program)]
    return "\n".join(sections)


def _commands(prefix: str, group: Any) -> Iterator[tuple[str, Any]]:
    """Yield the commands that do something, by their full names."""
    for name, command in group.commands.items():
        full = f"{prefix} {name}"
        if hasattr(command, "commands"):
            yield from _commands(full, command)
        else:
            yield full, command


def _section(name: str, command: Any, shown: str | None = None) -> str:
    usage = " ".join([name, *_usage(command)])
    heading = "Options of every command" if shown == "" else f"`{name}`"
    lines = [f"## {heading}", "", f"`{usage}`", "", inspect.cleandoc(command.help or ""), ""]
    rows = [row for one in command.params if (row := _parameter(one)) is not None]
    if rows:
        lines += ["| Option | Meaning |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def _parameter(parameter: Any) -> str | None:
    if parameter.name == "help":
        return None
    if parameter.param_type_name == "argument":
        return f"| `{_called(parameter)}` | {_cell(parameter.help)} |"
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    default = parameter.show_default if isinstance(parameter.show_default, str) else None
    if default is None and parameter.default not in (None, False, "") and not callable(parameter.default):
        default = str(parameter.default)
    told = _cell(parameter.help)
    told += f" Default: `{default}`." if default else ""
    told += f" Variable: `{parameter.envvar}`." if parameter.envvar else ""
    return f"| {names} | {told} |"


def _usage(command: Any) -> Iterator[str]:
    """Yield what follows the name."""
    if any(one.param_type_name == "option" and one.name != "help" for one in command.params):
        yield "[OPTIONS]"
    yield from (_called(one) for one in command.params if one.param_type_name == "argument")
    if hasattr(command, "commands"):
        yield "COMMAND"


def _called(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")
