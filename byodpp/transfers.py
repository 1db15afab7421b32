"""Imports and exports over HTTP: `POST …/import`, its progress and its report, `GET …/export`.

In: a request that is authenticated and has the right to create, or to list. Out: what became of an
import, or a file that is sent as the database finds its rows. The file of an import is taken in as a
whole before the first row is written: a slow sender holds neither a connection nor a lock, and what it
is called by its hash is known. May reject: InvalidQuery, UnsupportedMediaType, PayloadTooLarge,
StorageFull, Forbidden (no right to update, for an upsert), and what the file deserves.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final
from urllib.parse import quote, unquote_to_bytes

from byodpp import wire
from byodpp.answering import origin_of
from byodpp.database import Database
from byodpp.definitions import ResourceDefinition
from byodpp.exceptions import (
    ApiError,
    Detail,
    Forbidden,
    InvalidQuery,
    Malformed,
    NotFound,
    StorageFull,
    UnsupportedMediaType,
    ValidationFailed,
    error_classes,
)
from byodpp.idempotency import read_key
from byodpp.negotiation import body_type
from byodpp.preconditions import RECORDS, refuse_tags
from byodpp.preferences import ROLLBACK, applied, preferences
from byodpp.requests import Request
from byodpp.responses import Answer, success
from byodpp.service import Service
from byodpp.suggestion import nearest
from byodpp.transfer.exports import Exporter, Wanted
from byodpp.transfer.formats import MEDIA_TYPES, READABLE, Format, format_of_type
from byodpp.transfer.imports import Importer, Order, Outcome
from byodpp.transfer.offered import import_address
from byodpp.transfer.options import EXPORT_WORDS, ExportOptions, ImportOptions, export_options, import_options
from byodpp.transfer.orders import Asked, identity_of, order_of
from byodpp.transfer.progress import Identity, Progress, find, rejects
from byodpp.transfer.queries import export_query

__all__ = ["TransferBounds", "Transfers"]

#: Parts of a file that are written to disk at once.
_PART_BYTES: Final = 1 << 20
_REPORT_ROWS: Final = 1_000
#: Words of the progress of an import.
_WORDS: Final = ("key", "report")
_TYPES: Final = {media_type: one for one, types in MEDIA_TYPES.items() for media_type in types}


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferBounds:
    """How large the file of an import may be, and how long it may take to arrive."""

    file_bytes: int
    record_bytes: int
    json_depth: int
    body_seconds: float


@dataclass(slots=True, kw_only=True)
class _Received:
    """A file that has arrived."""

    file: BinaryIO  # on disk and without a name: it goes with the process
    size: int
    hash: str


class Transfers:
    """Imports and exports of one resource, as handlers of requests."""

    def __init__(
        self,
        resource: ResourceDefinition,
        service: Service,
        database: Database,
        importer: Importer,
        exporter: Exporter,
        bounds: TransferBounds,
    ) -> None:
        self.resource = resource
        self.bounds = bounds
        self._parts = service.parts
        self._database = database
        self._importer = importer
        self._exporter = exporter

    # --- imports ----------------------------------------------------------------------

    async def run_import(self, request: Request) -> Answer:
        """POST a file."""
        format = self._judged_type(request)
        options = import_options(_given(request.query_string), self.resource)
        self._refuse_upsert(request, options)
        refuse_tags(request.header(b"if-match"), RECORDS)
        key = read_key(request.header(b"idempotency-key"))
        received = await self._received(request)
        try:
            kept = ROLLBACK not in preferences(request.header(b"prefer"))
            order = order_of(
                self._asked(request), options, format, file_hash=received.hash, key=key, kept=kept
            )
            outcome = await self._importer.run(order, received.file, received.size)
        finally:
            received.file.close()
        return self._answer(request, order, outcome)

    async def progress(self, request: Request) -> Answer:
        """GET how far an import has come, or its report: every refusal that is kept of it, a line each."""
        given = _given(request.query_string)
        key, wants_report = _progress_words(given)
        identity, found = await self._found(request, key)
        if not wants_report:
            return success(request, _told(identity, found, self.resource))
        media_type = MEDIA_TYPES[Format.NDJSON][0]
        return Answer(body=self._report(request, found), media_type=media_type, finite=True)

    def _judged_type(self, request: Request) -> Format:
        """Return the format of the file.

        Raises:
            Malformed: there is none.
            UnsupportedMediaType: it is compressed, or not of a known type.
        """
        if not request.has_body:
            raise Malformed("The file is missing: send it as the body.")
        coding = request.header(b"content-encoding")
        if coding is not None and coding.strip().lower() != "identity":
            headers = {"Accept-Encoding": "identity"}
            raise UnsupportedMediaType("Compressed files are not accepted.", headers=headers)
        format = format_of_type(body_type(request.header(b"content-type")))
        if format not in READABLE:
            accepted = ", ".join(MEDIA_TYPES[one][0] for one in READABLE)
            told = f"The file must be {accepted} in UTF-8; Content-Type says which."
            raise UnsupportedMediaType(told, headers={"Accept": accepted})
        assert format is not None
        return format

    def _refuse_upsert(self, request: Request, options: ImportOptions) -> None:
        if options.operation != "upsert":
            return
        if not self._parts.authorizer.decide(request.principal, self.resource, "update").allowed:
            raise Forbidden(f"You have no right to update {self.resource.name}.")

    async def _received(self, request: Request) -> _Received:
        """Take in the file.

        Raises:
            PayloadTooLarge, RequestTimeout, ClientGone: as for any body.
            StorageFull: there is no room for it.
        """
        file, digest, size = tempfile.TemporaryFile(), hashlib.sha256(), 0
        part = bytearray()
        try:
            async for piece in request.stream(self.bounds.file_bytes, seconds=self.bounds.body_seconds):
                part += piece
                size += len(piece)
                if len(part) >= _PART_BYTES:
                    await asyncio.to_thread(_keep, file, digest, bytes(part))
                    part.clear()
            await asyncio.to_thread(_keep, file, digest, bytes(part))
        except OSError as error:
            file.close()
            raise StorageFull("There is no room for the file.") from error
        except BaseException:
            file.close()
            raise
        return _Received(file=file, size=size, hash=digest.hexdigest())

    def _asked(self, request: Request) -> Asked:
        return Asked(
            principal=request.principal,
            decision=request.decision,
            origin=origin_of(request),
            resource=self.resource,
            record_bytes=self.bounds.record_bytes,
            json_depth=self.bounds.json_depth,
            parts=self._parts,
        )

    async def _found(self, request: Request, key: str) -> tuple[Identity, Progress]:
        """Return the import of a key: the caller's own, or anybody's by the hash of its file.

        Raises:
            NotFound: there is none.
        """
        async with self._database.transaction(request.principal.session, read_only=True) as transaction:
            for shared in (False, True):
                identity = identity_of(request.principal, self.resource, key, shared=shared)
                found = await find(transaction, identity)
                if found is not None:
                    return identity, found
        raise NotFound("There is no such import, or it is too long ago.")

    async def _report(self, request: Request, progress: Progress) -> AsyncIterator[bytes]:
        after = 0
        while True:
            async with self._database.transaction(request.principal.session, read_only=True) as transaction:
                found = await rejects(transaction, progress, after=after, most=_REPORT_ROWS)
            if not found:
                return
            after = found[-1].record
            yield b"".join(wire.dumps(one.told()) + b"\n" for one in found)

    def _answer(self, request: Request, order: Order, outcome: Outcome) -> Answer:
        progress = outcome.progress
        if progress.fault is not None:
            raise _unreadable(progress, outcome.written)
        if order.atomic and order.kept and not outcome.written:
            raise _nothing_imported(outcome)
        data = _told(order.identity, progress, self.resource) | {
            "repeated": outcome.repeated,
            "errors": [one.told() for one in outcome.rejects],
        }
        headers = {}
        if outcome.repeated:
            headers["Idempotency-Replayed"] = "true"
        if not order.kept:
            headers["Preference-Applied"] = applied(None, ROLLBACK)
            data = {name: value for name, value in data.items() if name not in ("key", "report")}
        return success(request, data, headers=headers)

    # --- exports ----------------------------------------------------------------------

    async def export(self, request: Request) -> Answer:
        """GET a file of all rows that a query finds."""
        given, rest = _parted(request.query_string)
        options = export_options(given)
        format = options.format or _TYPES[request.response_type]
        wanted = self._wanted(request, format, options, rest)
        stream = self._exporter.stream(wanted)
        try:
            first = await anext(stream)  # refusals come before the answer has begun
        except BaseException:
            await stream.aclose()
            raise
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        name = f"{self.resource.segment}-{moment}.{format.value}"
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
        file = _rest(first[0], stream)
        return Answer(headers=headers, body=file, media_type=MEDIA_TYPES[format][0], finite=True)

    def _wanted(
        self, request: Request, format: Format, options: ExportOptions, query_string: bytes
    ) -> Wanted:
        principal, reader = request.principal, self._parts.store.reader
        lookup = self._parts.authorizer.lookup(principal, self.resource)
        query = export_query(query_string, self.resource, reader, lookup, principal.tenant_id, format)
        return Wanted(
            principal=principal,
            origin=origin_of(request),
            resource=self.resource,
            query=query,
            lookup=lookup,
            format=format,
            closing=options.closing,
        )


def _keep(file: Any, digest: Any, part: bytes) -> None:
    file.write(part)
    digest.update(part)


async def _rest(first: bytes, stream: AsyncGenerator[tuple[bytes, int], None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(stream):
        yield first
        async for part, _ in stream:
            yield part


# --- parameters ---------------------------------------------------------------------------


def _given(query_string: bytes) -> dict[str, str]:
    """Return the parameters of an import.

    Raises:
        InvalidQuery: they cannot be read, or one comes twice.
    """
    given, rest = _parted(query_string, everything=True)
    assert not rest
    return given


def _parted(query_string: bytes, *, everything: bool = False) -> tuple[dict[str, str], bytes]:
    """Take the words of files out of a query string; return them, and what is left of it."""
    given: dict[str, str] = {}
    rest = []
    for piece in query_string.split(b"&") if query_string else ():
        name, _, value = piece.partition(b"=")
        word = name.decode("latin-1")
        if not (everything or word in EXPORT_WORDS):
            rest.append(piece)
            continue
        if word in given:
            raise InvalidQuery(details=[Detail(word[:100], "repeated", "This parameter comes twice.")])
        given[word] = _decoded(value, word)
    return given, b"&".join(rest)


def _decoded(value: bytes, name: str) -> str:
    try:
        return unquote_to_bytes(value.replace(b"+", b" ")).decode()
    except UnicodeDecodeError:
        raise InvalidQuery(details=[Detail(name[:100], "format", "Is not valid UTF-8.")]) from None


def _progress_words(given: Mapping[str, str]) -> tuple[str, bool]:
    """Return the key that is asked for, and whether its report is wanted."""
    details = [
        Detail(name[:100], "unknown_parameter", f"There is no such parameter here. {nearest(name, _WORDS)}")
        for name in given
        if name not in _WORDS
    ]
    if "key" not in given:
        details.append(Detail("key", "required", "Name the import by its key."))
    if given.get("report", "true") not in ("true", "false"):
        details.append(Detail("report", "enum", "Must be one of true, false."))
    if details:
        raise InvalidQuery(details=details[:100])
    return given["key"], given.get("report") == "true"


# --- answers ------------------------------------------------------------------------------


def _told(identity: Identity, progress: Progress, resource: ResourceDefinition) -> dict[str, Any]:
    return {
        "key": identity.key,
        "state": progress.state,
        "records": progress.records,
        "created": progress.created,
        "updated": progress.updated,
        "rejected": progress.rejected,
        "resumed": progress.resumed,
        "fault": None if progress.fault is None else dict(progress.fault),
        "report": f"{import_address(resource)}?key={quote(identity.key, safe='')}&report=true",
    }


def _unreadable(progress: Progress, written: bool) -> ApiError:
    """Return the refusal of a file that could not be read to its end."""
    fault = progress.fault or {}
    error, line = fault["error"], fault["line"]
    done = progress.created + progress.updated if written else 0
    rows = "1 row before it was" if done == 1 else f"{done} rows before it were"
    before = f" {rows} imported." if done else " Nothing was imported."
    kind = next((one for one in error_classes() if one.code == error["code"]), Malformed)
    details = [Detail(one["field"], one["code"], one["message"]) for one in error["details"]]
    return kind(f"Line {line}: {error['message']}{before}", details=details)


def _nothing_imported(outcome: Outcome) -> ApiError:
    """Return the refusal of a file of which some record was refused, where it was all or none."""
    progress = outcome.progress
    details = []
    for one in outcome.rejects:
        for detail in one.error["details"] or [
            {"field": "", "code": one.error["code"], "message": one.error["message"]}
        ]:
            field = f"{one.record}.{detail['field']}".strip(".")
            details.append(Detail(field, detail["code"], f"{detail['message']} (line {one.line})"))
    told = f"{progress.rejected} of {progress.records} records were refused; nothing was imported."
    return ValidationFailed(told, details=details[:100])
