"""Listening for notifications, on a connection of its own.

In: an address, a channel, and who is to be woken. Ends only by an error: whoever needs to go on
listening begins anew. Notifications may be lost with a connection, so they are never the only way
by which something is learnt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import asyncpg

from byodpp.exceptions import Unavailable

__all__ = ["listen"]

#: A link that is dead without a word is noticed by asking over it.
_HEARTBEAT_SECONDS: Final = 15.0
_TIMEOUT_SECONDS: Final = 5.0


async def listen(uri: str, channel: str, heard: Callable[[], object]) -> None:
    """Call `heard` at the beginning and for every notification, until the connection is lost.

    Args:
        uri: of the database.
        channel: name of the channel.
        heard: must not block; it is also called at the beginning, for what was told before.

    Raises:
        Unavailable: there is no connection, or none any more.
    """
    try:
        connection = await asyncpg.connect(
            uri, timeout=_TIMEOUT_SECONDS, server_settings={"application_name": "byodpp listener"}
        )
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise Unavailable("The database is not available for the moment.") from error
    try:
        await _hear(connection, channel, heard)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise Unavailable("The listening connection is lost.") from error
    finally:
        with suppress(asyncpg.InterfaceError):
            connection.terminate()


async def _hear(connection: asyncpg.Connection[Any], channel: str, heard: Callable[[], object]) -> None:
    lost = asyncio.Event()
    connection.add_termination_listener(lambda _: lost.set())
    await connection.add_listener(channel, lambda *_: heard())
    heard()
    while not lost.is_set():
        try:
            await asyncio.wait_for(lost.wait(), _HEARTBEAT_SECONDS)
        except TimeoutError:
            await connection.fetchval("select 1", timeout=_TIMEOUT_SECONDS)
    raise Unavailable("The listening connection is lost.")
