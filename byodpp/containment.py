"""What an application's code raises stays an error of that code.

In: a block that calls it. Out: nothing. An exit, an interrupt, or a cancellation that nobody has asked
for would end the whole process where it passes the border of a task; it becomes an ordinary
exception, which is logged and answered like any other.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Literal

__all__ = ["Escape", "contained"]


class Escape(Exception):
    """An application's code raised what is no error, such as SystemExit; that is the cause."""


class contained:
    """Let nothing but errors leave the block.

    Raises:
        Escape: in place of SystemExit, KeyboardInterrupt, and their like.
        asyncio.CancelledError: when somebody has cancelled this task.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        """End it."""
        # GeneratorExit: the coroutine itself is being closed.
        if error is None or isinstance(error, Exception | GeneratorExit):
            return False
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                return False
            raise Escape("a cancellation that nobody has asked for") from error
        raise Escape(f"{type(error).__name__}: {error}") from error
