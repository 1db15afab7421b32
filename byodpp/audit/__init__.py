"""The audit trail: what was done, in an order that nobody can change unnoticed.

Entries (rows of AuditLogs) are written with the change they tell of, by `statements`. Here they
are sealed: `entries` says what is hashed of each, `seals` how a seal holds many of them and the
seal before, `sealer` makes them, in a task of the server, and `verification` checks everything.
"""

from __future__ import annotations

from byodpp.audit.sealer import Sealer
from byodpp.audit.seals import Head, SealKey
from byodpp.audit.verification import Break, Verdict, heads, verify

__all__ = ["Break", "Head", "SealKey", "Sealer", "Verdict", "heads", "verify"]
