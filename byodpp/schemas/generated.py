"""The parent of generated schemas: marshmallow's `load`, with a shorter way through its fields.

In: as for marshmallow. Out: the same values and the same messages. Marshmallow builds a closure and
looks at options for every field of every body, also for those that are absent and may be; here the
fields are sorted out once. Whatever is out of the ordinary goes marshmallow's own way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import marshmallow
from marshmallow.utils import set_value

from byodpp.fields.strict_field import ReadOnlyField, StrictField

__all__ = ["GeneratedSchema"]

_Way = tuple[str, str, bool, Any]


class GeneratedSchema(marshmallow.Schema):
    """What is not known is refused."""

    class Meta:
        """Marshmallow's options."""

        unknown = marshmallow.RAISE
        register = False

    _ways: tuple[_Way, ...] = ()

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
        if many or partial is not None or unknown != marshmallow.RAISE or type(data) is not dict:
            return super()._deserialize(
                data, error_store=error_store, many=many, partial=partial, unknown=unknown, index=index
            )
        if not self._ways:
            self._ways = tuple(_way(name, field) for name, field in self.load_fields.items())
        loaded: dict[str, Any] = self.dict_class()
        known = 0
        for key, place, skipped, field in self._ways:
            value = data.get(key, marshmallow.missing)
            if value is not marshmallow.missing:
                known += 1
            elif skipped:
                continue
            try:
                value = field.deserialize(value, key, data)
            except marshmallow.ValidationError as error:
                error_store.store_error(error.messages, key, index=None)
                value = error.valid_data or marshmallow.missing
            if value is not marshmallow.missing:
                if "." in place:
                    set_value(loaded, place, value)
                else:
                    loaded[place] = value
        if known < len(data):
            keys = {way[0] for way in self._ways}
            for name in data:
                if name not in keys:
                    error_store.store_error([self.error_messages["unknown"]], name, None)
        return loaded


def _way(name: str, field: Any) -> _Way:
    """Return key in the body, place in the result, whether absence means nothing, and the field."""
    ours = type(field) in (StrictField, ReadOnlyField)
    skipped = ours and not field.required and field.load_default is marshmallow.missing
    return field.data_key if field.data_key is not None else name, field.attribute or name, skipped, field
