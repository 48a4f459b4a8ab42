"""Study and result side by side: what was obtained, and whether it is what was published."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

from cellbench.campaign.reference.run import Outcome
from cellbench.campaign.reference.table import Bound, Containing, Expectation, Row
from cellbench.campaign.reference.values import look_up, measured

Obtained: TypeAlias = bool | float | str | None


@dataclass(frozen=True)
class Judged:
    """A row with what was obtained for it; without a value ``reason`` says why."""

    row: Row
    obtained: Obtained
    passed: bool
    reason: str = ""

    def answer(self) -> dict[str, Any]:
        """Return the row as ``--json`` prints it."""
        published = self.row.published
        return {
            "name": self.row.name,
            "published": str(published) if isinstance(published, Bound) else published,
            "obtained": self.obtained,
            "unit": self.row.unit,
            "tolerance": self.row.tolerance if isinstance(published, float) else None,
            "passed": self.passed,
            "kind": self.row.kind,
        }

    def published_text(self) -> str:
        """The study's side for people."""
        return _text(self.row.published, self.row.unit)

    def obtained_text(self) -> str:
        """Our side for people."""
        return self.reason if self.obtained is None else _text(self.obtained, self.row.unit)

    def tolerance_text(self) -> str:
        """The allowed deviation for people; empty where there is none."""
        return f"{self.row.tolerance:.0%}" if isinstance(self.row.published, float) else ""


def judge(row: Row, outcome: Outcome) -> Judged:
    """Compare a row with the outcome of its run."""
    if outcome.failure is not None:
        return Judged(row, None, passed=False, reason=f"failed: {outcome.failure}")
    ended = outcome.document["run"]
    if row.analysis is not None and ended["state"] != "completed":
        return Judged(row, None, passed=False, reason=f"{ended['state']}: {ended['reason']}")
    if row.analysis in outcome.failures:
        return Judged(row, None, passed=False, reason=outcome.failures[row.analysis])
    try:
        obtained = _obtained(row, outcome)
    except LookupError as error:
        return Judged(row, None, passed=False, reason=str(error))
    return Judged(row, obtained, passed=agrees(obtained, row.expected, row.tolerance))


def _obtained(row: Row, outcome: Outcome) -> Obtained:
    found = look_up(outcome.document, row.result)
    if row.measure is not None:
        found = measured(found, row.measure)
    match found:
        case bool() | int() | str():
            return found
        case float() if math.isfinite(found):
            return found
        case _:
            raise LookupError(f"{row.result} could not be determined")


def agrees(obtained: Obtained, expected: Expectation, tolerance: float) -> bool:
    """Whether a value is what is expected; only a number has a tolerance, a fraction of it."""
    match expected:
        case bool():
            return obtained is expected
        case Containing():
            return expected.contains in str(obtained)
        case _ if isinstance(obtained, bool) or not isinstance(obtained, int | float):
            return False
        case Bound():
            low = -math.inf if expected.at_least is None else expected.at_least
            high = math.inf if expected.at_most is None else expected.at_most
            return low <= obtained <= high
        case _:
            return math.isclose(obtained, expected, rel_tol=0, abs_tol=tolerance * abs(expected))


def _text(value: Obtained | Bound, unit: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    number = f"{value:.4g}" if isinstance(value, int | float) else str(value)
    return f"{number} {unit}".strip()
