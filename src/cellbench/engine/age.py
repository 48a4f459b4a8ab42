"""How old a run is when it is gone on with, and whether that is known or only told by a clock.

The computer's clock can be set, also while nobody is there. What has passed since the computer was
started cannot: a run is tied to that wherever it begins or goes on. Where the computer was started
anew meanwhile, that is at least how long nobody was there, and so is what an instrument tells.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from cellbench.system import boot_id, passed_ns

#: The data of an entry that tie its time to the computer's.
BOOT = "boot"
#: A clock that differs by more than this was set; instruments tell times to some seconds.
SET_S, TOLD_S = 2.0, 10.0


def now_of_computer() -> dict[str, Any]:
    """What an entry that is made now keeps of the computer's time."""
    return {BOOT: {"id": boot_id(), "passed_s": passed_ns() * 1e-9}}


@dataclass(frozen=True)
class Tie:
    """A time of a run, and what the computer's own was then: see `now_of_computer`."""

    time_s: float
    boot: str
    passed_s: float


@dataclass(frozen=True)
class Age:
    """How old a run is now.

    Attributes:
        age_s: Never less than its last entry.
        known: Whether nothing contradicts it.
        proven: Whether it is told by what nobody can set.
        shift_s: By how much the computer's clock was set since the run was last tied to it.
    """

    age_s: float
    known: bool
    proven: bool
    shift_s: float = 0.0

    def at_least(self, least_s: float) -> Age:
        """The same, where an instrument tells that it is so old at least."""
        known = self.known and self.age_s > least_s - TOLD_S
        return replace(self, age_s=max(self.age_s, least_s), known=known)

    @property
    def told(self) -> str:
        """What a person should know of it, as the end of a sentence."""
        if not self.known:
            return " at least (how long is unknown: the computer's clock was set back)"
        return "" if self.proven else " by the computer's clock"


def age_now(by_clock_s: float, last_s: float, tie: Tie | None, speed: float) -> Age:
    """Return how old a run is.

    Args:
        by_clock_s: By the computer's clock.
        last_s: The time of its last entry.
        tie: The last one, None for a run in simulated time.
        speed: Of its bench, in s/s.
    """
    if tie is None:
        return Age(max(last_s, by_clock_s), known=by_clock_s >= last_s, proven=True)
    passed_s = passed_ns() * 1e-9
    if tie.boot and tie.boot == boot_id():
        age_s = max(last_s, tie.time_s + speed * (passed_s - tie.passed_s))
        return Age(age_s, known=True, proven=True, shift_s=by_clock_s - age_s)
    # Since it was started, nobody can have looked after the run.
    least_s = last_s + (speed * passed_s if tie.boot else 0.0)
    return Age(max(least_s, by_clock_s), known=by_clock_s >= least_s, proven=False)
