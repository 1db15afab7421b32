"""Statements: what is asked becomes SQL, compiled once per shape and prepared.

`reads` builds the statements of pages and rows, `writes` those that change rows; each of the other
rooms makes one piece of them. Nothing here touches a row, and nothing here can refuse.
"""

from __future__ import annotations

from byodpp.statements.json import split_version
from byodpp.statements.reads import ESTIMATE_LIMIT, Compiled, Context, Statements

__all__ = ["ESTIMATE_LIMIT", "Compiled", "Context", "Statements", "split_version"]
