"""The application's secret: what it signs with, where a signature must be its own and no stranger's.

In: settings. Out: bytes. A server that several processes serve needs one secret for all of them:
`stage` and `prod` are given it, elsewhere it is made at first use and kept in `.byodpp`. Every use
derives a key of its own from it. May reject: StartError for a file that was damaged.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path
from typing import Final

from byodpp.exceptions import Problem, StartError
from byodpp.settings.reading import Settings

__all__ = ["application_secret"]

_NAME: Final = "secret_key"
_BYTES: Final = 32


def application_secret(settings: Settings) -> bytes:
    """Return the secret.

    Raises:
        StartError: the kept one cannot be read.
    """
    if settings.secret_key is not None:
        return settings.secret_key.encode()
    path = settings.app_dir / ".byodpp" / _NAME
    if not path.exists():
        _make(path)
    try:
        found = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StartError([Problem(str(path), f"cannot be read: {error}")]) from error
    if len(found) < 2 * _BYTES:
        raise StartError([Problem(str(path), "holds no secret", "Delete it to have a new one made.")])
    return found.encode()


def _make(path: Path) -> None:
    """Write a whole file or none; of several processes that start together one wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".new")  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(_BYTES))
        os.link(name, path)
    except FileExistsError:
        return  # another process was quicker; its secret is as good
    finally:
        Path(name).unlink(missing_ok=True)
