"""The command line: `byodpp`.

Comes in: words and options. Goes out: text for people on the terminal, exit code 0; 1 when
something stands against starting (every problem printed, with path and suggestion); 2 when the
command itself was not understood. Commands import what they need when they run, so that
`byodpp --help` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from byodpp.cli.output import print_problems
from byodpp.cli.program import make_program
from byodpp.exceptions import Problem, StartError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and end the process with its exit code.

    Args:
        arguments: words after `byodpp`; None takes those of the process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        make_program()(args=_app_first(words), prog_name="byodpp")
    except StartError as error:
        print_problems(error)
        sys.exit(1)
    except OSError as error:
        if error.filename is None:  # no file that somebody named: a fault of ours
            raise
        print_problems(StartError([_of_file(error)]))
        sys.exit(1)


def _of_file(error: OSError) -> Problem:
    reason = f"cannot be used: {(error.strerror or type(error).__name__).lower()}"
    return Problem(str(error.filename), reason, "Name another place, or give this account the right to it.")


def _app_first(words: Sequence[str]) -> list[str]:
    """Move `--app DIR` to the front, so that it is understood before and after the command."""
    front: list[str] = []
    rest: list[str] = []
    remaining = iter(words)
    for word in remaining:
        if word == "--":
            rest.extend((word, *remaining))
        elif word == "--app":
            front.extend((word, *[value for value in [next(remaining, None)] if value is not None]))
        elif word.startswith("--app="):
            front.append(word)
        else:
            rest.append(word)
    return [*front, *rest]
