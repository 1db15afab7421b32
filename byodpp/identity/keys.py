"""Private keys of the local issuer: one file per realm, readable by its owner only.

A file holds a JSON Web Key Set; its first key signs, the others still verify.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from byodpp.exceptions import Problem, StartError

__all__ = ["FileStamp", "KeyFolder", "stamp_of"]

_T = TypeVar("_T")
#: Time of change, number, and size of a file.
FileStamp: TypeAlias = tuple[int, int, int]

_REALM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_BITS: Final = 2048
_PUBLIC: Final = ("kty", "kid", "use", "alg", "n", "e")


def stamp_of(path: Path) -> FileStamp | None:
    """Return what changes whenever another file is put in the place of this one; None when there is none.

    Two files of one moment have the same time of change, as clocks of file systems tick in milliseconds.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


class KeyFolder:
    """The realms that exist are the files that exist; several processes may share the folder."""

    def __init__(self, folder: Path) -> None:
        """Args:
        folder: made at the first write, mode 0700.
        """
        self._folder = folder
        self._read: dict[str, tuple[FileStamp, list[RSAKey]]] = {}
        self._public: dict[str, tuple[FileStamp, list[dict[str, Any]]]] = {}

    def find(self, realm: str) -> list[RSAKey] | None:
        """Return the realm's keys, the signing one first; None when there is no such realm.

        Raises:
            StartError: the file is damaged.
        """
        return self._look(realm, self._read, _keys)

    def public(self, realm: str) -> list[dict[str, Any]] | None:
        """Return what others may know of the realm's keys; None when there is no such realm.

        The private halves are not looked at: checking one takes 30 ms of computing, and each
        realm's first request would pay it.

        Raises:
            StartError: the file is damaged.
        """
        return self._look(realm, self._public, _public_keys)

    def stamp(self, realm: str) -> FileStamp | None:
        """Return what changes whenever the realm's keys do; None when there is no such realm."""
        return stamp_of(self._path(realm)) if _REALM.fullmatch(realm) else None

    def _look(
        self, realm: str, known: dict[str, tuple[FileStamp, _T]], read: Callable[[Any], _T]
    ) -> _T | None:
        """Return what the realm's file says, read again only when it has changed."""
        if not _REALM.fullmatch(realm):
            return None
        path = self._path(realm)
        changed, found = stamp_of(path), known.get(realm)
        if changed is None:
            known.pop(realm, None)
            return None
        if found is not None and found[0] == changed:
            return found[1]
        try:
            said = read(json.loads(path.read_text("utf-8")))
        except FileNotFoundError:  # it went this moment
            return None
        except (ValueError, KeyError, TypeError, JoseError) as error:
            reason = f"does not hold signing keys ({error}); delete it to have new ones made"
            raise StartError([Problem(str(path), reason)]) from error
        known[realm] = (changed, said)
        return said

    def ensure(self, realm: str) -> list[RSAKey]:
        """Return the realm's keys, made now when it is new."""
        if (keys := self.find(realm)) is None:
            self._write(realm, [_new_key()], replace=False)
            keys = self.find(realm)
        assert keys is not None
        return keys

    def rotate(self, realm: str, *, keep: int = 1) -> list[RSAKey]:
        """Put a new signing key before the present ones, of which the `keep` latest still verify."""
        self._write(realm, [_new_key(), *self.ensure(realm)[:keep]], replace=True)
        return self.ensure(realm)

    def remove(self, realm: str) -> None:
        """Delete the realm: its tokens are worth nothing from now on."""
        if _REALM.fullmatch(realm):
            self._path(realm).unlink(missing_ok=True)

    def _path(self, realm: str) -> Path:
        return self._folder / f"{realm}.json"

    def _write(self, realm: str, keys: list[RSAKey], *, replace: bool) -> None:
        """Write a whole file or none; of several processes that make the same realm one wins."""
        if not _REALM.fullmatch(realm):
            raise StartError(f"{realm!r} cannot be the name of a realm")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        document = json.dumps({"keys": [key.as_dict(private=True) for key in keys]})
        handle, name = tempfile.mkstemp(dir=self._folder, prefix=".", suffix=".new")  # mode 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(document)
            written = stamp_of(Path(name))  # it stays the same under the other name
            if replace:
                os.replace(name, self._path(realm))
            else:
                os.link(name, self._path(realm))
        except FileExistsError:
            return  # another process was quicker; its keys are as good
        finally:
            Path(name).unlink(missing_ok=True)
        if written is not None:
            self._read[realm] = (written, keys)  # who has made a key need not check it


def _new_key() -> RSAKey:
    return RSAKey.generate_key(_BITS, parameters={"use": "sig", "alg": "RS256"}, private=True, auto_kid=True)


def _keys(document: Any) -> list[RSAKey]:
    keys = [RSAKey.import_key(jwk) for jwk in document["keys"]]
    if not keys or not all(key.is_private and key.kid for key in keys):
        raise ValueError("no private keys")
    return keys


def _public_keys(document: Any) -> list[dict[str, Any]]:
    keys = [{name: jwk[name] for name in _PUBLIC} for jwk in document["keys"]]
    if not keys or not all(RSAKey.import_key(key).kid for key in keys):
        raise ValueError("no keys")
    return keys
