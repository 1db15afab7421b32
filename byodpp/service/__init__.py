"""The service: one request, one transaction.

`transaction` opens it, runs it again where PostgreSQL asks for that, and commits; `units` is what happens
inside; `nested` writes related rows together with a row.
"""

from __future__ import annotations

from byodpp.service.transaction import Service

__all__ = ["Service"]
