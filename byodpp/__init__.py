"""BYO DPP: one file, `resources.json`, becomes a multi-tenant API on PostgreSQL.

The way of the manifest (at start) and the way of a request, in the order of the modules::

    resources.json -> manifest -> registry -> tables / schemas / logics
                   -> repository -> service -> controller -> routes -> middleware -> application

`docs/architecture.md` tells what each module takes, gives, and may refuse.
"""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
