"""Casbin: which policies hold for a subject, a domain, a resource and an operation.

The model is ours and fixed; every value of a policy is compared for exact equality and never
becomes part of an expression. Called on the event loop only: Casbin's enforcer is not
thread-safe.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from typing import Any, Final

from casbin import FastEnforcer
from casbin.effect import Effector
from casbin.model import FastModel
from casbin.rbac import RoleManager

__all__ = ["PolicySelection"]

# The order of `_KEY` is that of the cheap comparisons: domain, resource, operation.
_MODEL: Final = """
[request_definition]
r = sub, dom, obj, act
[policy_definition]
p = sub, dom, obj, act, number, eft
[role_definition]
g = _, _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = r.dom == p.dom && r.obj == p.obj && r.act == p.act && g(r.sub, p.sub, r.dom) && holds(p.number)
"""
_KEY: Final = (1, 2, 3)
_NOBODY: Final[frozenset[str]] = frozenset()


class _EveryMatch(Effector):  # type: ignore[misc]  # casbin ships no types
    """Deny over allow as Casbin has it, but without stopping at the first deny."""

    def intermediate_effect(self, effects: set[int]) -> int:
        return int(Effector.INDETERMINATE)

    def final_effect(self, effects: set[int]) -> int:
        if Effector.DENY in effects or Effector.ALLOW not in effects:
            return int(Effector.DENY)
        return int(Effector.ALLOW)


class _Inheritance(RoleManager):  # type: ignore[misc]  # casbin ships no types
    """Who holds which role in which domain, over any number of steps.

    Casbin's own takes time with the square of the links, seconds of them for a tenant of some thousand users.
    """

    def __init__(self) -> None:
        self._links: dict[tuple[str, str], list[str]] = {}

    def clear(self) -> None:
        self._links.clear()

    def add_link(self, name1: str, name2: str, *domain: str) -> None:
        self._links.setdefault((domain[0], name1), []).append(name2)

    def has_link(self, name1: str, name2: str, *domain: str) -> bool:
        return name1 == name2 or name2 in self.held((name1,), domain[0])

    def held(self, subjects: Iterable[str], domain: str) -> set[str]:
        """Return the subjects and every role they inherit in the domain."""
        found, waiting = set[str](), list(subjects)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += self._links.get((domain, name), ())
        return found


class PolicySelection:
    """A fixed set of policies; each is known by its number, counted from 0."""

    def __init__(
        self,
        policies: Iterable[tuple[str, str, str, str, bool]],
        links: Iterable[tuple[str, str, str]] = (),
    ) -> None:
        """Args:
        policies: subject, domain, resource, operation, and whether it denies.
        links: role, inherited role, domain.
        """
        for name in ("casbin.enforcer", "casbin.policy", "casbin.role"):
            # It would write a line for every decision.
            logging.getLogger(name).setLevel(logging.CRITICAL)
        model = FastModel(_KEY)
        model.load_model_from_text(_MODEL)
        entries = model["p"]["p"].policy
        #: Who has policies about a domain, a resource, and an operation: nobody else is looked for.
        self._present: dict[tuple[str, str, str], set[str]] = {}
        for number, (subject, domain, resource, operation, deny) in enumerate(policies):
            entries.append((subject, domain, resource, operation, str(number), "deny" if deny else "allow"))
            self._present.setdefault((domain, resource, operation), set()).add(subject)
        inheritance = [list(link) for link in dict.fromkeys(links)]
        # Not by `add_policies`, which compares each link with all before it.
        model["g"]["g"].policy.extend(inheritance)
        self.linked_domains = frozenset(link[2] for link in inheritance)
        self._matched: set[int] = set()
        #: Large bodies are judged in threads and ask what is preset; casbin cannot be asked by two at once.
        self._lock = threading.Lock()
        self._enforcer = FastEnforcer(model, cache_key_order=_KEY)
        self._enforcer.eft = _EveryMatch()
        self._enforcer.add_function("holds", self._holds)
        self._inheritance = _Inheritance()
        self._enforcer.set_role_manager(self._inheritance)
        self._enforcer.build_role_links()

    def _holds(self, number: Any) -> bool:
        """Note a policy that matches; Casbin calls it at the end of the matcher."""
        self._matched.add(int(number))
        return True

    def select(
        self, subjects: Iterable[str], domain: str, resources: Iterable[str], operations: Iterable[str]
    ) -> list[int]:
        """Return the numbers of the policies that hold, ascending.

        Args:
            subjects: any of them.
            domain: exactly this one.
            resources: any of them, e.g. a resource and the word for all.
            operations: any of them.
        """
        keys = [(domain, resource, operation) for resource in resources for operation in operations]
        with self._lock:
            self._matched.clear()
            held = self._inheritance.held(subjects, domain)
            for key in keys:
                for subject in held & self._present.get(key, _NOBODY):
                    self._enforcer.enforce(subject, *key)
            return sorted(self._matched)

    def inherited(self, subjects: Iterable[str], domain: str) -> frozenset[str]:
        """Return the subjects and every role they inherit in the domain."""
        held = frozenset(subjects)
        if domain not in self.linked_domains:
            return held
        return frozenset(self._inheritance.held(held, domain))
