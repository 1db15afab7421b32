"""The folder a command works in, and what it says when no application is there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from byodpp.exceptions import Problem, StartError

if TYPE_CHECKING:
    from byodpp.settings import Settings

__all__ = ["MANIFEST", "Place", "place_of"]

MANIFEST = "resources.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the command works."""

    app_dir: Path  # absolute; need not be an application yet

    @property
    def manifest(self) -> Path:
        """The application's manifest; the file may be missing."""
        return self.app_dir / MANIFEST

    def application(self) -> Path:
        """Return the folder, which must hold a manifest.

        Raises:
            StartError: there is none, with how to get one.
        """
        if self.manifest.is_file():
            return self.app_dir
        advice = "Name another folder with --app DIR, or make an application: byodpp init DIR"
        reason = "there is no such file: this folder holds no application"
        raise StartError([Problem(str(self.manifest), reason, advice)])

    def settings(self, **overrides: Any) -> Settings:
        """Return the settings of the application; an override of None counts as not given."""
        from byodpp.settings import load_settings

        return load_settings(self.application(), os.environ, **overrides)


def place_of(context: typer.Context) -> Place:
    """Return where the command works."""
    place = context.find_root().obj
    assert isinstance(place, Place)
    return place
