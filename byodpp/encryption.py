"""Encryption of what must be read again: AES-256-GCM, bound to what it belongs to, under keys with ids.

In: settings. Out: `EncryptionKeys`, which seals with the first key and opens with every one. What is
sealed holds 12 bytes of chance, the ciphertext, and 16 bytes that prove both it and the text it is
bound to. May reject: Unreadable.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from byodpp.settings import Settings
from byodpp.settings.secret_key import application_secret

__all__ = ["EncryptionKeys", "Unreadable", "bound_to"]

_NONCE_BYTES: Final = 12
#: Id of the key that is derived from `secret_key`: the current one as long as no other is named.
_DERIVED: Final = "secret-key"


class Unreadable(Exception):
    """What is sealed cannot be opened: its key is not here, or it is not what was sealed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptionKeys:
    """The keys of an application; the current one seals."""

    current: str
    keys: Mapping[str, AESGCM]

    @classmethod
    def of(cls, settings: Settings) -> EncryptionKeys:
        """Return the keys of `encryption_keys`, and the one that `secret_key` gives."""
        named = [entry.partition(":")[::2] for entry in settings.encryption_keys]
        secrets = {id: secret.encode() for id, secret in named}
        current = next(iter(secrets), _DERIVED)
        secrets.setdefault(_DERIVED, application_secret(settings))
        return cls(current=current, keys={id: AESGCM(_derived(secret)) for id, secret in secrets.items()})

    def seal(self, text: str, associated: bytes) -> bytes:
        """Return a text sealed with the current key.

        Args:
            text: of any length.
            associated: what it belongs to; needed again, unchanged, to open it.
        """
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self.keys[self.current].encrypt(nonce, text.encode(), associated)

    def open(self, key_id: str, sealed: bytes, associated: bytes) -> str:
        """Return what was sealed.

        Raises:
            Unreadable: the key is not known, or the text or what it belongs to is another one.
        """
        key = self.keys.get(key_id)
        if key is None:
            raise Unreadable(f"the key {key_id!r} is not among encryption_keys")
        try:
            return key.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], associated).decode()
        except (InvalidTag, ValueError) as error:
            raise Unreadable("it is not what was sealed, or belongs to something else") from error


def bound_to(*parts: Any) -> bytes:
    """Return what something belongs to as associated data; no two lists of parts give the same."""
    return json.dumps(parts, separators=(",", ":")).encode()


def _derived(secret: bytes) -> bytes:
    return hmac.digest(secret, b"byodpp encryption", hashlib.sha256)
