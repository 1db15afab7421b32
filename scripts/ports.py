"""Ports of the loopback for programs that must be told theirs before they listen."""

from __future__ import annotations

import random
import socket
from pathlib import Path
from typing import Final

__all__ = ["free_port"]

_FIRST: Final = 10_000
#: Linux tells from where on it gives ports to whoever names none; elsewhere it is as IANA wants it.
_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_USUAL_END: Final = 49_152
_ATTEMPTS: Final = 1_000


def free_port() -> int:
    """Return a port on which nobody listens, and which the system gives to nobody by itself.

    A port that the system has given, and that was let go again, may be gone when a program comes to listen
    on it: the next connection that anybody opens can begin there.

    Raises:
        OSError: a thousand were tried, and none is free.
    """
    dice = random.SystemRandom()  # two processes that draw alike would draw the same
    end = max(_end(), _FIRST + 1)
    for _ in range(_ATTEMPTS):
        port = dice.randrange(_FIRST, end)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no port from {_FIRST} to {end} is free")


def _end() -> int:
    try:
        return int(_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return _USUAL_END
