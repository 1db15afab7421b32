"""Access tokens: text in, checked claims out, everything else is 401.

Only `signing_keys` may add 503 (the issuer is away and the key unknown). A token that was
checked is remembered by its hash until it expires, so the second request costs a lookup. All that is
asked of it then lies in one object: with many callers, each further one would have to be fetched from memory.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError

from byodpp.authentication.signing_keys import KEY_ID, KeyRing, KeySource, SigningKeys, VerificationKey
from byodpp.exceptions import Problem, SettingsError, Unauthenticated
from byodpp.settings import Settings

__all__ = ["ASYMMETRIC_ALGORITHMS", "MAX_TOKEN_BYTES", "Claims", "KnownToken", "TokenVerifier"]

#: Algorithms that may be allowed at all: with a symmetric one, who checks tokens could make them.
ASYMMETRIC_ALGORITHMS: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA"}
)
MAX_TOKEN_BYTES: Final = 8_192

_TOKEN: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_REALM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
#: Header parameters that name a key, change what is signed, or belong to encryption.
_REFUSED_PARAMETERS: Final = frozenset(
    {"crit", "jwk", "jku", "x5u", "x5c", "b64", "zip", "enc", "cty", "epk", "p2c", "p2s"}
)
_HEADER_TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})
_LATEST: Final = 253_402_300_799  # the end of year 9999
_LONGEST_NAME: Final = 255
_MOST_ROLES: Final = 256
#: Two clocks that are kept in time differ by less, in seconds.
_IN_TIME: Final = 1
#: How many tokens are spared at most when one must leave; then the oldest does, used or not.
_MOST_SPARED: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Claims:
    """What a checked token says. Compared by identity: one token, one object, while it is remembered."""

    realm: str  # last segment of the issuer: a tenant's ULID, or the platform realm
    issuer: str
    subject: str  # `sub`, at most 255 printable characters
    client: str | None  # `azp`
    token_id: str | None  # `jti`
    session_id: str | None  # `sid`
    roles: frozenset[str]  # `realm_access.roles`
    scopes: frozenset[str]
    name: str | None
    user_name: str | None
    email: str | None  # only one that was verified (`email_verified`)
    issued_at: int  # seconds since the epoch
    expires_at: int


@dataclass(slots=True, eq=False)
class KnownToken:
    """A token that was checked, and by which key: when the key goes, so does the token."""

    claims: Claims
    good_until: float  # wall clock, leeway included
    ring: KeyRing
    key: VerificationKey
    #: Until then, and while `SigningKeys.turn` is this one, the key is where it was.
    fresh_until: float = float("-inf")
    turn: int = -1
    used: bool = False  # since it was remembered, or spared for its use
    #: What the authenticator has found out by it: it alone writes this.
    caller: Any = None


class TokenVerifier:
    """Checks access tokens locally: signature, issuer, audience, type and times."""

    def __init__(
        self,
        source: KeySource,
        *,
        audience: str,
        clients: Iterable[str] = (),
        algorithms: Iterable[str] = ("RS256",),
        leeway_seconds: int = 30,
        keys: SigningKeys | None = None,
        known_realm: Callable[[str], Awaitable[bool]] | None = None,
        max_remembered: int = 10_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Args:
        source: the identity provider.
        audience: must be in `aud`, or be `azp`.
        clients: further values of `azp` that are accepted.
        algorithms: allow-list, asymmetric ones only.
        leeway_seconds: for clocks that differ, 0 to 30.
        keys: the key cache; a new one over `source` when omitted.
        known_realm: asked before a key set is fetched, so that a token with an invented issuer
            causes no request to the provider.
        max_remembered: how many checked tokens are kept.
        clock: seconds since the epoch.

        Raises:
            SettingsError: an algorithm that is not asymmetric, or a leeway out of range.
        """
        self._algorithms = frozenset(algorithms)
        if not self._algorithms or not self._algorithms <= ASYMMETRIC_ALGORITHMS:
            allowed = ", ".join(sorted(ASYMMETRIC_ALGORITHMS))
            raise SettingsError([Problem("token_algorithms", f"must be some of {allowed}")])
        if not 0 <= leeway_seconds <= 30:
            raise SettingsError([Problem("token_leeway_seconds", "must be between 0 and 30")])
        self._source = source
        self._audience = audience
        self._clients = frozenset(clients) | {audience}
        self._leeway = leeway_seconds
        self._keys = keys or SigningKeys(source)
        self._known_realm = known_realm
        self._max_remembered = max_remembered
        self._clock = clock
        self._ahead: set[str] = (
            set()
        )  # realms of which a token has come whose time of issue was still to come
        self._remembered: OrderedDict[bytes, KnownToken] = OrderedDict()
        self._registry = jws.JWSRegistry(algorithms=sorted(self._algorithms), strict_check_header=False)

    @classmethod
    def of(
        cls, settings: Settings, source: KeySource, known_realm: Callable[[str], Awaitable[bool]]
    ) -> TokenVerifier:
        """Return the verifier of an application."""
        return cls(
            source,
            audience=settings.token_audience,
            clients=settings.token_clients,
            leeway_seconds=settings.token_leeway_seconds,
            known_realm=known_realm,
        )

    def made_after(self, realm: str | None, issued_at: float) -> float:
        """Return a time after which a token was made, by the clock here.

        An issuer whose clock was ahead once may be so by the whole leeway: what was revoked then was made
        before that, whatever it says. Which claims a realm writes is no other tenant's business.

        Args:
            realm: its own.
            issued_at: what it says, in seconds since the epoch.
        """
        return issued_at - self._leeway if realm in self._ahead else issued_at

    def forget(self) -> None:
        """Check every token anew."""
        self._remembered.clear()

    def remembered(self, token: str) -> KnownToken | None:
        """Return a token that was checked, and of which nothing has to be asked; else None."""
        known = self._remembered.get(hashlib.sha256(token.encode("utf-8", "replace")).digest())
        if known is None or self._clock() >= known.good_until or not self._is_fresh(known):
            return None
        known.used = True
        return known

    def _is_fresh(self, known: KnownToken) -> bool:
        """Whether the key of a token is known to be where it was."""
        now, turn = self._keys.now(), self._keys.turn
        if known.turn == turn and now < known.fresh_until:
            return True
        ring = known.ring
        if ring.look_again_at <= now or ring.keys.get(known.key.key_id) is not known.key:
            return False
        known.turn, known.fresh_until = turn, ring.look_again_at
        return True

    def _remember(self, digest: bytes, known: KnownToken) -> None:
        """Remember a token; of too many the oldest leaves that was not used since it was spared."""
        if len(self._remembered) >= self._max_remembered:
            for _ in range(_MOST_SPARED):
                oldest, other = self._remembered.popitem(last=False)
                if not other.used:
                    break
                other.used = False
                self._remembered[oldest] = other
            else:
                self._remembered.popitem(last=False)
        self._remembered[digest] = known

    async def verify(self, token: str) -> Claims:
        """Return the claims of a good token.

        Raises:
            Unauthenticated: the token is not one of ours, not for us, or not valid now.
            AuthUnavailable: its key is unknown and the issuer is away.
        """
        # No code point beyond ASCII survives the pattern below; here it must only not raise.
        digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        known = self._remembered.get(digest)
        if known is not None:
            if self._clock() >= known.good_until:
                del self._remembered[digest]
                raise _expired()
            known.used = True
            if self._is_fresh(known):
                return known.claims
            # The key may be gone, or only known anew; in the second case the token is checked anew.
            if await self._keys.find(known.claims.realm, known.key.key_id) is known.key:
                return known.claims
            self._remembered.pop(digest, None)
        checked = await self._check(token)
        self._remember(digest, checked)
        return checked.claims

    def refuse_expired(self, claims: Claims) -> None:
        """Refuse the claims of a token that was good some time ago and has expired.

        Raises:
            Unauthenticated: it has.
        """
        if self._clock() >= claims.expires_at + self._leeway:
            raise _expired()

    async def _check(self, token: str) -> KnownToken:
        if len(token) > MAX_TOKEN_BYTES:
            raise _invalid("The token is too long")
        parts = _TOKEN.fullmatch(token)
        if parts is None:
            raise _invalid("The token is not a signed JSON Web Token")
        header, payload = _json_object(parts[1]), _json_object(parts[2])
        algorithm, key_id = self._check_header(header)
        realm = self._realm(payload.get("iss"))
        claims = self._claims(realm, payload)
        if self._known_realm is not None and not await self._known_realm(realm):
            raise _invalid("The token's issuer is not known here")
        key = await self._keys.find(realm, key_id)
        if key is None or key.algorithm not in (None, algorithm):
            raise _invalid("The token's key is not known")
        self._check_signature(token, key)
        if claims.issued_at > self._clock() + _IN_TIME:
            self._ahead.add(realm)
        good_until = claims.expires_at + self._leeway
        return KnownToken(claims, good_until, self._keys.ring(realm), key)

    def _check_header(self, header: dict[str, Any]) -> tuple[str, str]:
        """Return algorithm and key id."""
        if not _REFUSED_PARAMETERS.isdisjoint(header):
            raise _invalid("The token's header holds a parameter that is not accepted")
        algorithm, key_id, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise _invalid("The token's algorithm is not accepted")
        if not isinstance(key_id, str) or not KEY_ID.fullmatch(key_id):
            raise _invalid("The token names no usable key")
        if not isinstance(kind, str) or kind.lower() not in _HEADER_TYPES:
            raise _invalid("The token is of another type")
        return algorithm, key_id

    def _realm(self, issuer: Any) -> str:
        """Take the realm from the issuer, which must be exactly the provider's address of it."""
        if isinstance(issuer, str):
            realm = issuer.rpartition("/")[2]
            if _REALM.fullmatch(realm) and self._source.issuer_url(realm) == issuer:
                return realm
        raise _invalid("The token's issuer is not known here")

    def _check_signature(self, token: str, key: VerificationKey) -> None:
        try:
            jws.deserialize_compact(token, key.key, registry=self._registry)
        except (JoseError, ValueError, TypeError) as error:
            raise _invalid("The token's signature is wrong") from error

    def _claims(self, realm: str, payload: dict[str, Any]) -> Claims:
        """Check everything but the signature; cheap, so it comes before it."""
        if payload.get("typ") != "Bearer":
            raise _invalid("The token is not an access token")
        self._check_audience(payload)
        issued_at, expires_at = self._times(payload)
        subject = payload.get("sub")
        if not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST_NAME or not subject.isprintable():
            raise _invalid("The token names no subject")
        scope = payload.get("scope", "")
        return Claims(
            realm=realm,
            issuer=payload["iss"],
            subject=subject,
            client=_text(payload.get("azp")),
            token_id=_text(payload.get("jti")),
            session_id=_text(payload.get("sid")),
            roles=_roles(payload.get("realm_access")),
            scopes=frozenset(scope.split()) if isinstance(scope, str) else frozenset(),
            name=_text(payload.get("name")),
            user_name=_text(payload.get("preferred_username")),
            # A user can name any address: rules may compare only one that the provider has seen to be his.
            email=_text(payload.get("email")) if payload.get("email_verified") is True else None,
            issued_at=issued_at,
            expires_at=expires_at,
        )

    def _check_audience(self, payload: dict[str, Any]) -> None:
        audience, client = payload.get("aud", []), payload.get("azp")
        audiences = [audience] if isinstance(audience, str) else audience
        if not isinstance(audiences, list) or not all(isinstance(one, str) for one in audiences):
            raise _invalid("The token's audience cannot be read")
        if self._audience not in audiences and not (isinstance(client, str) and client in self._clients):
            raise _invalid("The token is meant for another audience")

    def _times(self, payload: dict[str, Any]) -> tuple[int, int]:
        """Return `iat` and `exp`, both whole seconds and both mandatory."""
        now = self._clock()
        issued_at, expires_at = _seconds(payload.get("iat"), "iat"), _seconds(payload.get("exp"), "exp")
        if now >= expires_at + self._leeway:
            raise _expired()
        if issued_at > now + self._leeway or issued_at > expires_at:
            raise _invalid("The token was issued in the future")
        if "nbf" in payload and _seconds(payload["nbf"], "nbf") > now + self._leeway:
            raise _invalid("The token is not valid yet")
        return issued_at, expires_at


def _invalid(message: str) -> Unauthenticated:
    return Unauthenticated(message, error="invalid_token", unproven=True)


def _expired() -> Unauthenticated:
    # Whoever made it, nothing is won by it: clients that forgot to renew theirs send it again and again.
    return Unauthenticated("The token has expired", error="invalid_token")


def _json_object(segment: str) -> dict[str, Any]:
    """Decode one segment strictly: no NaN, no name twice, nothing but an object."""
    try:
        data = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
        value = json.loads(data.decode(), object_pairs_hook=_object, parse_constant=_refuse)
    except (binascii.Error, ValueError, RecursionError) as error:
        raise _invalid("The token cannot be read") from error
    if not isinstance(value, dict):
        raise _invalid("The token cannot be read")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name occurs twice")
    return members


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _seconds(value: Any, claim: str) -> int:
    if type(value) is not int or not 0 < value <= _LATEST:
        raise _invalid(f"The token's {claim} is not a time")
    return value


def _text(value: Any) -> str | None:
    """Return a claim that is only shown or stored, made harmless; None when it is no text."""
    if not isinstance(value, str):
        return None
    return "".join(one for one in value[:_LONGEST_NAME] if one.isprintable()) or None


def _roles(access: Any) -> frozenset[str]:
    if access is None:
        return frozenset()
    roles = access.get("roles", []) if isinstance(access, dict) else None
    if not isinstance(roles, list) or len(roles) > _MOST_ROLES:
        raise _invalid("The token's roles cannot be read")
    if not all(isinstance(one, str) for one in roles):
        raise _invalid("The token's roles cannot be read")
    return frozenset(one for one in roles if 0 < len(one) <= _LONGEST_NAME and one.isprintable())
