"""Full nights: shipped protocols at their own length, with a few faults each."""

from __future__ import annotations

import random

from tests.faults.generate import BENCHES, fault, kill
from tests.faults.scenario import Scenario

from cellbench.library import directory

#: Shipped protocols that are run whole, the cell that they are meant for, about how long they take.
NIGHTS = (
    ("ccd", "LYC_PMMA", 12 * 3600.0),
    ("ageing_hold", "NCM85_InLi", 60 * 3600.0),
    ("rate_test", "NMC811_LYC_PMMA_Li", 100 * 3600.0),
)


#: Nights with a guard, whose host dies once more.
_GUARDED = 0.3


def night(seed: int) -> Scenario:
    """Return the night of a number."""
    rng = random.Random(1_000_000 + seed)  # noqa: S311 (no secret)
    name, cell, duration_s = NIGHTS[seed % len(NIGHTS)]
    bench = "default"
    text = (directory() / f"{name}.yaml").read_text(encoding="utf-8")
    found = [
        fault(rng, BENCHES[bench], rng.uniform(0.01, 1.0) * duration_s)
        for _ in range(rng.choice((1, 2, 3)))
    ]
    guarded = rng.random() < _GUARDED
    if guarded:
        found.append(kill(rng, BENCHES[bench], rng.uniform(0.01, 1.0) * duration_s))
    faults = tuple(sorted(found, key=lambda each: each.at_s))
    return Scenario(seed, bench, (), faults, cell=cell, protocol=text, guarded=guarded)
