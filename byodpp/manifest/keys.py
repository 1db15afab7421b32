"""What a draft says about its fields together: states, unique keys, indexes, search, relations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from types import MappingProxyType

from byodpp.definitions import (
    MISSING,
    FieldDefinition,
    Kind,
    RelationDefinition,
    StateMachine,
    Transition,
    UniqueKey,
    Within,
)
from byodpp.fields import FIELD_TYPES
from byodpp.grammar.shapes import Checker
from byodpp.grammar.values import Checked, Items
from byodpp.manifest.draft import Draft, Drafts
from byodpp.manifest.names import RESERVED_WORDS
from byodpp.suggestion import nearest

__all__ = ["make_relations", "read_keys", "read_states", "refer_back"]


def read_states(draft: Draft, checker: Checker) -> None:
    """Fill `Draft.states` and make its field the read-only enumeration that it is."""
    spec: Checked | None = draft.body.get("states")
    if spec is None or draft.kind is not Kind.DATABASE:
        return
    before = len(checker.problems)
    transitions = dict(_transitions(spec.get("transitions", {})))
    known = _check_state_names(spec, draft, checker)
    if "field" in spec.broken:
        return
    field = _state_field(spec, known, draft, checker)
    if len(checker.problems) > before or spec.broken or field is None:
        return
    draft.fields[field.name] = field
    draft.states = StateMachine(
        field=field.name, initial=spec["initial"], states=known, transitions=MappingProxyType(transitions)
    )


def _transitions(specs: dict[str, Checked]) -> Iterator[tuple[str, Transition]]:
    for name, spec in specs.items():
        if not spec.broken:
            sources = spec["from"]
            yield (
                name,
                Transition(
                    name=name,
                    sources=(sources,) if isinstance(sources, str) else tuple(sources),
                    target=spec["to"],
                    roles=tuple(spec.get("roles", ())),
                    event=spec.get("event"),
                ),
            )


def _check_state_names(spec: Checked, draft: Draft, checker: Checker) -> tuple[str, ...]:
    """Return all states; report those that are named nowhere else."""
    specs: dict[str, Checked] = spec.get("transitions", {})
    initial = [(spec["initial"], spec.at("initial"))] if "initial" in spec else []
    targets = [(one["to"], one.at("to")) for one in specs.values() if "to" in one]
    sources = [
        pair for one in specs.values() if "from" in one for pair in _located(one["from"], one.at("from"))
    ]
    listed = spec.get("enum") or _declared_enum(spec, draft)
    if listed is not None:
        for state, path in (*initial, *sources, *targets):
            if state not in listed:
                checker.report(path, f"there is no state {state!r}", nearest(state, map(str, listed)))
        return tuple(dict.fromkeys(map(str, listed)))
    # Without a list, a state is what something leads to: a misspelt source is one that nothing does.
    reached = dict.fromkeys(state for state, _ in (*initial, *targets))
    if (
        initial
        and not spec.broken
        and not getattr(specs, "broken", None)
        and not any(one.broken for one in specs.values())
    ):
        for state, path in sources:
            if state not in reached:
                checker.report(path, f"nothing leads to the state {state!r}", nearest(state, reached))
    return tuple(reached)


def _declared_enum(spec: Checked, draft: Draft) -> Items | None:
    fields = draft.body.get("fields") or {}
    declared: Items | None = fields.get(spec.get("field", "status"), {}).get("enum")
    return declared


def _located(value: str | Items, path: str) -> Iterable[tuple[str, str]]:
    return [(value, path)] if isinstance(value, str) else value.located()


def _state_field(
    spec: Checked, states: tuple[str, ...], draft: Draft, checker: Checker
) -> FieldDefinition | None:
    """Return the field that holds the state: the declared one made read-only, or a new one."""
    name = spec.get("field", "status")
    declared: Checked | None = (draft.body.get("fields") or {}).get(name)
    if declared is None:
        if name in (getattr(draft.body.get("fields"), "broken", None) or ()):
            return None
        field = FieldDefinition(
            name=name, column=draft.names[name], type=FIELD_TYPES["string"], path=spec.path
        )
    else:
        if declared.get("required"):
            reason = "the state field is set by the framework and cannot be required of a client"
            checker.report(declared.at("required"), reason, "Leave `required` out.")
        if "default" in declared and "initial" in spec and declared["default"] != spec["initial"]:
            reason = f"the default {declared['default']!r} is not the initial state {spec['initial']!r}"
            checker.report(
                declared.at("default"), reason, "Leave `default` out: a new row gets the initial state."
            )
        if declared.get("type", "string") not in ("string", "text"):
            checker.report(
                declared.at("type"), "a state is a string", 'Write "type": "string", or leave the field out.'
            )
        if declared.get("encrypted"):
            reason = "the state field cannot be encrypted: steps are judged by what it holds"
            checker.report(declared.at("encrypted"), reason, "Leave it out.")
        if name not in draft.fields:
            return None
        field = draft.fields[name]
    return replace(
        field,
        enum=states,
        required=False,
        nullable=False,
        read_only=True,
        filterable=True,
        default=spec.get("initial", MISSING),
    )


def read_keys(draft: Draft, checker: Checker) -> None:
    """Fill unique keys, indexes and search; what is indexed may be filtered by."""
    body = draft.body
    if draft.kind is Kind.LOGIC:
        return
    unique = list(_unique_keys(body.get("unique") or Items((), ""), draft, checker))
    _report_repeated_keys(unique, checker)
    draft.unique = tuple(key for key, _ in unique)
    draft.indexes = tuple(
        tuple(names)
        for names, path in (body.get("indexes") or Items((), "")).located()
        if _check_names(names, draft, checker, needs="sortable")
    )
    if "search" in body and _check_names(body["search"], draft, checker, needs="text"):
        draft.search = tuple(body["search"])
    indexed = {name for key in draft.unique for name in key.fields} | {
        name for names in draft.indexes for name in names
    }
    fields = body.get("fields") or {}
    for name in indexed | set(draft.search):
        if (
            name in draft.fields
            and "filterable" not in fields.get(name, {})
            and not draft.fields[name].implied
        ):
            draft.fields[name] = replace(draft.fields[name], filterable=True)


def _unique_keys(items: Items, draft: Draft, checker: Checker) -> Iterator[tuple[UniqueKey, str]]:
    for item, path in items.located():
        if isinstance(item, Checked) and item.broken:
            continue
        names: Items = item["fields"] if isinstance(item, Checked) else item
        within = Within(item.get("within", "scope")) if isinstance(item, Checked) else Within.SCOPE
        if _check_names(names, draft, checker, needs="sortable"):
            yield UniqueKey(fields=tuple(names), within=within), path


def _report_repeated_keys(keys: list[tuple[UniqueKey, str]], checker: Checker) -> None:
    seen: dict[frozenset[str], str] = {}
    for key, path in keys:
        first = seen.setdefault(frozenset(key.fields), path)
        if first != path:
            checker.report(
                path, f"the unique key {', '.join(key.fields)} is given twice", f"It is at {first} already."
            )


def _check_names(names: Items, draft: Draft, checker: Checker, *, needs: str) -> bool:
    """Whether every name is a sound field that can be indexed in this way."""
    sound = True
    for name, path in names.located():
        field = draft.fields.get(name)
        if name not in draft.names:
            hidden = {"tenantId", "deletedAt"}
            checker.report(
                path,
                f"{draft.name} has no field {name!r}",
                nearest(name, [one for one in draft.names if one not in hidden]),
            )
        elif field is not None and field.encrypted:
            checker.report(
                path,
                f"{name!r} is encrypted: the database can neither search it nor compare its values",
                "Leave it out here, or store it unencrypted.",
            )
        elif field is not None and needs == "text" and field.type.name not in ("string", "text"):
            checker.report(
                path, f"{name!r} is of type {field.type.name}; only string and text can be searched"
            )
        elif field is not None and needs == "sortable" and not field.type.sortable:
            checker.report(
                path,
                f"{name!r} is of type {field.type.name}, which cannot be part of this key",
                'A field\'s own "index" may fit.',
            )
        else:
            sound = sound and field is not None
            continue
        sound = False
    return sound


def refer_back(draft: Draft, checker: Checker) -> None:
    """Fill `Draft.relations` with the to-one relations that references make."""
    for name, field in draft.fields.items():
        if field.references is None:
            continue
        relation = field.references.relation
        other = draft.relations.get(relation)
        given = draft.body["fields"][name]
        path = given.at("as" if "as" in given else "references")
        if other is not None:
            reason = f"the fields {other.local_field!r} and {name!r} both make a relation {relation!r}"
            checker.report(path, reason, 'Give one of them another "as".')
        elif relation in draft.names:
            itself = relation == name
            what = "the field itself" if itself else f"the field {relation!r}"
            advice = f'Give "as", or call the field {name}Id.' if itself else 'Give it a name by "as".'
            checker.report(path, f"the relation {relation!r} would have the name of {what}", advice)
        elif relation in RESERVED_WORDS:
            checker.report(path, f"{relation!r} is a word of the query language", 'Give another "as".')
        else:
            draft.relations[relation] = RelationDefinition(
                name=relation,
                resource=field.references.resource,
                many=False,
                local_field=name,
                foreign_field="id",
            )


def make_relations(draft: Draft, drafts: Drafts, checker: Checker) -> None:
    """Add the declared to-many relations; the other side must refer here."""
    specs: Checked | dict[str, Checked] = draft.body.get("relations") or {}
    draft.broken_relations.update(getattr(specs, "broken", ()))
    for name, spec in specs.items():
        foreign = _foreign_field(draft, spec, drafts, checker)
        if foreign is None:
            draft.broken_relations.add(name)
        if name in draft.names or name in draft.relations:
            what = "field" if name in draft.names else "relation"
            checker.report(spec.path, f"{draft.name} has a {what} {name!r} already", "Choose another name.")
        elif name in RESERVED_WORDS:
            checker.report(spec.path, f"{name!r} is a word of the query language", "Choose another name.")
        elif foreign is not None:
            draft.relations[name] = RelationDefinition(
                name=name, resource=spec["resource"], many=True, local_field="id", foreign_field=foreign
            )


def _foreign_field(draft: Draft, spec: Checked, drafts: Drafts, checker: Checker) -> str | None:
    """Return the field over there that refers here, None when there is none to be sure of."""
    if spec.broken or draft.kind is Kind.LOGIC:
        return None
    target = drafts.find(spec["resource"], draft.version)
    if target is None:
        checker.report(
            spec.at("resource"),
            f"there is no resource {spec['resource']!r}",
            drafts.suggest(spec["resource"]),
        )
        return None
    declared = target.body.get("fields") or Checked({}, "")
    here = [name for name, one in declared.items() if one.get("references") == draft.name]
    wanted = spec.get("foreignField")
    if wanted is None:
        if len(here) != 1:
            found = f"it has {', '.join(here)}" if here else "none of its fields does"
            reason = f"which field of {target.name} refers to {draft.name}? {found}"
            checker.report(spec.path, reason, 'Give "foreignField".')
        return here[0] if len(here) == 1 else None
    if (
        wanted in here
        or wanted in declared.broken
        or "references" in getattr(declared.get(wanted), "broken", ())
    ):
        return str(wanted)
    path = spec.at("foreignField")
    if wanted not in target.names:
        checker.report(path, f"{target.name} has no field {wanted!r}", nearest(wanted, here or declared))
    else:
        hint = nearest(wanted, here) if here else f'Add "references": "{draft.name}" to it.'
        checker.report(path, f"{wanted!r} of {target.name} does not refer to {draft.name}", hint)
    return None
