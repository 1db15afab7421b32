"""Work that takes long, done in a thread, so that the event loop goes on meanwhile.

For bodies and rows of megabytes: parsing, judging, writing. Python runs one thread at a time, yet gives
others their turn every few milliseconds.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Final, TypeVar

__all__ = ["LARGE_BYTES", "aside"]

#: What is larger is worth a thread.
LARGE_BYTES: Final = 262_144

T = TypeVar("T")


async def aside(work: Callable[[], T]) -> T:
    """Run something in a thread, without the garbage collector.

    It would look at a document of half a million values again and again while that grows, and let
    nobody else in. The work must not touch anything that others use.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return await asyncio.to_thread(work)
    finally:
        if was_enabled:
            gc.enable()
