"""Judging: what the API's own schemas say of each record of a file.

In: a file, and a `Reading` that says how it is to be read. Out: `Chunk`s in the order of the file: the
good rows as PostgreSQL takes them, the refusals in the words of the API, and how far the file has been read.
Where more than the schema decides (a logic class, related rows, an upsert) the good records are left as
documents, for `imports` to run one by one. Never raises for what a file holds; what ends it early is
the `fault` of the last chunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

from byodpp.definitions import ResourceDefinition
from byodpp.exceptions import ApiError, Detail, Forbidden, ValidationFailed
from byodpp.fields import FieldFault
from byodpp.fields.strict_field import ReadOnlyField
from byodpp.ids import Ids
from byodpp.schemas import LoadedBody, SchemaMap
from byodpp.statements.staging import StagedRows, staged_fields
from byodpp.suggestion import nearest
from byodpp.transfer.cells import CellReader, cell_reader
from byodpp.transfer.columns import Columns
from byodpp.transfer.csv_records import EMPTY, CsvReader
from byodpp.transfer.formats import Format
from byodpp.transfer.json_records import JsonReader
from byodpp.transfer.ndjson_records import NdjsonReader
from byodpp.transfer.records import Reader, Record, Unreadable
from byodpp.transfer.xml_records import XmlReader
from byodpp.wire import weight

__all__ = ["Chunk", "Judge", "Reading", "Reject", "told"]

#: A chunk ends with this many records, or with so many bytes of rows and documents.
_RECORDS: Final = 4_000
_BYTES: Final = 1 << 20
_MOST_DETAILS: Final = 100
_MOST_NAMES: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a file is read; everything that decides what becomes of each record."""

    version: str  # of the API
    resource: str
    format: Format
    separator: str | None = None  # of CSV; None: the first line tells
    ignored: tuple[str, ...] = ()  # columns or members that are passed over
    empty_is_default: bool = False  # an empty cell takes the field's default instead of null
    escaped: bool = True  # an apostrophe before a formula is taken off
    barred: tuple[str, ...] = ()  # fields that the caller may write on no row
    preset: tuple[str, ...] = ()  # fields that rules fill in where a record says nothing
    versions: bool = False  # a record may name the version of the row that it replaces
    documents: bool = False  # every good record is to be left as a document
    skip: int = 0  # records that are done already
    most_bytes: int = 1 << 20  # of a record
    max_depth: int = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """A record that was refused."""

    record: int  # counted from 1
    line: int  # where it begins
    error: Mapping[str, Any]  # see `told`

    def told(self) -> dict[str, Any]:
        """Return it as a report tells it."""
        return {"record": self.record, "line": self.line, "error": dict(self.error)}


@dataclass(slots=True, kw_only=True)
class Chunk:
    """What was found in a piece of a file."""

    records: int = 0  # good or not
    line: int = 0  # where the last one begins, of this chunk or before it
    position: int = 0  # bytes of the file read so far
    rows: StagedRows | None = None  # those that only the database has still to judge
    documents: list[tuple[int, int, Any]] = field(default_factory=list)  # record, line, JSON value
    rejects: list[Reject] = field(default_factory=list)
    end: bool = False  # nothing follows
    fault: Reject | None = None  # why the rest of the file cannot be read


def told(error: ApiError) -> dict[str, Any]:
    """Return a refusal as an answer tells it."""
    return {
        "statusCode": error.status,
        "code": error.error_code,
        "message": error.message,
        "details": [
            {"field": one.field, "code": one.code, "message": one.message}
            for one in error.details[:_MOST_DETAILS]
        ],
    }


class Judge:
    """Judges the records of one file."""

    def __init__(self, resource: ResourceDefinition, schemas: SchemaMap, reading: Reading) -> None:
        """Args:
        resource: of the rows.
        schemas: of the application.
        reading: how the file is read.
        """
        self._resource = resource
        self._schemas = schemas
        self._reading = reading
        self._schema = schemas.schema(resource, "create")
        self._ignored = frozenset(reading.ignored)
        self._barred = frozenset(reading.barred)
        self._fields = staged_fields(resource)
        self._ids = Ids()
        self._columns: list[tuple[str, CellReader | None, bool]] = []  # name, its reader, may be null
        self._readers: dict[str, CellReader | None] = {}  # of texts, by the names met so far

    def chunks(self, file: BinaryIO) -> Iterator[Chunk]:
        """Yield what is in a file, from its beginning or behind what is done."""
        reader, chunk = self._reader(), self._collected()
        number, line = 0, 0
        try:
            for record in reader.records(file):
                number, line = number + 1, record.line
                if number == 1:
                    self._meet(reader)
                if number <= self._reading.skip:
                    continue
                self._judge(reader, record, number, chunk)
                if chunk.is_full():
                    yield chunk.closed(file.tell())
                    chunk = self._collected(line)
            if number == 0:
                self._meet(reader)
            if number < self._reading.skip:
                wrong = f"{self._reading.skip} records of this file were imported, and now it has {number}."
                raise Unreadable(ValidationFailed(wrong), line)
        except Unreadable as broken:
            chunk.fault = Reject(record=number + 1, line=broken.line, error=told(broken.error))
        last = chunk.closed(file.tell())
        last.end = True
        yield last

    def _collected(self, line: int = 0) -> _Collected:
        return _Collected(Columns(self._resource, self._fields), line=line)

    # --- the columns ------------------------------------------------------------------

    def _reader(self) -> Reader:
        reading = self._reading
        if reading.format is Format.CSV:
            known = frozenset((*self._schema.fields, *self._resource.fields, *self._ignored))
            return CsvReader(most_bytes=reading.most_bytes, known=known, separator=reading.separator)
        if reading.format is Format.XML:
            return XmlReader(most_bytes=reading.most_bytes)
        kind = JsonReader if reading.format is Format.JSON else NdjsonReader
        return kind(most_bytes=reading.most_bytes, max_depth=reading.max_depth)

    def _meet(self, reader: Reader) -> None:
        """Judge the names of the columns, before the first row is."""
        if isinstance(reader, CsvReader):
            self._check_names(reader.names)
            self._columns = [self._column(name) for name in reader.names]

    def _column(self, name: str) -> tuple[str, CellReader | None, bool]:
        reading, known = self._reading, self._schema.fields.get(name)
        definition = self._resource.fields.get(name)
        read = cell_reader(definition, max_depth=reading.max_depth, escaped=reading.escaped)
        nullable = known is not None and known.allow_none and not reading.empty_is_default
        return name, read, nullable

    def _check_names(self, names: Sequence[str]) -> None:
        details = [one for name in names if (one := self._fault_of_name(name)) is not None]
        for name, known in self._schema.fields.items():
            given = (name in names and name not in self._ignored) or name in self._reading.preset
            if known.required and not given:
                details.append(Detail(name, "required", "There is no column for this field."))
        if details:
            raise Unreadable(ValidationFailed("The columns do not fit.", details=details[:_MOST_DETAILS]), 1)
        if barred := [name for name in names if name in self._barred]:
            raise Unreadable(_forbidden(barred), 1)

    def _fault_of_name(self, name: str) -> Detail | None:
        known, shown = self._schema.fields.get(name), name[:100]
        if name in self._ignored or (name == "version" and self._reading.versions):
            return None
        if known is None:
            names = [
                one for one, field_ in self._schema.fields.items() if not isinstance(field_, ReadOnlyField)
            ]
            return Detail(shown, "unknown_field", f"Is not known here. {nearest(name, names)}".strip())
        if isinstance(known, ReadOnlyField):
            advice = f"Leave the column out, or pass it over: ignore={shown}"
            return Detail(shown, "read_only", f"Is set by the server and cannot be written. {advice}")
        return None

    # --- a record ---------------------------------------------------------------------

    def _judge(self, reader: Reader, record: Record, number: int, chunk: _Collected) -> None:
        chunk.count(record.line)
        if record.fault is not None:
            chunk.reject(number, record.line, record.fault)
            return
        try:
            value = self._value(reader, record)
            if self._reading.documents:
                chunk.document(number, record.line, value)
                return
            loaded = self._schemas.load(self._resource, "create", value)
            if self._barred and (barred := sorted(self._barred & loaded.sent)):
                raise _forbidden(barred)
            if loaded.nested:
                chunk.document(number, record.line, value)
                return
            if self._resource.key != "bigint":
                loaded.values.setdefault("id", self._ids.for_resource(self._resource))
            chunk.row(number, record.line, loaded)
        except ApiError as error:
            chunk.reject(number, record.line, error)

    def _value(self, reader: Reader, record: Record) -> Any:
        """Return a record as the body of a creation."""
        if isinstance(reader, CsvReader):
            found = self._read(
                (name, read, cell)
                for (name, read, nullable), cell in zip(self._columns, record.content, strict=True)
                if cell is not EMPTY or nullable
            )
        elif isinstance(reader, XmlReader):
            found = self._read((name, self._reader_of(name), text) for name, text in record.content.items())
        else:
            found = reader.value(record)
        if self._ignored and isinstance(found, dict):
            return {name: inner for name, inner in found.items() if name not in self._ignored}
        return found

    def _reader_of(self, name: str) -> CellReader | None:
        if name not in self._readers:
            if len(self._readers) > _MOST_NAMES:
                return None
            definition, reading = self._resource.fields.get(name), self._reading
            self._readers[name] = cell_reader(definition, max_depth=reading.max_depth, escaped=False)
        return self._readers[name]

    def _read(self, cells: Iterable[tuple[str, CellReader | None, str | None]]) -> dict[str, Any]:
        """Return the JSON values of cells by their names.

        Raises:
            ValidationFailed: with every cell that cannot be read.
        """
        found: dict[str, Any] = {}
        details: list[Detail] = []
        for name, read, cell in cells:
            if read is None or cell is None:
                found[name] = cell
                continue
            try:
                found[name] = read(cell)
            except FieldFault as fault:
                details.append(Detail(name, fault.code, str(fault)))
        if details:
            raise ValidationFailed(details=details)
        return found


@dataclass(slots=True)
class _Collected:
    """A chunk that is being filled."""

    columns: Columns
    count_: int = 0
    line: int = 0
    size: int = 0  # of what is no row
    records: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    sent: set[str] = field(default_factory=set)
    documents: list[tuple[int, int, Any]] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    fault: Reject | None = None

    def count(self, line: int) -> None:
        self.count_ += 1
        self.line = line

    def reject(self, number: int, line: int, error: ApiError) -> None:
        self.rejects.append(Reject(record=number, line=line, error=told(error)))
        self.size += 256 * (1 + min(len(error.details), _MOST_DETAILS))  # about what its words take

    def row(self, number: int, line: int, loaded: LoadedBody) -> None:
        self.columns.add(loaded.values)
        self.records.append(number)
        self.lines.append(line)
        self.sent |= loaded.sent

    def document(self, number: int, line: int, value: Any) -> None:
        self.documents.append((number, line, value))
        self.size += 256 + weight(value, _BYTES)

    def is_full(self) -> bool:
        return self.count_ >= _RECORDS or self.size + self.columns.size >= _BYTES

    def closed(self, position: int) -> Chunk:
        rows = None
        if self.records:
            rows = StagedRows(
                records=tuple(self.records),
                lines="{" + ",".join(map(str, self.lines)) + "}",
                columns=self.columns.taken(),
                sent=frozenset(self.sent),
            )
        return Chunk(
            records=self.count_,
            line=self.line,
            position=position,
            rows=rows,
            documents=self.documents,
            rejects=self.rejects,
            fault=self.fault,
        )


def _forbidden(names: Sequence[str]) -> Forbidden:
    told_ = "You may not write this field."
    return Forbidden(
        "You may not write these fields.", details=[Detail(one, "forbidden", told_) for one in names]
    )
