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


class _EveryMatch(Effector):  # type: ignore[misc]  # casbin ships no types
    """Deny over allow as Casbin has it, but without stopping at the first deny."""

    def intermediate_effect(self, effects: set[int]) -> int:
        return int(Effector.INDETERMINATE)

    def final_effect(self, effects: set[int]) -> int:
        if Effector.DENY in effects or Effector.ALLOW not in effects:
            return int(Effector.DENY)
        return int(Effector.ALLOW)


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
        self._present: set[tuple[str, str, str]] = set()
        for number, (subject, domain, resource, operation, deny) in enumerate(policies):
            entries.append((subject, domain, resource, operation, str(number), "deny" if deny else "allow"))
            self._present.add((domain, resource, operation))
        inheritance = [list(link) for link in links]
        model.add_policies("g", "g", inheritance)
        self.linked_domains = frozenset(link[2] for link in inheritance)
        self._matched: set[int] = set()
        #: Large bodies are judged in threads and ask what is preset; casbin cannot be asked by two at once.
        self._lock = threading.Lock()
        self._enforcer = FastEnforcer(model, cache_key_order=_KEY)
        self._enforcer.eft = _EveryMatch()
        self._enforcer.add_function("holds", self._holds)
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
            for key in keys:
                if key in self._present:
                    for subject in subjects:
                        self._enforcer.enforce(subject, *key)
            return sorted(self._matched)

    def inherited(self, subjects: Iterable[str], domain: str) -> frozenset[str]:
        """Return the subjects and every role they inherit in the domain."""
        held = frozenset(subjects)
        if domain not in self.linked_domains:
            return held
        with self._lock:
            roles = (self._enforcer.get_implicit_roles_for_user(subject, domain) for subject in held)
            return held.union(*roles)
