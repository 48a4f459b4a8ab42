"""The computer that a run is on: kept from sleeping, and what is said when it slept all the same.

No timing of a run follows the computer's date: steps, samples and the journal use the loop's clock,
which nobody can set. When the date is set (by NTP, by a person) that is entered, and no more.
Summer time sets no clock: it is another way to write the same one.
"""

from __future__ import annotations

import asyncio

from cellbench.engine.journal import Journal
from cellbench.engine.status import Status
from cellbench.quantities import format_quantity
from cellbench.system import Clocks, SystemClocks, kept_awake

#: How often the clocks are compared, and what differs by less is not spoken of: NTP slews clocks.
LOOK_INTERVAL_S = 1.0
_WORTH_A_WORD_S = 2.0


class SleepWatch:
    """Keeps the computer awake during a run, and finds out if it slept or its clock was set.

    Args:
        journal: Where that is entered.
        status: Knows the step.
        clocks: Of the computer.
    """

    def __init__(self, journal: Journal, status: Status, clocks: Clocks | None = None) -> None:
        self._journal, self._status = journal, status
        self._clocks = clocks or SystemClocks()
        self._before = self._read()

    async def watch(self) -> None:
        """Keep awake, and look, until cancelled."""
        with kept_awake() as why_not:
            if why_not:
                text = f"the computer cannot be kept from sleeping: {why_not}; switch its sleep off"
                self._journal.enter_soon("remark", text=text)
            while True:
                await asyncio.sleep(LOOK_INTERVAL_S)
                self.look()

    def look(self) -> None:
        """Compare what the clocks have done since the last look."""
        now = self._read()
        utc_s, passed_s, awake_s = (
            after - before for before, after in zip(self._before, now, strict=True)
        )
        self._before = now
        if passed_s - awake_s >= _WORTH_A_WORD_S:
            self._slept(passed_s - awake_s)
        if abs(utc_s - passed_s) >= _WORTH_A_WORD_S:
            self._was_set(utc_s - passed_s)

    def _read(self) -> tuple[float, float, float]:
        clocks = self._clocks
        return clocks.utc_s(), clocks.passed_s(), clocks.awake_s()

    def _slept(self, slept_s: float) -> None:
        text = f"the computer slept for {format_quantity(slept_s, 'time')}"
        self._journal.enter_soon(
            "computer slept", step=self._status.step_path, text=text, slept_s=slept_s
        )

    def _was_set(self, by_s: float) -> None:
        text = f"the computer's clock was set by {by_s:+.0f} s; no timing of the run follows it"
        self._journal.enter_soon("clock set", step=self._status.step_path, text=text, by_s=by_s)
