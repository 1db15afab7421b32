"""The parent of generated schemas: marshmallow's `load`, with a shorter way through its fields.

In: as for marshmallow. Out: the same values and the same messages. Marshmallow builds a closure and
looks at options for every field of every body, also for those that are absent and may be; here the
fields are sorted out once, and only what is there, or whose absence means something, is looked at.
Whatever is out of the ordinary goes marshmallow's own way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import marshmallow
from marshmallow.decorators import POST_LOAD, PRE_LOAD, VALIDATES, VALIDATES_SCHEMA
from marshmallow.error_store import ErrorStore
from marshmallow.utils import set_value

from byodpp.fields.strict_field import Fault, FieldFault, ReadOnlyField, StrictField

__all__ = ["GeneratedSchema"]

#: Place in the result, what judges a value that is there where the field does nothing else, the field.
_Way = tuple[str, Callable[[Any], Any] | None, Any]
#: What a class may do beside judging its fields.
_HOOKS: Final = (PRE_LOAD, POST_LOAD, VALIDATES, VALIDATES_SCHEMA)


class GeneratedSchema(marshmallow.Schema):
    """What is not known is refused."""

    class Meta:
        """Marshmallow's options."""

        unknown = marshmallow.RAISE
        register = False

    _ways: Mapping[str, _Way] = MappingProxyType({})  # by the key in the body
    _fillers: tuple[str, ...] = ()  # keys of whose absence the field makes something
    #: Of the others: key, place, and what an absent value is, or what makes it.
    _defaults: tuple[tuple[str, str, Any, bool], ...] = ()
    _is_plain = True  # no two fields share a key or a place
    _is_bare = False  # known to take one body at a time, and to have no hooks and validators

    def _do_load(  # type: ignore[override, unused-ignore]
        self,
        data: Any,
        *,
        many: Any = None,
        partial: Any = None,
        unknown: Any = None,
        postprocess: bool = True,
    ) -> Any:
        """Load a body; one of a class without hooks is done when its fields are."""
        if self._is_bare and many is None and partial is None and unknown is None:
            errors = ErrorStore()  # type: ignore[no-untyped-call]
            loaded = self._deserialize(data, error_store=errors, partial=self.partial, unknown=self.unknown)
            if errors.errors:
                refused = marshmallow.ValidationError(errors.errors, data=data, valid_data=loaded)
                self.handle_error(refused, data, many=self.many, partial=self.partial)  # type: ignore[no-untyped-call, unused-ignore]
                raise refused
            return loaded
        return super()._do_load(data, many=many, partial=partial, unknown=unknown, postprocess=postprocess)

    def _deserialize(  # type: ignore[override, unused-ignore]
        self,
        data: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        error_store: Any,
        many: bool = False,
        partial: Any = None,
        unknown: Any = marshmallow.RAISE,
        index: int | None = None,
    ) -> Any:
        if not self._ways:
            self._sort_out()
        usual = partial is None and unknown == marshmallow.RAISE and self._is_plain
        if many or not usual or not isinstance(data, dict):
            return super()._deserialize(
                data, error_store=error_store, many=many, partial=partial, unknown=unknown, index=index
            )
        loaded: dict[str, Any] = self.dict_class()
        ways = self._ways
        for key, value in data.items():
            way = ways.get(key)
            if way is None:
                error_store.store_error([self.error_messages["unknown"]], key, None)
                continue
            place, load, _ = way
            if load is None or value is None:
                self._put(loaded, way, key, value, data, error_store)
                continue
            try:
                loaded[place] = load(value)
            except FieldFault as fault:
                error_store.store_error([Fault(fault.code, str(fault))], key, index=None)
            except marshmallow.ValidationError as error:
                self._store_error(loaded, place, key, error, error_store)
        for key, place, default, is_made in self._defaults:
            if key not in data:
                loaded[place] = default() if is_made else default
        for key in self._fillers:
            if key not in data:
                self._put(loaded, ways[key], key, marshmallow.missing, data, error_store)
        return loaded

    def _put(
        self, loaded: dict[str, Any], way: _Way, key: str, value: Any, data: Any, error_store: Any
    ) -> None:
        """Let a field judge a value, or the absence of one, and put the result into its place."""
        place, _, field = way
        try:
            value = field.deserialize(value, key, data)
        except marshmallow.ValidationError as error:
            self._store_error(loaded, place, key, error, error_store)
        else:
            if value is not marshmallow.missing:
                _set(loaded, place, value)

    def _store_error(
        self,
        loaded: dict[str, Any],
        place: str,
        key: str,
        error: marshmallow.ValidationError,
        error_store: Any,
    ) -> None:
        error_store.store_error(error.messages, key, index=None)
        if error.valid_data:
            _set(loaded, place, error.valid_data)

    def _sort_out(self) -> None:
        found = {name: _way(name, field) for name, field in self.load_fields.items()}
        ways = {_key(name, field): found[name] for name, field in self.load_fields.items()}
        self._is_plain = len({way[0] for way in found.values()}) == len(ways) == len(found)
        missing = {key: way for key, way in ways.items() if not _is_skipped(way[2])}
        self._defaults = tuple(
            (key, place, field.load_default, callable(field.load_default))
            for key, (place, _, field) in missing.items()
            if _is_filled_in(field) and "." not in place
        )
        known = {one[0] for one in self._defaults}
        self._fillers = tuple(key for key in missing if key not in known)
        self._ways = ways
        self._is_bare = not self.many and not any(self._hooks.get(tag) for tag in _HOOKS)


def _set(loaded: dict[str, Any], place: str, value: Any) -> None:
    if "." in place:
        set_value(loaded, place, value)
    else:
        loaded[place] = value


def _key(name: str, field: Any) -> str:
    key: str | None = field.data_key
    return name if key is None else key


def _is_skipped(field: Any) -> bool:
    """Whether the absence of a value means nothing."""
    ours = type(field) in (StrictField, ReadOnlyField)
    return ours and not field.required and field.load_default is marshmallow.missing


def _is_filled_in(field: Any) -> bool:
    """Whether an absent value is the default, and nothing else has a word in it."""
    if field.required or field.load_default is marshmallow.missing:
        return False
    return type(field) is ReadOnlyField or (type(field) is StrictField and field.load_value is not None)


def _way(name: str, field: Any) -> _Way:
    place = field.attribute or name
    return place, field.load_value if type(field) is StrictField and "." not in place else None, field
