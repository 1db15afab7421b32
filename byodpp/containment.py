"""What an application's code raises stays an error of that code.

In: a block that calls it. Out: nothing. An exit, an interrupt, or a cancellation that nobody has asked
for would end the whole process where it passes the border of a task; it becomes an ordinary
exception, which is logged and answered like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Escape", "contained"]


class Escape(Exception):
    """An application's code raised what is no error, such as SystemExit; that is the cause."""


@contextmanager
def contained() -> Iterator[None]:
    """Let nothing but errors leave the block.

    Raises:
        Escape: in place of SystemExit, KeyboardInterrupt, and their like.
        asyncio.CancelledError: when somebody has cancelled this task.
    """
    try:
        yield
    except (Exception, GeneratorExit):
        raise  # GeneratorExit: the coroutine itself is being closed
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise Escape("a cancellation that nobody has asked for") from error
    except BaseException as error:
        raise Escape(f"{type(error).__name__}: {error}") from error
