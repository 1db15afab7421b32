"""PostgreSQL without installation.

`programs` finds PostgreSQL and the account it runs as, `process` judges whom a running one belongs to,
and `server` makes, starts, shares and stops it.
"""

from __future__ import annotations

from byodpp.embedded.server import SUPERUSER, EmbeddedPostgres, RunningServer, provide_database

__all__ = ["SUPERUSER", "EmbeddedPostgres", "RunningServer", "provide_database"]
