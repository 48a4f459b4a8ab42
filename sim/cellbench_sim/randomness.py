"""One generator for each random thing, so that none disturbs another."""

import random
from collections.abc import Iterator
from math import cos, log, sin, sqrt, tau


def random_stream(seed: int, name: str) -> random.Random:
    """Return the generator of one random thing of a run."""
    return random.Random(f"{seed}/{name}")  # noqa: S311 (a repeatable simulation, no secret)


def normals(stream: random.Random) -> Iterator[float]:
    """Yield the standard normal numbers that ``stream.gauss`` would give, at half its cost.

    They come in pairs (Box and Muller): nothing else should be drawn from the stream.
    """
    uniform = stream.random
    while True:
        angle = uniform() * tau
        radius = sqrt(-2.0 * log(1.0 - uniform()))
        yield cos(angle) * radius
        yield sin(angle) * radius
