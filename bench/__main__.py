"""Run the measurements, one after the other: `python -m bench`, options as for `bench.growth`."""

from __future__ import annotations

from bench.growth import main

if __name__ == "__main__":
    main()
