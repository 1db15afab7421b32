"""Public keys of token issuers, cached per realm.

Asked by `tokens` for one key; asks the identity provider for a realm's key set. Keys that are
known keep working while the provider is away; a key that is not known then cannot be judged
(503 `auth_unavailable`). A disabled key or a deleted realm is noticed within a minute.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from joserfc.errors import JoseError
from joserfc.jwk import Key, import_key

from byodpp.exceptions import AuthUnavailable

__all__ = ["KEY_ID", "KeyRing", "KeySource", "SigningKeys", "VerificationKey"]

_log = logging.getLogger(__name__)

#: What a key id may look like: it names an entry of a key set, never a file or an address.
KEY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")

_KEY_TYPES: Final = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
_PUBLIC_MEMBERS: Final = ("kty", "n", "e", "crv", "x", "y")
_SMALLEST_RSA_BITS: Final = 2048
_MOST_KEYS: Final = 64  # of one realm; a key set beyond that is not a key set


class KeySource(Protocol):
    """The part of an identity provider that checking a token needs."""

    def issuer_url(self, realm: str) -> str:
        """Return the `iss` of the realm's tokens."""
        ...

    async def signing_keys(self, realm: str) -> Mapping[str, Any] | None:
        """Return the realm's JSON Web Key Set, None when there is no such realm."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VerificationKey:
    """One public key that may have signed a token. The same object as long as the key is unchanged."""

    key_id: str
    algorithm: str | None  # the one it is made for; None when the key set does not say
    jwk: Mapping[str, Any]
    key: Key


class KeyRing:
    """The keys of one realm, and when to look again."""

    __slots__ = ("failed_at", "fetched_at", "keys", "look_again_at", "realm", "task", "unknown_at")

    def __init__(self, realm: str) -> None:
        self.realm = realm
        self.keys: Mapping[str, VerificationKey] = {}
        self.fetched_at: float | None = None
        self.look_again_at = float("-inf")  # until then the keys may be used without a second thought
        self.failed_at = float("-inf")
        self.unknown_at = float("-inf")  # last fetch that an unknown key asked for
        self.task: asyncio.Task[bool] | None = None


class SigningKeys:
    """Finds the key that a token names."""

    def __init__(
        self,
        source: KeySource,
        *,
        refresh_seconds: float = 30,
        trust_seconds: float = 50,
        keep_seconds: float = 12 * 3600,
        cooldown_seconds: float = 10,
        wait_seconds: float = 3,
        max_realms: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        source: where key sets come from.
        refresh_seconds: age at which a key set is fetched again in the background.
        trust_seconds: age at which a request waits for that fetch.
        keep_seconds: age up to which keys are used while the provider is away.
        cooldown_seconds: between two fetches after a failure, and between two for unknown keys.
        wait_seconds: how long a request waits for a fetch; the fetch itself goes on.
        max_realms: how many realms are remembered.
        clock: monotonic seconds.
        """
        self._source = source
        self._refresh = refresh_seconds
        self._trust = trust_seconds
        self._keep = keep_seconds
        self._cooldown = cooldown_seconds
        self._wait = wait_seconds
        self._max_realms = max_realms
        self._clock = clock
        self._rings: OrderedDict[str, KeyRing] = OrderedDict()
        #: Counts how often a key was gone or replaced, or is to be looked for earlier than was told.
        self.turn = 0

    def now(self) -> float:
        """Return the time by which rings are judged fresh."""
        return self._clock()

    def ring(self, realm: str) -> KeyRing:
        """Return the realm's ring, empty when it was never asked for."""
        ring = self._rings.get(realm)
        if ring is None:
            ring = self._rings[realm] = KeyRing(realm)
            while len(self._rings) > self._max_realms:
                self._rings.popitem(last=False)
        else:
            self._rings.move_to_end(realm)
        return ring

    def forget(self, realm: str) -> None:
        """Drop what is known of a realm (it was suspended, deleted, or its keys were changed)."""
        ring = self._rings.pop(realm, None)
        if ring is not None:
            ring.keys = {}
            ring.look_again_at = float("-inf")
            self.turn += 1

    async def find(self, realm: str, key_id: str) -> VerificationKey | None:
        """Return the key, None when the realm has no such key.

        Raises:
            AuthUnavailable: the provider is away and the key is not known.
        """
        ring = self.ring(realm)
        fetched = await self._freshen(ring)
        found = ring.keys.get(key_id)
        if found is not None or fetched:
            return found
        now = self._clock()
        if now - ring.unknown_at >= self._cooldown and not self._cooling(ring):
            ring.unknown_at = now
            await self._fetched(ring)
        elif ring.task is not None:
            await self._fetched(ring)
        if (found := ring.keys.get(key_id)) is None and self._cooling(ring):
            raise self._away()
        return found

    async def _freshen(self, ring: KeyRing) -> bool:
        """Fetch the keys when they are missing or old; in the background while they may be trusted.

        Returns whether they were fetched for this call.
        """
        now = self._clock()
        if ring.fetched_at is None:
            if self._cooling(ring) or not await self._fetched(ring):
                raise self._away()
            return True
        if ring.look_again_at > now:
            return False
        age = now - ring.fetched_at
        if not self._cooling(ring):
            if age < self._trust:
                self._start(ring)
                return False
            if await self._fetched(ring):
                return True
        if age > self._keep:
            raise self._away()
        return False

    def _cooling(self, ring: KeyRing) -> bool:
        return self._clock() - ring.failed_at < self._cooldown

    def _away(self) -> AuthUnavailable:
        return AuthUnavailable(retry_after_seconds=max(1, round(self._cooldown)))

    def _start(self, ring: KeyRing) -> asyncio.Task[bool]:
        if ring.task is None or ring.task.done():
            ring.task = asyncio.create_task(self._fetch(ring), name=f"signing keys of {ring.realm}")
        return ring.task

    async def _fetched(self, ring: KeyRing) -> bool:
        """Join the one running fetch, or start it; return whether the keys are now fresh."""
        try:
            # Shielded: a client that goes away must not take the fetch of the others with it.
            return await asyncio.wait_for(asyncio.shield(self._start(ring)), self._wait)
        except TimeoutError:
            self._failed(ring)
            return False

    def _failed(self, ring: KeyRing) -> None:
        ring.failed_at = self._clock()
        ring.look_again_at = ring.failed_at + self._cooldown
        self.turn += 1

    async def _fetch(self, ring: KeyRing) -> bool:
        asked_at = self._clock()
        try:
            found = _usable_keys(await self._source.signing_keys(ring.realm), ring.keys)
        except Exception as error:
            # Whatever the provider did, the answer to the client is 503, never 500.
            _log.warning("signing keys of realm %s are not available: %r", ring.realm, error)
            self._failed(ring)
            return False
        finally:
            ring.task = None
        former, ring.keys = ring.keys, found
        if any(found.get(id) is not key for id, key in former.items()):
            self.turn += 1
        ring.failed_at = float("-inf")
        ring.fetched_at = asked_at
        ring.look_again_at = asked_at + self._refresh
        return True


def _usable_keys(
    key_set: Mapping[str, Any] | None, known: Mapping[str, VerificationKey]
) -> Mapping[str, VerificationKey]:
    """Read a key set; keys that are not for signatures, too weak, or of another kind are left out.

    Raises:
        ValueError: it is not a key set at all.
    """
    if key_set is None:
        return {}
    entries = key_set.get("keys")
    if not isinstance(entries, list) or len(entries) > _MOST_KEYS:
        raise ValueError("not a JSON Web Key Set")
    usable: dict[str, VerificationKey] = {}
    for jwk in entries:
        key_id = jwk.get("kid") if isinstance(jwk, dict) else None
        if not isinstance(key_id, str) or not KEY_ID.fullmatch(key_id):
            continue
        before = known.get(key_id)
        key = before if before is not None and before.jwk == jwk else _verification_key(key_id, jwk)
        if key is not None:
            usable[key_id] = key
    return usable


def _verification_key(key_id: str, jwk: dict[str, Any]) -> VerificationKey | None:
    algorithm = jwk.get("alg")
    if jwk.get("use", "sig") != "sig" or "verify" not in jwk.get("key_ops", ["verify"]):
        return None
    if algorithm is not None and _KEY_TYPES.get(str(algorithm)[:2]) != jwk.get("kty"):
        return None
    if jwk.get("kty") not in _KEY_TYPES.values():
        return None  # a symmetric key has no business in a public key set
    if jwk.get("kty") == "RSA" and len(str(jwk.get("n"))) * 6 < _SMALLEST_RSA_BITS:
        return None
    public: dict[str, str | list[str]] = {name: str(jwk[name]) for name in _PUBLIC_MEMBERS if name in jwk}
    try:
        key = import_key(public)
    except (JoseError, ValueError, TypeError, KeyError) as error:
        _log.warning("key %s is not usable: %r", key_id, error)
        return None
    return VerificationKey(key_id=key_id, algorithm=algorithm, jwk=dict(jwk), key=key)
