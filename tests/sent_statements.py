"""The statements that an application sends, as the driver logs them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from byodpp.database import connections
from byodpp.tables.roles import APP

__all__ = ["SentStatements", "logging_statements"]


class SentStatements:
    """Keeps what a role sends while somebody listens."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._heard: list[str] | None = None

    def __call__(self, query: Any) -> None:
        # The framework's own work, as the system role, comes when it likes; few ask for it.
        if self._heard is not None and query.conn_params.user == self._role:
            self._heard.append(" ".join(query.query.split()))

    @contextmanager
    def heard(self) -> Iterator[list[str]]:
        """Yield the list of what is sent in the block."""
        heard: list[str] = []
        self._heard = heard
        try:
            yield heard
        finally:
            self._heard = None


def logging_statements(monkeypatch: pytest.MonkeyPatch, role: str = APP) -> SentStatements:
    """Have every connection that is opened from now on tell its statements."""
    sent = SentStatements(role)
    made = connections._use_calendar_codecs

    async def listen(connection: Any) -> None:
        await made(connection)
        connection.add_query_logger(sent)

    monkeypatch.setattr(connections, "_use_calendar_codecs", listen)
    return sent
