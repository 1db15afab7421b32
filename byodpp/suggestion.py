"""What a mistyped name was probably meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["nearest"]


def nearest(word: str, words: Iterable[str], *, list_up_to: int = 12, prefix: str = "") -> str:
    """Return `Did you mean 'price'?`, else the known words when they are few, else nothing.

    Args:
        word: what was written.
        words: what could have been written; a caller's secrets must not be among them.
        list_up_to: how many known words are worth listing.
        prefix: of a word that has it, only what follows is compared: else a long one makes all alike.
    """
    known = list(words)
    shared = len(prefix) if word.startswith(prefix) else 0
    folded = {one[shared:].casefold(): one for one in reversed(known) if not shared or one.startswith(prefix)}
    close = difflib.get_close_matches(word[shared:].casefold()[:80], folded, n=1, cutoff=0.65)
    if close:
        return f"Did you mean {folded[close[0]]!r}?"
    if 0 < len(known) <= list_up_to:
        return f"Known: {', '.join(known)}."
    return ""
