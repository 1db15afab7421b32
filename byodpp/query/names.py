"""Which names of a resource a caller may use, and everything found while judging one query.

A name that the caller may not read is answered exactly as one that does not exist: both are
missing from the mappings made here, and suggestions are taken from these mappings only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from byodpp.conditions import Lookup, Parameter
from byodpp.definitions import Bounds, FieldDefinition, Kind, RelationDefinition, ResourceDefinition
from byodpp.exceptions import Detail, InvalidQuery, QueryTooComplex
from byodpp.registry import Registry
from byodpp.suggestion import nearest

__all__ = ["Judgement", "Names", "closed"]

#: Faults reported at most; a hostile query must not make a long answer.
MAX_FAULTS: Final = 50
#: Faults that get a suggestion; each costs a comparison with every known name.
MAX_SUGGESTIONS: Final = 10


@dataclass(frozen=True, slots=True)
class Names:
    """What a caller may name of one resource."""

    fields: Mapping[str, FieldDefinition]
    relations: Mapping[str, RelationDefinition]


def closed(definition: FieldDefinition) -> str:
    """Return why a field that may be read may not be filtered or sorted by, and what opens it."""
    if definition.encrypted:
        return f"{definition.name!r} is encrypted: the database cannot compare it."
    if (
        definition.index
        or definition.trigram
        or definition.unique is not None
        or definition.references is not None
    ):
        return f'{definition.name!r} is declared "filterable": false.'
    return f'{definition.name!r} has no index; add "index": true or "filterable": true to the field.'


@dataclass(slots=True)
class Judgement:
    """Values, faults and touched resources of one query while it is judged."""

    registry: Registry
    lookup: Lookup | None  # None: a trusted author, who may name everything
    bounds: Bounds
    values: list[Any] = field(default_factory=list)
    touched: set[tuple[str, str]] = field(default_factory=set)
    terms: int = 0  # comparisons so far
    _faults: list[Detail] = field(default_factory=list)
    _too_complex: bool = False
    _names: dict[tuple[str, str], Names | None] = field(default_factory=dict)

    def parameter(self, value: Any) -> Parameter:
        """Keep a value and return its place."""
        self.values.append(value)
        return Parameter(len(self.values) - 1)

    def names(self, resource: ResourceDefinition) -> Names | None:
        """Return what may be named of a resource, None when it may not be read at all."""
        if resource.id not in self._names:
            fields = self._fields(resource)
            found = None if fields is None else Names(fields, self._relations(resource, fields))
            self._names[resource.id] = found
        return self._names[resource.id]

    def target(self, resource: ResourceDefinition, relation: RelationDefinition) -> ResourceDefinition:
        """Return where a relation leads, and remember that it is read."""
        target = self.registry.target(resource, relation)
        self.touched.add(target.id)
        return target

    def declare(self, resource: ResourceDefinition, names: Names) -> None:
        """Say what may be named of a resource that is no caller's to read: groups of rows."""
        self._names[resource.id] = names

    def field_at(
        self, name: str, resource: ResourceDefinition, parameter: str
    ) -> tuple[tuple[str, ...], FieldDefinition] | None:
        """Follow a dotted name through to-one relations to a field; None after noting a fault."""
        if name.count(".") > self.bounds.max_include_depth:
            self.excess(parameter, f"{name[:100]!r} leads through too many relations.")
            return None
        path, resource, last, definition = self._followed(name, resource)
        if definition is not None:
            return path, definition
        names = self.names(resource)
        if names is not None and last in names.fields:  # a field, and the name goes on behind it
            self.inside(parameter, names.fields[last])
        elif names is not None and last in names.relations:
            self._relation(parameter, names.relations[last])
        else:
            self.unknown(parameter, "unknown_field", "field", last, tuple(names.fields) if names else ())
        return None

    def inside(self, parameter: str, definition: FieldDefinition) -> None:
        """Note that a name leads into a field where fields and relations are meant."""
        told = f"{definition.name!r} has no values inside it."
        if definition.type.document:
            told = f"Values inside {definition.name!r} are for filters; here a field of its own is needed."
        self.fault(parameter, "unknown_field", told)

    def _relation(self, parameter: str, relation: RelationDefinition) -> None:
        """Note that a name ends at a relation, or leads on behind one, where one value is meant."""
        told = f"{relation.name!r} leads to many rows: here a field of a single row is needed."
        if not relation.many:
            told = f"{relation.name!r} is a relation: name a field of its row, such as {relation.name}.id."
        self.fault(parameter, "unknown_field", told)

    def leads(self, name: str, resource: ResourceDefinition) -> bool:
        """Whether a dotted name leads to a field that may be named; notes nothing."""
        return name.count(".") <= self.bounds.max_include_depth and bool(self._followed(name, resource)[3])

    def _followed(
        self, name: str, resource: ResourceDefinition
    ) -> tuple[tuple[str, ...], ResourceDefinition, str, FieldDefinition | None]:
        """Return the relations of a dotted name, where they end, the word there, and the field, if any."""
        *path, last = name.split(".")
        for step in path:
            names = self.names(resource)
            relation = names.relations.get(step) if names is not None else None
            if relation is None or relation.many:
                return tuple(path), resource, step, None
            resource = self.target(resource, relation)
        names = self.names(resource)
        return tuple(path), resource, last, names.fields.get(last) if names is not None else None

    def _fields(self, resource: ResourceDefinition) -> Mapping[str, FieldDefinition] | None:
        if self.lookup is None:
            return resource.fields
        visibility = self.lookup(resource)
        if visibility is None:
            return None
        return {
            name: definition
            for name, definition in resource.fields.items()
            if name in visibility.fields and not definition.write_only
        }

    def _relations(
        self, resource: ResourceDefinition, fields: Mapping[str, FieldDefinition]
    ) -> dict[str, RelationDefinition]:
        """Return the relations whose both ends may be read: following one tells the reference."""
        found = {}
        for name, relation in resource.relations.items():
            target = self.registry.target(resource, relation)
            ends = self._fields(target)
            if ends is None or target.kind is Kind.LOGIC:
                continue
            near = relation.local_field == "id" or relation.local_field in fields
            far = relation.foreign_field == "id" or relation.foreign_field in ends
            if near and far:
                found[name] = relation
        return found

    # --- faults ---

    def fault(self, parameter: str, code: str, message: str) -> None:
        """Note that something is wrong; judging goes on."""
        if len(self._faults) < MAX_FAULTS:
            self._faults.append(Detail(parameter[:200], code, message))

    def unknown(
        self,
        parameter: str,
        code: str,
        what: str,
        name: str,
        known: Mapping[str, Any] | tuple[str, ...],
        meant: str = "",
    ) -> None:
        """Note a name that does not exist, or that the caller may not know to exist.

        Args:
            parameter: where it stands.
            code: of the fault.
            what: it should be.
            name: as it was written.
            known: those there are.
            meant: what is compared with them; empty is the name.
        """
        if len(self._faults) >= MAX_FAULTS:
            return
        hint = nearest(meant or name, known) if len(self._faults) < MAX_SUGGESTIONS else ""
        self.fault(parameter, code, f"There is no {what} {name[:100]!r} here. {hint}".rstrip())

    def excess(self, parameter: str, message: str) -> None:
        """Note that a bound is passed."""
        self._too_complex = True
        self._faults.insert(0, Detail(parameter[:200], "too_complex", message))

    def stop(self, parameter: str, message: str) -> None:
        """Refuse at once: going on would be costly."""
        self.excess(parameter, message)
        self.finish()

    def finish(self) -> None:
        """Raise everything found, if anything was.

        Raises:
            QueryTooComplex: a bound was passed.
            InvalidQuery: only other faults were found.
        """
        if self._too_complex:
            raise QueryTooComplex(details=self._faults)
        if self._faults:
            raise InvalidQuery(details=self._faults)
