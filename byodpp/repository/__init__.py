"""Repositories: the seven operations on one resource's rows, on a given transaction.

`repositories` is what logic classes and the service use; `stores` runs the statements, `reading` reads,
`references` looks after foreign rows, `outcomes` and `constraint_errors` judge what PostgreSQL answered.
"""

from __future__ import annotations

from byodpp.repository.by_name import Repositories
from byodpp.repository.repositories import Repository

__all__ = ["Repositories", "Repository"]
