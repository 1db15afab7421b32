"""The one signed-in connection by which Keycloak is administered, through python-keycloak.

In: credentials. Out: its administration interface, for one realm at a time. Its errors become
ours here and nowhere else: 404, 409, and 422 as Keycloak says them, 502 when it refuses us or
fails, 503 when it is away. Every call is bounded in time and every answer in size.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import httpx

from byodpp.exceptions import (
    ApiError,
    AuthUnavailable,
    BadGateway,
    NotFound,
    Problem,
    StartError,
    UniqueConflict,
    ValidationFailed,
)

if TYPE_CHECKING:
    from keycloak import KeycloakAdmin
    from keycloak.connection import ConnectionManager
    from keycloak.exceptions import KeycloakError

__all__ = ["Credentials", "KeycloakServer", "tolerated"]

#: The list of everything a Keycloak can do is some 300 kB, the longest answer we ask for.
_MOST_BYTES: Final = 4_194_304
#: Seconds that one operation of ours may take, the wait for whoever came before included; more where
#: a single answer may take longer.
_LONGEST: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Who administers: a client with its secret, or a user with a password."""

    realm: str = "master"
    client: str = "admin-cli"
    secret: str | None = field(default=None, repr=False)
    user: str | None = None
    password: str | None = field(default=None, repr=False)


class KeycloakServer:
    """Signs in at first use, and again when that is needed."""

    def __init__(self, *, url: str, credentials: Credentials, timeout_seconds: float = 30.0) -> None:
        """Args:
        url: where this server reaches Keycloak.
        credentials: of its administrator.
        timeout_seconds: longest wait for one answer.
        """
        self._url = url.rstrip("/") + "/"
        self._credentials = credentials
        self._timeout = timeout_seconds
        self._lock = asyncio.Lock()
        self._admin: KeycloakAdmin | None = None

    async def version(self) -> str:
        """Return the version of the server, e.g. `26.6.4`.

        Raises:
            StartError: our administrator may not sign in, or may not ask, or it is no Keycloak.
            AuthUnavailable: it is away.
        """
        try:
            async with self.realm(self._credentials.realm) as admin:
                return str((await admin.a_get_server_info())["systemInfo"]["version"])
        except (_NoKeycloak, TypeError) as error:
            reason = "something answers there that is no Keycloak, or not all of it"
            advice = "Look at it, and at keycloak_internal_url."
            raise StartError([Problem("issuer_base_url", reason, advice)]) from error
        except BadGateway as refusal:
            advice = "Look at keycloak_admin_client and its secret, or keycloak_admin_user and its password."
            raise StartError([Problem("keycloak_admin_client", refusal.message, advice)]) from refusal
        except KeyError as error:
            reason = "may not ask Keycloak for its version"
            advice = "Give it the role `admin` of the master realm."
            raise StartError([Problem("keycloak_admin_client", reason, advice)]) from error

    @asynccontextmanager
    async def realm(self, name: str) -> AsyncIterator[KeycloakAdmin]:
        """Lend the administration interface, for one realm; whoever comes meanwhile waits.

        Raises:
            AuthUnavailable: Keycloak is away, or the whole took too long.
            BadGateway: it refused us, or failed, or is no Keycloak.
            NotFound: what the address names does not exist.
            UniqueConflict: it exists already.
            ValidationFailed: it is not valid.
        """
        # python-keycloak keeps the realm in its connection: two callers at once would meet there.
        try:
            async with asyncio.timeout(max(_LONGEST, self._timeout)), self._lock:
                admin = await self._signed_in()
                admin.connection.realm_name = name
                try:
                    yield admin
                except _errors() as error:
                    if _ends_session(error):
                        await self._forget()
                    raise _translated(error) from error
                except TypeError as error:
                    if not _of_library(error):
                        raise
                    await self._forget()
                    raise _NoKeycloak() from error
        except TimeoutError as error:
            raise AuthUnavailable("The identity provider did not answer in time") from error

    async def post(self, admin: KeycloakAdmin, path: str, document: Mapping[str, Any] | None = None) -> Any:
        """Ask for something that python-keycloak has no words for, within `realm`; return the answer.

        Args:
            admin: as lent by `realm`.
            path: below the server's address, every part of it checked.
            document: what is sent.
        """
        errors = importlib.import_module("keycloak.exceptions")
        answer = await admin.connection.a_raw_post(path, data=json.dumps(document or {}))
        return errors.raise_error_from_response(answer, errors.KeycloakPostError)

    async def delete(self, admin: KeycloakAdmin, path: str) -> None:
        """Delete something that python-keycloak has no words for, within `realm`; also when it is not there.

        Args:
            admin: as lent by `realm`.
            path: as of `post`.
        """
        errors = importlib.import_module("keycloak.exceptions")
        answer = await admin.connection.a_raw_delete(path)
        with tolerated(404):
            errors.raise_error_from_response(answer, errors.KeycloakDeleteError, expected_codes=[204])

    @staticmethod
    def errors() -> type[KeycloakError]:
        """Return what python-keycloak raises; imported by who has asked it something already."""
        return _errors()

    async def close(self) -> None:
        """Give back connections."""
        async with self._lock:
            await self._forget()

    async def _signed_in(self) -> KeycloakAdmin:
        """Return the interface; it signs in by itself with the first request."""
        if self._admin is None:
            # Half a second of imports, paid by who administers and by nobody else.
            keycloak = await asyncio.to_thread(importlib.import_module, "keycloak")
            said = self._credentials
            connection = keycloak.KeycloakOpenIDConnection(
                server_url=self._url,
                realm_name=said.realm,
                user_realm_name=said.realm,
                client_id=said.client,
                client_secret_key=said.secret,
                username=said.user,
                password=said.password,
                grant_type="password" if said.user is not None else "client_credentials",
                timeout=self._timeout,
                max_retries=0,
            )
            for one in (connection, connection.keycloak_openid.connection):
                await self._bind(one)
            self._admin = keycloak.KeycloakAdmin(connection=connection)
        return self._admin

    async def _bind(self, connection: ConnectionManager) -> None:
        """Give the connection a client that follows no redirect and reads no endless answer."""
        await connection.async_s.aclose()
        connection.async_s = httpx.AsyncClient(
            verify=ssl.create_default_context(),
            follow_redirects=False,
            trust_env=False,
            limits=httpx.Limits(max_connections=4, max_keepalive_connections=2),
            event_hooks={"response": [_bound]},
        )

    async def _forget(self) -> None:
        admin, self._admin = self._admin, None
        if admin is not None:
            await admin.connection.keycloak_openid.connection.aclose()
            await admin.connection.aclose()


@contextmanager
def tolerated(status: int) -> Iterator[None]:
    """Go on when Keycloak answers with this status: what is asked for is so already."""
    try:
        yield
    except _errors() as error:
        if error.response_code != status:
            raise


class _NoKeycloak(BadGateway):
    """An answer of another shape than Keycloak's."""

    def __init__(self) -> None:
        super().__init__("Something answers in the identity provider's place that is no Keycloak")


def _of_library(error: BaseException) -> bool:
    """Whether python-keycloak has raised it: as it does at an answer of another type than it expects."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__", "").split(".")[0] == "keycloak"


def _errors() -> type[KeycloakError]:
    found: type[KeycloakError] = importlib.import_module("keycloak.exceptions").KeycloakError
    return found


class _Bounded(httpx.AsyncByteStream):
    """A body that ends with an error when it is too long."""

    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        length = 0
        async for chunk in self._stream:
            length += len(chunk)
            if length > _MOST_BYTES:
                raise httpx.ReadError("the answer is too long")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _bound(response: httpx.Response) -> None:
    assert isinstance(response.stream, httpx.AsyncByteStream)
    response.stream = _Bounded(response.stream)


def _ends_session(error: KeycloakError) -> bool:
    """Whether our own session is over in a way that python-keycloak does not mend by itself."""
    return error.response_code == 401 or b"invalid_grant" in _body(error)


def _translated(error: KeycloakError) -> ApiError:
    """Return our error. Keycloak's words are for administrators, and hold nothing secret."""
    status, words = error.response_code, _words(error)
    if status is None:
        cause = error.__cause__
        if isinstance(cause, httpx.ReadTimeout | httpx.WriteTimeout):
            return AuthUnavailable("The identity provider did not answer in time")
        return AuthUnavailable(f"The identity provider cannot be reached: {cause!r}")
    if status == 404 and words.startswith("Realm not found"):
        return NotFound(
            "The tenant has no realm at the identity provider: `byodpp tenants onboard` makes one"
        )
    if status == 404:
        return NotFound(f"The identity provider does not know it: {words}")
    if status == 409:
        return UniqueConflict(f"The identity provider has it already: {words}")
    if status in (502, 503, 504):
        return AuthUnavailable(f"The identity provider answered {status}")
    if status == 400 and b"invalid_grant" not in _body(error) and b"invalid_client" not in _body(error):
        return ValidationFailed(f"The identity provider refuses it: {words}")
    if status in (400, 401, 403):
        return BadGateway(f"The identity provider refuses our administrator: {status} {words}")
    return BadGateway(f"The identity provider failed: {status} {words}")


def _body(error: KeycloakError) -> bytes:
    return error.response_body or b""


def _words(error: KeycloakError) -> str:
    try:
        document: Any = json.loads(_body(error))
    except ValueError:
        return "no reason was given"
    if not isinstance(document, dict):
        return "no reason was given"
    said = document.get("errorMessage") or document.get("error_description") or document.get("error")
    return str(said)[:200]
