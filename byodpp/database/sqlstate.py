"""What a database error means to a client: the only table of SQLSTATEs.

In: whatever asyncpg, its pool or the operating system raised. Out: an ApiError that tells
nothing of the inside. Besides status and code the error carries, for the stages above:
``sqlstate``, ``constraint``, ``table``, ``column`` (texts, empty when unknown) and
``retryable`` (the whole transaction may be run again).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

import asyncpg

from byodpp.exceptions import (
    ApiError,
    Conflict,
    Detail,
    Forbidden,
    InternalError,
    OutcomeUnknown,
    QueryTimeout,
    ReadOnlyCopy,
    ReferencedConflict,
    StorageFull,
    TenantMoving,
    Unavailable,
    UniqueConflict,
    ValidationFailed,
)

__all__ = ["is_connection_loss", "is_retryable", "translate"]

_log = logging.getLogger(__name__)

# SQLSTATE -> code of the detail. Validation should have caught each of these, so each is logged.
_VALUE_FAULTS: Final = {
    "22000": "type",  # data_exception; asyncpg's own, for an argument that does not fit its type
    "22001": "too_long",  # string_data_right_truncation
    "22003": "out_of_range",  # numeric_value_out_of_range
    "22007": "format",  # invalid_datetime_format
    "22008": "out_of_range",  # datetime_field_overflow
    "22012": "out_of_range",  # division_by_zero
    "22021": "format",  # character_not_in_repertoire: U+0000 in text
    "22023": "out_of_range",  # invalid_parameter_value
    "22030": "format",  # duplicate_json_object_key_value
    "22032": "format",  # invalid_json_text
    "2201B": "pattern",  # invalid_regular_expression
    "2201W": "out_of_range",  # invalid_row_count_in_limit_clause
    "2201X": "out_of_range",  # invalid_row_count_in_result_offset_clause
    "22P02": "format",  # invalid_text_representation
    "22P03": "format",  # invalid_binary_representation
    "22P05": "format",  # untranslatable_character: U+0000 in jsonb
    "23502": "required",  # not_null_violation
    "23514": "invalid",  # check_violation
    "54000": "too_long",  # program_limit_exceeded: an index row
    "54001": "too_deep",  # statement_too_complex: jsonb nested too deeply
    "54011": "too_many",  # too_many_columns
    "54023": "too_many",  # too_many_arguments
}
_TOO_LONG: Final = (
    "A value is too long for the index that it is kept in, or what was asked for is more than PostgreSQL puts"
    " together, which is 1 GB."
)
# Connection lost or refused; any of these during COMMIT leaves its outcome unknown.
_LOST: Final = ("08", "57P01", "57P02", "57P03", "57P04", "57P05", "25P03", "25P04", "58")
# The server said no before it did anything.
_SHORT_OF_MEANS: Final = ("53",)
#: object_not_in_prerequisite_state: said with FATAL, the database takes no connections at the moment.
_NO_CONNECTIONS: Final = "55000"
_RETRYABLE: Final = frozenset({"40001", "40P01"})


def translate(error: BaseException, *, committing: bool = False, deleting: bool = False) -> ApiError:
    """Return the answer to a client for a driver error.

    Args:
        error: as raised by asyncpg, its pool, or the socket.
        committing: COMMIT had been sent, so a lost connection leaves the outcome unknown.
        deleting: the statement was a DELETE, so a foreign key means "still referenced".

    Returns:
        An ApiError whose cause the caller sets (``raise translate(error) from error``).
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, asyncpg.PostgresError):
        answer = _of_server(error, committing=committing, deleting=deleting)
    else:
        answer = _of_client(error, committing=committing)
    vars(answer).update(
        sqlstate=_text(error, "sqlstate"),
        constraint=_text(error, "constraint_name"),
        table=_text(error, "table_name"),
        column=_text(error, "column_name"),
        retryable=is_retryable(error),
    )
    return answer


def is_retryable(error: BaseException) -> bool:
    """Tell whether running the whole transaction again may succeed; takes driver and API errors."""
    if isinstance(error, ApiError):
        return bool(getattr(error, "retryable", False))
    if isinstance(error, (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError)):
        return True
    return _text(error, "sqlstate") in _RETRYABLE


def is_connection_loss(error: BaseException) -> bool:
    """Tell whether the connection died, rather than the statement failed."""
    if isinstance(error, asyncpg.PostgresError):
        return _is_lost(error)
    if isinstance(error, asyncpg.InterfaceError):
        # asyncpg has no class of its own for these: "connection is closed", "the underlying connection
        # is closed", and "... has been released back to the pool" once the pool has noticed.
        return "closed" in str(error) or "released back" in str(error)
    if isinstance(error, asyncpg.InternalClientError):
        # The server said farewell (FATAL) to an idle connection whose end has not been noticed yet.
        return "cannot switch to state" in str(error)
    return isinstance(error, OSError) and not isinstance(error, TimeoutError)


def _is_lost(error: asyncpg.PostgresError) -> bool:
    state = _text(error, "sqlstate")
    closed = state == _NO_CONNECTIONS and _text(error, "severity_en") == "FATAL"
    return closed or state.startswith(_LOST)


# --- errors that the server sent ----------------------------------------------------------


def _of_server(error: asyncpg.PostgresError, *, committing: bool, deleting: bool) -> ApiError:
    state = _text(error, "sqlstate")
    if isinstance(error, asyncpg.InvalidCachedStatementError):
        return Unavailable("The data model is changing; try again.")
    if state in _VALUE_FAULTS:
        return _value_fault(error, state)
    if make := _BY_STATE.get(state):
        return make()
    if state == "23503":
        return _broken_reference(error, committing=committing, deleting=deleting)
    if state == "42501":
        return _refused_by_policy(error)
    if _is_lost(error):
        return _lost(error, committing=committing)
    if state.startswith(_SHORT_OF_MEANS):
        return _unavailable(error)
    if state.startswith("22"):
        return _value_fault(error, state)
    return _unexpected(error)


_BY_STATE: Final[dict[str, Callable[[], ApiError]]] = {
    "23505": UniqueConflict,
    "23P01": UniqueConflict,  # exclusion_violation
    "23001": ReferencedConflict,  # restrict_violation: on delete restrict, since PostgreSQL 18
    "40001": lambda: Conflict("Another request changed the same data at the same time; try again."),
    "40P01": lambda: Conflict("Another request changed the same data at the same time; try again."),
    "53100": lambda: StorageFull("The database has no room left."),
    "55P03": lambda: QueryTimeout("Another request holds what this one needs; try again."),
    "BY002": ReadOnlyCopy,  # our own, from the triggers that keep copies of other databases' rows
    "BY001": TenantMoving,  # our own, from the triggers that hold a tenant's writes while it moves
    "57014": QueryTimeout,  # statement timeout, or cancelled by an operator
}


def _value_fault(error: asyncpg.PostgresError, state: str) -> ApiError:
    _log.warning("validation gap: PostgreSQL refused a value (%s, %s)", state, type(error).__name__)
    code = _VALUE_FAULTS.get(state, "invalid")
    field = _text(error, "column_name")
    detail = Detail(field, code, "The database does not take this value.")
    return ValidationFailed(_TOO_LONG if state == "54000" else None, details=[detail])


def _broken_reference(error: asyncpg.PostgresError, *, committing: bool, deleting: bool) -> ApiError:
    if deleting:
        return ReferencedConflict()
    if committing:  # a deferred constraint: which of the statements broke it is not known any more
        return Conflict("The change refers to what does not exist, or removes what others refer to.")
    # One wording for "does not exist" and "is another tenant's".
    detail = Detail(_text(error, "column_name"), "reference", "There is nothing with this id.")
    return ValidationFailed(details=[detail])


def _refused_by_policy(error: asyncpg.PostgresError) -> ApiError:
    # The same SQLSTATE means a missing GRANT, which is our fault; the server's source function
    # tells them apart whatever language its messages are in.
    if _text(error, "server_source_function") == "ExecWithCheckOptions":
        return Forbidden()
    return _unexpected(error)


# --- errors that never reached the server, or never came back -----------------------------


def _of_client(error: BaseException, *, committing: bool) -> ApiError:
    if isinstance(error, (UnicodeError, OverflowError, RecursionError)):
        _log.warning("validation gap: an argument does not fit its type (%s)", type(error).__name__)
        return ValidationFailed(details=[Detail("", "type", "The database does not take this value.")])
    if isinstance(error, asyncpg.OutdatedSchemaCacheError):
        return Unavailable("The data model is changing; try again.")
    if isinstance(error, TimeoutError):
        # During COMMIT nobody knows; else the statement was cancelled and the transaction rolled back.
        return OutcomeUnknown() if committing else QueryTimeout()
    if is_connection_loss(error):
        return _lost(error, committing=committing)
    return _unexpected(error)


def _lost(error: BaseException, *, committing: bool) -> ApiError:
    if committing:
        _log.error("connection lost during commit: %s", type(error).__name__)
        return OutcomeUnknown()
    return _unavailable(error)


def _unavailable(error: BaseException) -> ApiError:
    _log.debug("database not available: %s: %s", type(error).__name__, error)
    return Unavailable("The database is not available for the moment.")


def _unexpected(error: BaseException) -> ApiError:
    _log.error("unexpected database error: %s", error, exc_info=error)
    return InternalError()


def _text(error: BaseException, attribute: str) -> str:
    value: Any = getattr(error, attribute, None)
    return value if isinstance(value, str) else ""
