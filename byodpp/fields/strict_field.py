"""The marshmallow field behind every field type, and the fault that carries a stable code.

In: a JSON or Python value. Out: a Python value, or marshmallow's ValidationError whose messages
are `Fault`s: text that remembers its code through marshmallow's nested dictionaries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import marshmallow

__all__ = [
    "MOST_TOLD",
    "Fault",
    "FieldFault",
    "ReadOnlyField",
    "StrictField",
    "count_faults",
    "counted",
    "failure",
    "kind_of",
]

#: Faults of one value that are kept one by one: no answer lists more, and there may be a million.
MOST_TOLD: Final = 100


class FieldFault(ValueError):
    """A value is not one of the field's; `str()` of it is fit for the client."""

    def __init__(self, code: str, message: str) -> None:
        """Args:
        code: stable word, e.g. `type`, `out_of_range`.
        message: a sentence that does not repeat the value.
        """
        super().__init__(message)
        self.code = code


class Fault(str):
    """A message that knows its code; a str, so that marshmallow carries it untouched."""

    __slots__ = ("code", "times")
    code: str
    times: int

    def __new__(cls, code: str, message: str, times: int = 1) -> Fault:
        """Make the message.

        Args:
            code: stable word, e.g. `type`, `out_of_range`.
            message: a sentence for people.
            times: faults that it stands for: of hundreds of thousands only the first ones are worth words.
        """
        fault = super().__new__(cls, message)
        fault.code, fault.times = code, times
        return fault


def count_faults(messages: Any) -> int:
    """Return how many faults marshmallow's nested messages tell."""
    if isinstance(messages, Mapping):
        return sum(map(count_faults, messages.values()))
    if isinstance(messages, list | tuple):
        return sum(map(count_faults, messages))
    return messages.times if isinstance(messages, Fault) else 1


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with what it counts: `1 item`, `2 items`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def failure(code: str, message: str) -> marshmallow.ValidationError:
    """Return marshmallow's error with one coded message."""
    return marshmallow.ValidationError([Fault(code, message)])


def kind_of(value: Any) -> str:
    """Return the JSON name of a value's type, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, list | tuple):
        return "an array"
    if isinstance(value, Mapping):
        return "an object"
    return "a number" if hasattr(value, "real") or hasattr(value, "as_tuple") else f"a {type(value).__name__}"


class StrictField(marshmallow.fields.Field[Any]):
    """Judges one value by a function that a field type made."""

    def __init__(self, load: Callable[[Any], Any], **options: Any) -> None:
        """Args:
        load: from a value that is not None to a Python value; raises FieldFault or ValidationError.
        options: as for marshmallow.
        """
        super().__init__(**options)
        self._load = load
        self._default = self.load_default
        self._fresh_default = callable(self._default)
        self._plain = not (self.validators or self.pre_load or self.post_load)
        #: Judges a value that is not None, raising FieldFault or ValidationError; None where a
        #: validator or hook has a word in it, too.
        self.load_value = load if self._plain else None

    def deserialize(
        self, value: Any, attr: str | None = None, data: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> Any:
        """Judge a value; the short way round marshmallow's hooks where a field has none."""
        if not self._plain:
            return super().deserialize(value, attr, data, **kwargs)
        if value is marshmallow.missing:
            if self.required:
                raise failure("required", "A value is required.")
            return self._default() if self._fresh_default else self._default
        if value is None:
            if self.allow_none:
                return None
            raise failure("null", "Must not be null.")
        return self._deserialize(value, attr, data)

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        try:
            return self._load(value)
        except FieldFault as fault:
            raise failure(fault.code, str(fault)) from None

    def _validate_missing(self, value: Any) -> None:
        if value is marshmallow.missing and self.required:
            raise failure("required", "A value is required.")
        if value is None and not self.allow_none:
            raise failure("null", "Must not be null.")


class ReadOnlyField(marshmallow.fields.Field[Any]):
    """Refuses every value, but fills in its default."""

    def deserialize(
        self, value: Any, attr: str | None = None, data: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> Any:
        """Return the default for an absent value."""
        if value is not marshmallow.missing:
            raise failure("read_only", "Is set by the server and cannot be written.")
        default = self.load_default
        return default() if callable(default) else default
