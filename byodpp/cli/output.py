"""How the command line looks: problems, tables, and steps, in colour where the terminal has it.

What is shown may have been written by anybody, as the names of tenants are: no value begins a line of a
table, or moves the terminal's cursor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from byodpp.exceptions import ApiError, AuthUnavailable, BadGateway, Problem, StartError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["print_problems", "print_step", "print_table", "progress_bar", "refusals_told", "shown"]


def print_problems(error: StartError) -> None:
    """Print every problem of a refused start to standard error, then how many there are."""
    from rich.text import Text

    console = _console(stderr=True)
    for problem in error.problems:
        line = Text()
        if problem.path:
            line.append(shown(problem.path), style="bold red").append("\n  ")
        line.append(shown(problem.reason))
        if problem.suggestion:
            line.append("\n  ").append(shown(problem.suggestion), style="cyan")
        console.print(line)
    count = sum(1 for one in error.problems if one.path)  # what has none is a heading
    if count > 1:
        console.print(Text(f"\n{count} problems; nothing was started.", style="bold"))


@contextmanager
def refusals_told(again: Callable[[], str] = str) -> Iterator[None]:
    """Turn what a procedure is refused with into what a command is.

    Args:
        again: returns what is said to whoever was held up by the identity provider.

    Raises:
        StartError: in place of an ApiError, with its details.
    """
    try:
        yield
    except ApiError as error:
        details = [Problem(one.field, one.message) for one in error.details]
        advice = again() if isinstance(error, AuthUnavailable | BadGateway) else ""
        raise StartError([Problem("", error.message, advice), *details]) from error


def print_step(word: str, what: str) -> None:
    """Print one line that tells what was done: a word, then to what."""
    from rich.text import Text

    _console().print(Text().append(f"{word:>9} ", style="bold green").append(shown(what)))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """Print rows under headings; `empty` when there are none. Piped output is not cut."""
    lines = [[shown(" ".join(str(cell).splitlines())) for cell in row] for row in rows]
    if not lines:
        print(empty)
        return
    widths = [max(len(line[column]) for line in [list(headings), *lines]) for column in range(len(headings))]
    for line in [list(headings), *lines]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def shown(text: str) -> str:
    """Return a text with what is no letter, sign, space or line end spelled out."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one == "\n" else one.encode("unicode_escape").decode() for one in text
    )


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=True)


@contextmanager
def progress_bar(size: int | None, title: str) -> Iterator[Callable[[int, Any], object]]:
    """Show a bar on standard error and yield what moves it: bytes or rows that are done, and an import.

    Args:
        size: bytes in all; None where nobody knows how many rows there are.
        title: what is being done.

    Where standard error is no terminal nothing is shown.
    """
    console = _console(stderr=True)
    if not console.is_terminal:
        yield lambda done, found: None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[told]}"), console=console) as progress:
        task = progress.add_task(title, total=size, told="")

        def move(done: int, found: Any) -> None:
            told = f"{done} rows" if found is None else f"{found.records} records, {found.rejected} refused"
            progress.update(task, completed=done, told=told)

        yield move
