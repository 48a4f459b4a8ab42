"""One generator for each random thing, so that none disturbs another."""

import random


def random_stream(seed: int, name: str) -> random.Random:
    """Return the generator of one random thing of a run."""
    return random.Random(f"{seed}/{name}")  # noqa: S311 (a repeatable simulation, no secret)
