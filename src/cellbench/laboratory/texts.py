"""Texts for PostgreSQL, which knows every character but NUL.

A NUL is written as "␀." and the character "␀" itself twice, so that each text comes back as it was.
"""

from __future__ import annotations

import re

_NUL, _SIGN = "\0", "␀"
_WRITTEN = re.compile(f"{_SIGN}(.)", re.DOTALL)


def to_database(text: str) -> str:
    """A text as PostgreSQL can keep it."""
    return text.replace(_SIGN, 2 * _SIGN).replace(_NUL, f"{_SIGN}.")


def from_database(text: str) -> str:
    """The text that was meant."""
    return _WRITTEN.sub(lambda found: _NUL if found[1] == "." else found[1], text)
