"""The command line: `byodpp`.

Comes in: words and options. Goes out: text for people on the terminal, exit code 0; 1 when
something stands against starting (every problem printed, with path and suggestion); 2 when the
command itself was not understood. Commands import what they need when they run, so that
`byodpp --help` answers at once.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

from byodpp.cli.output import print_problems
from byodpp.cli.program import make_program
from byodpp.exceptions import Problem, StartError

__all__ = ["YOUNG", "main"]

#: Young containers with which a pass of the garbage collector comes, in place of some hundreds: imports
#: make 200,000 of them, which stay, and passes over those took a seventh of what a command computes.
YOUNG = 50_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and end the process with its exit code.

    Args:
        arguments: words after `byodpp`; None takes those of the process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with nullcontext() if "serve" in words else _few_collections():
            make_program()(args=_app_first(words), prog_name="byodpp")
    except StartError as error:
        print_problems(error)
        sys.exit(1)
    except OSError as error:
        if error.filename is None:  # no file that somebody named: a fault of ours
            raise
        print_problems(StartError([_of_file(error)]))
        sys.exit(1)


@contextmanager
def _few_collections() -> Iterator[None]:
    """Let the collector work rarely during a command; a server has it as usual."""
    usual = gc.get_threshold()
    gc.set_threshold(YOUNG)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


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
