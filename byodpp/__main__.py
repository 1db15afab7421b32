"""`python -m byodpp`: the command line without an installed script."""

from __future__ import annotations

from byodpp.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
