"""The form of an application's classes: what their methods and attributes must be to be run at all.

In: a logic class or an event handler, as found. Out: what is wrong with it, each with advice.
A slip that Python itself would only show in a request, or after it, is told at the start instead.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final

import marshmallow

__all__ = ["handler_faults", "logic_faults"]

#: What is wrong, and what to do.
Fault = tuple[str, str]

_SCHEMAS: Final = ("input", "query", "output")
_REQUEST: Final = "Write `async def execute(self):`; what was asked is in self.request."
_HANDLE: Final = "Write `async def handle(self, event):`."


def logic_faults(logic: type[Any]) -> Iterator[Fault]:
    """Yield what keeps a logic class from being run: `execute`, `__init__`, its schemas, its status."""
    yield from _method_faults(logic, "execute", 0, _REQUEST)
    if not _takes(logic, 1):
        advice = (
            "Leave it out, or take the context: `def __init__(self, context): super().__init__(context)`."
        )
        yield "__init__ takes other arguments than the context", advice
    for name in _SCHEMAS:
        value = getattr(logic, name)
        if isinstance(value, marshmallow.Schema):
            yield f"{name} is an object", f"Name the class: `{name} = {type(value).__name__}`."
        elif value is not None and not (inspect.isclass(value) and issubclass(value, marshmallow.Schema)):
            yield (
                f"{name} is no marshmallow schema",
                f"Write a class derived from marshmallow.Schema, or leave {name} out.",
            )
    status = logic.status
    if status is not None and (not isinstance(status, int) or not 200 <= status <= 399):
        yield f"status is {status!r}", "Write a number from 200 to 399, e.g. 202; refusals are raised."


def handler_faults(handler: type[Any]) -> Iterator[Fault]:
    """Yield what keeps an event handler from being run: `handle`, `__init__`, the events it names."""
    yield from _method_faults(handler, "handle", 1, _HANDLE)
    if not _takes(handler, 0):
        yield "__init__ takes arguments", "A handler is made without any: leave them out."
    events = handler.events
    if isinstance(events, str):
        yield "events is a text", f"Write a tuple: `events = ({events!r},)`."
    elif not isinstance(events, Collection) or not all(isinstance(one, str) and one for one in events):
        yield "events holds what is no name", 'Write names: `events = ("products.created",)`.'
    elif not events:
        yield "the handler names no event", 'Set `events = ("products.created",)` on the class.'


def _method_faults(cls: type[Any], name: str, arguments: int, advice: str) -> Iterator[Fault]:
    found = inspect.getattr_static(cls, name)
    unbound = isinstance(found, staticmethod | classmethod)
    plain = found.__func__ if unbound else found
    if inspect.isfunction(plain) and not _awaits(plain):
        yield f"{name} is not async", advice
    # An object is bound to what it is looked up on where its type says so, as that of functions does.
    elif not _takes(getattr(cls, name), arguments + (not unbound and hasattr(type(found), "__get__"))):
        yield (
            f"{name} takes other arguments than {'self and the event' if arguments else 'self alone'}",
            advice,
        )


def _awaits(function: Callable[..., Any]) -> bool:
    """Whether a function is async, or one that it decorates, or one that decorates it.

    A decorator may make a plain function async as well as hand on what an async one returns.
    """
    while not inspect.iscoroutinefunction(function):
        if not hasattr(function, "__wrapped__"):
            return False
        function = function.__wrapped__
    return True


def _takes(what: Callable[..., Any], count: int) -> bool:
    """Whether it can be called with that many arguments; what it decorates is its own affair."""
    try:
        inspect.signature(what, follow_wrapped=False).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # one that is not written in Python tells nothing
        return True
    return True
