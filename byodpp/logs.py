"""Log lines: one JSON object per line on stdout, with secrets struck out.

In: records of the standard library's logging, and the access log's fields. Out: text in which
no value can start a new line or an escape sequence. Rejects nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable, Mapping
from contextvars import Context, ContextVar
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii
from typing import Any, Final
from urllib.parse import unquote_plus

__all__ = [
    "REQUEST_IDS",
    "JsonFormatter",
    "LineWriter",
    "configure_logging",
    "json_line",
    "json_text",
    "redacted",
    "redacted_query",
]

#: Words that mark a name whose value never reaches a log; compared without case, `_` and `-`.
_SECRET_WORDS: Final = (
    "password",
    "passwd",
    "token",
    "apikey",
    "secret",
    "authorization",
    "cookie",
    "credential",
)
_REDACTED: Final = "[REDACTED]"
#: Attributes that every log record has; the others were given by the caller as `extra`.
_ORDINARY: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "color_message",
    "taskName",
}

#: Kept, because making one per line costs more than using it.
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), default=str)

#: Request id and correlation id of the request that is being handled, for every line logged meanwhile.
REQUEST_IDS: ContextVar[tuple[str, str] | None] = ContextVar("byodpp_request_ids", default=None)


def json_line(fields: Mapping[str, Any]) -> str:
    """Write fields as one line of ASCII: line ends, escape signs and U+2028 are spelled out."""
    return _ENCODER.encode(fields).replace("\x7f", "\\u007f")


def json_text(text: str) -> str:
    """Write one text as `json_line` does."""
    return encode_basestring_ascii(text).replace("\x7f", "\\u007f")


class LineWriter:
    """Writes lines to stdout: those of one turn of the event loop with one system call.

    A line waits until the turn ends, which is when the callbacks that were ready with its own have run;
    it never waits for another request.
    """

    __slots__ = ("_context", "_lines")

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._context = Context()  # that of a request would be copied for nothing

    def __call__(self, line: str) -> None:
        """Write a line; at once where no event loop runs."""
        self._lines.append(line)
        if len(self._lines) == 1:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                self.flush()
            else:
                loop.call_soon(self.flush, context=self._context)

    def flush(self) -> None:
        """Write the lines that wait."""
        lines, self._lines = self._lines, []
        lines.append("")
        sys.stdout.write("\n".join(lines))
        sys.stdout.flush()


def _is_secret(name: str) -> bool:
    plain = name.lower().replace("_", "").replace("-", "")
    return any(word in plain for word in _SECRET_WORDS)


def redacted(value: Any) -> Any:
    """Return a copy in which the values of secret names, at any depth, are struck out."""
    if isinstance(value, Mapping):
        return {
            str(name): _REDACTED if _is_secret(str(name)) else redacted(inner)
            for name, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [redacted(inner) for inner in value]
    return value


def redacted_query(query: bytes) -> str:
    """Return a query string with the values of secret names struck out.

    A value that is itself JSON and mentions such a name is struck out as a whole.
    """
    parts = []
    for part in query.decode("latin-1").split("&"):
        name, equals, value = part.partition("=")
        decoded = unquote_plus(value)
        inside = decoded.lstrip().startswith(("{", "[", '"')) and _is_secret(decoded)
        parts.append(f"{name}={_REDACTED}" if equals and (inside or _is_secret(unquote_plus(name))) else part)
    return "&".join(parts)


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON line; `extra` fields are added, secrets struck out."""

    def format(self, record: logging.LogRecord) -> str:
        """Write the record, with its stack when it has one."""
        fields: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6]
            + "Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        ids = REQUEST_IDS.get()
        if ids is not None:
            fields["requestId"], fields["correlationId"] = ids
        extra = {name: value for name, value in vars(record).items() if name not in _ORDINARY}
        fields.update(redacted(extra))
        if record.exc_info:
            fields["stack"] = self.formatException(record.exc_info)
        return json_line(fields)


def configure_logging(level: str, *, write: Callable[[str], object] | None = None) -> None:
    """Send everything that is logged to stdout, as JSON. Called once per process, by the server.

    Args:
        level: debug, info, warning or error.
        write: takes a line instead of stdout.
    """
    handler = logging.StreamHandler(sys.stdout) if write is None else _Writing(write)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # What the server says about its start and stop, and clients about each request, is chatter.
    for name in ("uvicorn.error", "httpx", "httpx2"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


class _Writing(logging.Handler):
    """Hands lines to a function."""

    def __init__(self, write: Callable[[str], object]) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        self._write(self.format(record))
