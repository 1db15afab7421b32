"""Where the ids of a table go on, changed without keeping anybody from reading the table.

In: connections of the owner role. Changing a table's identity column would wait for its readers and keep new
ones out; its sequence alone waits for the writers that have taken an id from it, and for nobody else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from byodpp.places.building import patiently

if TYPE_CHECKING:
    import asyncpg

__all__ = ["continue_from", "next_id", "restart"]


async def next_id(connection: asyncpg.Connection[Any], table: str) -> int:
    """Return the id that the next row of a table gets."""
    return await _next(connection, await _sequence(connection, table))


async def continue_from(connection: asyncpg.Connection[Any], table: str, value: int) -> None:
    """Let ids of a table be no lower than a value; where they are higher already, nothing changes.

    Args:
        connection: of the owner.
        table: its name as SQL.
        value: the lowest id that may come next.

    Raises:
        MigrationError: somebody writes the table all the time.
    """
    sequence = await _sequence(connection, table)

    async def again() -> None:
        async with connection.transaction():
            await connection.execute(f"alter sequence {sequence} no cycle")  # until the end nobody takes one
            if await _next(connection, sequence) < value:
                await connection.execute(f"alter sequence {sequence} restart with {value:d}")

    await patiently(again)


async def restart(connection: asyncpg.Connection[Any], table: str, value: int) -> None:
    """Let the next id of a table be a value, whatever it was."""
    await connection.execute(f"alter sequence {await _sequence(connection, table)} restart with {value:d}")


async def _sequence(connection: asyncpg.Connection[Any], table: str) -> str:
    found: str = await connection.fetchval("select pg_get_serial_sequence($1, 'id')", table)
    return found


async def _next(connection: asyncpg.Connection[Any], sequence: str) -> int:
    found: int = await connection.fetchval(
        f"select case when is_called then last_value + 1 else last_value end from {sequence}"
    )
    return found
