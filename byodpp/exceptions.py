"""The exception family: one class per way of refusing, one place to see them all.

::

    ByoDppError
    ├── StartError                 something is wrong before the first request
    │   ├── SettingsError          an environment variable or a YAML value
    │   ├── ManifestError          resources.json, all mistakes at once
    │   ├── ExtensionError         a logic or schema class that fits nowhere
    │   ├── MigrationError         the database and the manifest do not fit
    │   └── DatabaseStartError     no server, wrong role, wrong password
    └── ApiError                   an answer to a client
        ├── Malformed         400  MalformedJson, InvalidEncoding, DuplicateKey, TooDeep,
        │                          FileNotWhole, InvalidQuery, QueryTooComplex, InvalidHeader,
        │                          UnsupportedVersion
        ├── Unauthenticated   401
        ├── Forbidden         403  QuotaExceeded
        ├── NotFound          404
        ├── MethodNotAllowed  405
        ├── NotAcceptable     406
        ├── RequestTimeout    408
        ├── Conflict          409  UniqueConflict, ReferencedConflict, StateConflict, IdempotencyInProgress
        ├── PreconditionFailed 412
        ├── PayloadTooLarge   413
        ├── UriTooLong        414
        ├── UnsupportedMediaType 415
        ├── ValidationFailed  422  IdempotencyKeyReused
        ├── PreconditionRequired 428, TooManyRequests 429, HeadersTooLarge 431
        ├── InternalError     500
        ├── BadGateway        502
        ├── Unavailable       503  AuthUnavailable, QueryTimeout, OutcomeUnknown
        └── StorageFull       507

The docstring of a leaf is its default message. ``status`` and ``code`` are part of the
contract: clients branch on ``code``, so a code is never renamed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

__all__ = [
    "ApiError",
    "AuthUnavailable",
    "BadGateway",
    "ByoDppError",
    "Conflict",
    "DatabaseStartError",
    "Detail",
    "DuplicateKey",
    "ExtensionError",
    "FileNotWhole",
    "Forbidden",
    "HeadersTooLarge",
    "IdempotencyInProgress",
    "IdempotencyKeyReused",
    "InternalError",
    "InvalidEncoding",
    "InvalidHeader",
    "InvalidQuery",
    "Malformed",
    "MalformedJson",
    "ManifestError",
    "MethodNotAllowed",
    "MigrationError",
    "NotAcceptable",
    "NotFound",
    "OutcomeUnknown",
    "PayloadTooLarge",
    "PreconditionFailed",
    "PreconditionRequired",
    "Problem",
    "QueryTimeout",
    "QueryTooComplex",
    "QuotaExceeded",
    "ReferencedConflict",
    "RequestTimeout",
    "SettingsError",
    "StartError",
    "StateConflict",
    "StorageFull",
    "TooDeep",
    "TooManyRequests",
    "Unauthenticated",
    "Unavailable",
    "UniqueConflict",
    "UnsupportedMediaType",
    "UnsupportedVersion",
    "UriTooLong",
    "ValidationFailed",
    "error_classes",
]


class ByoDppError(Exception):
    """Root of everything this package raises on purpose."""


# --- before the first request ---------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake found at start."""

    path: str  # JSON path (`$.resources[3].fields.price`), file path, or setting name
    reason: str  # what is wrong and what was expected
    suggestion: str = ""  # what to do; empty when there is nothing better to say

    def __str__(self) -> str:
        tail = f"\n    {self.suggestion}" if self.suggestion else ""
        return f"{self.path}: {self.reason}{tail}"


class StartError(ByoDppError):
    """The application cannot start."""

    def __init__(self, problems: Iterable[Problem] | str) -> None:
        self.problems = (Problem("", problems),) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(str(problem).removeprefix(": ") for problem in self.problems))


class SettingsError(StartError):
    """A setting is missing, unknown, or out of range."""


class ManifestError(StartError):
    """The manifest holds mistakes; nothing was started."""


class ExtensionError(StartError):
    """A logic or schema class fits nowhere, or fits where another already is."""


class MigrationError(StartError):
    """The database and the manifest do not fit together."""


class DatabaseStartError(StartError):
    """The database cannot be reached or must not be used as it is."""


class DatabaseAway(DatabaseStartError):
    """The database is not there; waiting may help."""


# --- answers to a client --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Detail:
    """One fault of a request; several travel in one answer."""

    field: str  # dotted path in the body (`3.name`), or the parameter's name
    code: str  # stable word, e.g. `required`, `type`, `out_of_range`
    message: str  # for people


class ApiError(ByoDppError):
    """An answer to a client: status, stable code, message, and every fault found."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"

    # What `database` noted of the driver's error; empty for every other origin.
    sqlstate: str = ""
    constraint: str = ""  # name of the violated constraint
    table: str = ""
    column: str = ""
    retryable: bool = False  # the whole transaction may be run again
    #: What was refused inside a request that asks for several things: operation, resource, key of the row.
    about: tuple[str, Any, str | None] | None = None

    def __init__(
        self,
        message: str | None = None,
        *,
        details: Iterable[Detail] = (),
        headers: Mapping[str, str] | None = None,
        code: str | None = None,
    ) -> None:
        """Args:
        message: what went wrong, for people; the class's docstring when omitted.
        details: every fault found, in the order of the request.
        headers: extra response headers, e.g. `Retry-After`.
        code: a more precise code of the same status (logic classes bring their own words).
        """
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        self.details = tuple(details)
        self.headers: dict[str, str] = dict(headers or {})
        self.error_code = code or type(self).code
        super().__init__(self.message)


class Malformed(ApiError):
    """The request cannot be read."""

    status = 400
    code = "malformed_request"


class MalformedJson(Malformed):
    """The body is not well-formed JSON."""

    code = "malformed_json"


class InvalidEncoding(Malformed):
    """The request is not valid UTF-8."""

    code = "invalid_encoding"


class DuplicateKey(Malformed):
    """An object of the body names the same key twice."""

    code = "duplicate_key"


class TooDeep(Malformed):
    """The body is nested too deeply."""

    code = "too_deep"


class FileNotWhole(Malformed):
    """The file does not hold what its closing record tells."""

    code = "file_not_whole"


class InvalidQuery(Malformed):
    """The query asks for something that does not exist here."""

    code = "invalid_query"


class QueryTooComplex(Malformed):
    """The query passes a bound of this resource."""

    code = "query_too_complex"


class InvalidHeader(Malformed):
    """A header has a value that cannot be used."""

    code = "invalid_header"


class UnsupportedVersion(Malformed):
    """This API version is not supported."""

    code = "unsupported_version"


class Unauthenticated(ApiError):
    """A valid access token is required."""

    status = 401
    code = "unauthenticated"

    def __init__(
        self, message: str | None = None, *, error: str | None = None, unproven: bool = False, **kwargs: Any
    ) -> None:
        """Args:
        message: for people.
        error: the `error` word of RFC 6750 (`invalid_token`), absent when no token was sent.
        unproven: whether what was sent may be anybody's invention, not somebody's that is good no more.
        kwargs: as for ApiError.
        """
        super().__init__(message, **kwargs)
        self.unproven = unproven
        challenge = 'Bearer realm="byodpp"'
        self.headers.setdefault("WWW-Authenticate", f'{challenge}, error="{error}"' if error else challenge)


class Forbidden(ApiError):
    """You have no right to do this."""

    status = 403
    code = "forbidden"


class CrossSite(Forbidden):
    """The session's cookie was sent, but not by a page of this address."""

    code = "cross_site"


class QuotaExceeded(Forbidden):
    """Your organisation's class allows no more of this."""

    code = "quota_exceeded"


class NotFound(ApiError):
    """Nothing is found here."""

    status = 404
    code = "not_found"


class MethodNotAllowed(ApiError):
    """This method is not served here."""

    status = 405
    code = "method_not_allowed"


class NotAcceptable(ApiError):
    """None of the accepted media types can be served."""

    status = 406
    code = "not_acceptable"


class RequestTimeout(ApiError):
    """The request did not arrive in time."""

    status = 408
    code = "request_timeout"


class Conflict(ApiError):
    """The request conflicts with what is stored."""

    status = 409
    code = "conflict"


class UniqueConflict(Conflict):
    """A row with these values exists already."""

    code = "unique_conflict"


class ReferencedConflict(Conflict):
    """Other rows refer to this one."""

    code = "referenced_conflict"


class StateConflict(Conflict):
    """This step is not possible in the present state."""

    code = "state_conflict"


class ReadOnlyCopy(Conflict):
    """This row is a copy of one that is kept elsewhere: change it by a request of its own."""

    code = "read_only_copy"


class IdempotencyInProgress(Conflict):
    """A request with this Idempotency-Key is running."""

    code = "idempotency_in_progress"


class PreconditionFailed(ApiError):
    """The row has changed since it was read."""

    status = 412
    code = "precondition_failed"


class PayloadTooLarge(ApiError):
    """The body is larger than this route accepts."""

    status = 413
    code = "payload_too_large"


class UriTooLong(ApiError):
    """The address is longer than this server accepts."""

    status = 414
    code = "uri_too_long"


class UnsupportedMediaType(ApiError):
    """The body's media type is not supported here."""

    status = 415
    code = "unsupported_media_type"


class ValidationFailed(ApiError):
    """The body is well-formed but not valid."""

    status = 422
    code = "validation_failed"
    unlisted: int = 0  # faults beside the details, told by their number alone


class IdempotencyKeyReused(ValidationFailed):
    """This Idempotency-Key was used for another request."""

    code = "idempotency_key_reused"


class PreconditionRequired(ApiError):
    """This resource is written with If-Match only."""

    status = 428
    code = "precondition_required"


class TooManyRequests(ApiError):
    """The limit of requests is reached."""

    status = 429
    code = "rate_limited"


class HeadersTooLarge(ApiError):
    """The headers are larger than this server accepts."""

    status = 431
    code = "headers_too_large"


class InternalError(ApiError):
    """An unexpected error occurred."""


class BadGateway(ApiError):
    """A service behind this one gave no usable answer."""

    status = 502
    code = "bad_gateway"


class Unavailable(ApiError):
    """The service is not available for the moment."""

    status = 503
    code = "unavailable"
    wait_seconds: ClassVar[int] = 1  # before another try, where nobody knows better

    def __init__(
        self, message: str | None = None, *, retry_after_seconds: int | None = None, **kwargs: Any
    ) -> None:
        """Args:
        message: for people.
        retry_after_seconds: value of `Retry-After`, at least 1; the class's when omitted.
        kwargs: as for ApiError.
        """
        super().__init__(message, **kwargs)
        self.headers.setdefault("Retry-After", str(retry_after_seconds or type(self).wait_seconds))


class TenantMoving(Unavailable):
    """The tenant's rows are being moved, or brought up to date; try again."""

    code = "tenant_moving"
    wait_seconds = 5


class PlaceUnavailable(Unavailable):
    """The database of this tenant is not available for the moment."""

    code = "place_unavailable"
    wait_seconds = 5


class AuthUnavailable(Unavailable):
    """The identity provider cannot be reached."""

    code = "auth_unavailable"


class QueryTimeout(Unavailable):
    """The database took too long for this request."""

    code = "query_timeout"
    turn_of: int | None = None  # tenant whose users others write: the work may be done again in its turn


class OutcomeUnknown(Unavailable):
    """The connection was lost while the change was being committed."""

    code = "outcome_unknown"


class StorageFull(ApiError):
    """There is no room left to store this."""

    status = 507
    code = "storage_full"


def error_classes(root: type[ApiError] = ApiError) -> Iterator[type[ApiError]]:
    """Yield every answer class below `root`, parents before children."""
    for child in root.__subclasses__():
        yield child
        yield from error_classes(child)
