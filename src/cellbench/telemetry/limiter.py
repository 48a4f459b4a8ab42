"""Once in a while is enough: the first of a kind is told, those soon after it are counted."""

from __future__ import annotations

import asyncio


class Rare:
    """Admits one of each kind in a time, on the event loop's clock.

    Args:
        apart_s: That time.
    """

    def __init__(self, apart_s: float) -> None:
        self._apart_s = apart_s
        self._told_s: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def admits(self, kind: str) -> int | None:
        """How many of its kind were not told since the last that was, or None: it is one too."""
        now_s = asyncio.get_running_loop().time()
        told_s = self._told_s.get(kind)
        if told_s is not None and now_s - told_s < self._apart_s:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            return None
        self._told_s[kind] = now_s
        return self._counts.pop(kind, 0)

    def due(self, *, all_of_them: bool = False) -> list[str]:
        """The kinds of which some were not told, and may be now."""
        now_s = asyncio.get_running_loop().time()
        return [
            kind
            for kind in self._counts
            if all_of_them or now_s - self._told_s[kind] >= self._apart_s
        ]

    def told(self, kind: str) -> int:
        """Take note that a kind is told of now; returns how many were not told before."""
        self._told_s[kind] = asyncio.get_running_loop().time()
        return self._counts.pop(kind, 0)
