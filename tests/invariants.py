"""What must be true of a run whatever happened to it: on its file, and on the physics."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tests.hosts import Ended

from cellbench.engine.run import RunState


def check(ended: Ended, steps: Sequence[str]) -> None:
    """Every planned step has ended once, and the charge that passed is accounted for."""
    assert ended.end.state is RunState.COMPLETED, ended.end.reason
    done = endings(ended)
    assert [path for path in done if "every[" not in path] == list(steps)
    for path, found in done.items():
        assert "interrupted" not in found[-1:], path
        assert found[:-1] == ["interrupted"] * (len(found) - 1), path
    low_C, high_C = charge_bounds_C(ended)
    passed_C = ended.simulator.world.cell.passed_C
    # The instrument's accuracy, of all that passed either way.
    slack_C = 1e-3 * _either_way_C(ended) + 2e-3
    assert low_C - slack_C <= passed_C <= high_C + slack_C


def _either_way_C(ended: Ended) -> float:
    """Charge that steps have passed, charge and discharge added up."""
    return math.fsum(
        abs(each.data["results"].get("charge_C", 0.0))
        for each in ended.reader.journal
        if each.kind == "step ended"
    )


def charge_bounds_C(ended: Ended) -> tuple[float, float]:
    """What the journal says has passed: counted, with its gaps between their bounds."""
    journal = ended.reader.journal
    low = high = sum(each.data["results"].get("charge_C", 0.0)
                     for each in journal if each.kind == "step ended")  # fmt: skip
    for gap in (each.data for each in journal if each.kind == "gap"):
        low += gap["charge_min_C"] - gap["charge_C"]
        high += gap["charge_max_C"] - gap["charge_C"]
    return low, high


def endings(ended: Ended) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in ended.reader.journal:
        if entry.kind == "step ended":
            found.setdefault(entry.step, []).append(entry.data["ending"])
    return found
