"""Going through a program, lazily: one walk, which planner and engine share.

The engine pulls one item after the other, runs it, and tells the walk what came of it; loops, the
values of expressions and ``if`` follow from that. Walks are deterministic: a host that resumes
walks again from the start and hands in the results that its journal holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cellbench.protocol.program import AnyStep, PassEnded, Program


class Walk:
    """An iterator over the steps of a program, with the ends of each loop's passes between them.

    Args:
        program: What to walk.
        planning: Results are not known: steps that use them come as `LaterStep`, both branches
            of an ``if`` over them are walked, and loops run to their bound.
    """

    def __init__(self, program: Program, *, planning: bool = False) -> None:
        raise NotImplementedError

    def __iter__(self) -> Iterator[AnyStep | PassEnded]:
        """Yield the next step or end of a pass, resolved with what is known by then."""
        raise NotImplementedError

    def record(self, name: str, results: Mapping[str, float]) -> None:
        """Keep the results of the step saved as ``name``; keys end in their unit (``R_ohm``)."""
        raise NotImplementedError

    def leave(self) -> None:
        """After `PassEnded`: leave that loop."""
        raise NotImplementedError
