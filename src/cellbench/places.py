"""Places in a run: what leads to a step, and how an analysis names the part that it looks at.

A path is what the journal calls a step by: names of loops, groups and steps with "/" between, loops
with the number of the pass (``ramps[2]/for_each[1]/current``).
"""

from __future__ import annotations

import re

#: Between the name of an analysis and the place where it looks, as in "arrhenius within ladder".
WITHIN = " within "


def is_within(path: str, place: str) -> bool:
    """Whether a step's path leads through a place: a loop, a group, a step, or one pass."""
    return f"/{place}/" in f"/{path}/" or f"/{place}[" in f"/{path}"


def any_pass(path: str) -> str:
    """A path, or a place, without the numbers of the passes."""
    return re.sub(r"\[\d+\]", "", path)
