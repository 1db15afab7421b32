"""Every resource's repository by its name, made when it is asked for.

In: the store, and who acts on which transaction. Out: repositories. May raise KeyError.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from byodpp.repository.acting import Acting
from byodpp.repository.repositories import Repository
from byodpp.repository.stores import Store

__all__ = ["Repositories"]


class Repositories(Mapping[str, "Repository"]):
    """Every resource's repository by name, for one transaction and one way of acting."""

    def __init__(self, store: Store, acting: Acting, version: str) -> None:
        """Args:
        store: the application's.
        acting: transaction, caller, and whether the caller's rules hold.
        version: API version whose names are meant.
        """
        self._store = store
        self._acting = acting
        self._version = version
        self._known: dict[str, Repository] = {}

    def __getitem__(self, name: str) -> Repository:
        """Raises:
        KeyError: there is no such resource in this version.
        """
        repository = self._known.get(name)
        if repository is None:
            resource = self._store.registry.get(name, self._version)
            repository = self._known[name] = Repository(self._store, self._acting, resource)
        return repository

    def __iter__(self) -> Iterator[str]:
        return iter({name: None for _, name in self._store.registry.resources})

    def __len__(self) -> int:
        return len({name for _, name in self._store.registry.resources})
