"""Signs of a cell that is not what it was, in protocols that do not foresee them.

What is seen on every row beside the plain limits: charge beyond what the cell can hold, a voltage
that falls or flickers under a constant current, one that is lost at rest, two instruments that
measure one cell differently. A clear short, too much charge and a disagreement are trips; a sign of
a soft short is a warning that people are told of, or a trip where card or protocol say so.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any, Protocol

from cellbench.analysis.dataset import Geometry, Spectrum
from cellbench.analysis.warming import warming
from cellbench.engine.history import Stretch
from cellbench.engine.holding import HeldVoltage
from cellbench.engine.journal import Journal
from cellbench.engine.trips import Trip
from cellbench.instruments.capabilities import ChannelCapabilities
from cellbench.instruments.techniques import ConstantCurrent, ConstantVoltage, Rest
from cellbench.protocol.program import ChannelStep, Limits

#: Of what comes out of a cell, so much may have gone in: less is not the loss of a sound cell but a
#: leak, and what is missing counts as charge that is still in it.
EFFICIENCY_MIN = 0.9
#: Rows are judged in blocks of at least so many, and of so long a time.
BLOCK_ROWS, BLOCK_S = 5, 5.0
#: After a change of the current double layers charge: so long, or a tenth of the step, is not
#: judged; against lithium that is still to nucleate, longer.
SETTLING_S, NUCLEATING_S = 30.0, 300.0
#: A fall from block to block that is none of a sound cell's: over the polarisation, at least in
#: volts, over the scatter of single rows, and over the fall before it.
FALL, FALL_MIN_V, FALL_SCATTERS, FALL_BEFORE = 0.10, 2e-3, 4.0, 3.0
#: The same for a cell with a cathode, whose polarisation is not known.
FALL_CATHODE_V = 5e-3
#: Scatter from row to row, over the polarisation and in volts, for so many blocks running.
SCATTER, SCATTER_MIN_V, SCATTER_BLOCKS = 0.02, 1e-3, 3
#: Below the highest voltage of the charge by so much, with temperature and pressure unchanged.
SINK_V, SINK_K, SINK_PRESSURE = 0.03, 1.0, 0.05
#: A hard short leaves less than this of the level before a fall, or of the electrolyte's resistance
#: at high frequency; of a cathode's voltage it takes so much at once. Seen for so long it is one.
HARD, HARD_ELECTROLYTE, HARD_CATHODE_V, HARD_S = 0.2, 0.5, 0.3, 30.0
#: A charge whose voltage stays below this part of the upper limit, after this part of the capacity.
FLAT, FLAT_CHARGE = 0.1, 0.05
#: A charged cell at rest: judged from so long after its current, window by window; a fall of so
#: much in one that slows down by less than a third from half to half is no relaxation.
REST_FROM_S, REST_WINDOW_S, REST_FALL_V, REST_STEADY = 1800.0, 1800.0, 0.01, 0.67
#: What is left after so short a time of the voltage at rest of a cell that is shorted; a leak takes
#: longer.
REST_LOST, REST_LOST_S = 0.5, 600.0
#: Between two warnings of one kind.
APART_S = 3600.0
#: Two instruments at the terminals of one resting cell differ by less than this, and this fraction.
#: It rests from so long after its last current on, and for so long it keeps its voltage.
DISAGREEMENT_V, DISAGREEMENT = 0.05, 0.01
RESTED_S, REMEMBERED_S = 60.0, 900.0
_C_PER_MAH = 3.6

SOFT_SHORT, IRREGULAR, LEAK = "soft short", "irregular voltage", "leak"
_NOT_HELD = "not held"


class ChargeBudget:
    """What can still go into a cell, or come out of it: two cumulative sums.

    Charge in one direction counts up, charge in the other takes it away again, a little faster than
    it came: a cycle loses some, and a thousand cycles must not add up to an alarm.

    Args:
        limit_C: Where it ends, None for a cell without a capacity.
        charge_sign: +1 where charging is a positive current.

    Attributes:
        charged_C, discharged_C: What has been put in, or taken out, without the other.
    """

    def __init__(self, limit_C: float | None, charge_sign: float) -> None:
        self.limit_C = math.inf if limit_C is None else limit_C
        self._sign = charge_sign
        self.charged_C = self.discharged_C = 0.0

    def add(self, charge_C: float) -> None:
        """Count charge that has passed, with its sign at the working electrode."""
        charge_C *= self._sign
        back_C = charge_C / EFFICIENCY_MIN
        if charge_C > 0:
            self.charged_C += charge_C
            self.discharged_C = max(0.0, self.discharged_C - back_C)
        else:
            self.discharged_C -= charge_C
            self.charged_C = max(0.0, self.charged_C + back_C)

    def check(self) -> None:
        """Raises `Trip` where it is used up."""
        if self.charged_C <= self.limit_C and self.discharged_C <= self.limit_C:
            return
        charged = self.charged_C > self.limit_C
        passed_C = self.charged_C if charged else self.discharged_C
        raise Trip(
            "charge",
            f"{passed_C / _C_PER_MAH:.4g} mAh {'charged' if charged else 'discharged'}, beyond the "
            f"limit of {self.limit_C / _C_PER_MAH:.4g} mAh: more than the cell holds (a short that "
            "takes the current, a wrong card or electrode area?)",
        )

    def left_C(self, current_A: float) -> float:
        """What can still pass in the direction of a current."""
        charging = current_A * self._sign > 0
        return self.limit_C - (self.charged_C if charging else self.discharged_C)


class _Rows(Protocol):
    """What judges the rows of one kind of technique."""

    def row(self, time_s: float, voltage_V: float, current_A: float) -> None:
        """Take one row; raises `Trip`."""


class Detection:
    """Watches one run's cell for signs that no limit shows.

    Args:
        geometry: The card's sizes, and its capacity.
        limits: The run's.
        journal: Where warnings are entered.
        alarm: Called with a trip before the step cleans up after itself.
        reading: The newest value of stack pressure and temperature, by name.
        foreseen: Whether the protocol itself ends on a short or an irregular voltage: then it is
            left to that.
    """

    def __init__(
        self,
        geometry: Geometry,
        limits: Limits,
        journal: Journal,
        alarm: Callable[[Trip], None],
        reading: Callable[[str], float | None],
        *,
        foreseen: bool,
    ) -> None:
        self.geometry, self.limits = geometry, limits
        self.budget = ChargeBudget(limits.charge_max_C, geometry.charge_sign)
        self.reading = reading
        self._journal, self._alarm = journal, alarm
        self._foreseen = foreseen
        self._warned_s: dict[str, float] = {}
        self._electrolyte: tuple[float, float | None] | None = None
        self._rested: tuple[str, float, float] | None = None
        self.charged_last = False

    @property
    def has_cathode(self) -> bool:
        """Whether the cell holds charge: its voltage is not its polarisation."""
        return self.geometry.layout == "full" or self.geometry.active_mass_kg is not None

    def restore(self, stretches: Iterable[Stretch]) -> None:
        """Count what the steps of a run that is gone on with have passed, in their order."""
        counted_C: dict[int, float] = defaultdict(float)
        latest: dict[str, int] = {}
        for stretch in stretches:
            latest[stretch.path] = stretch.step_id
            passed_C = stretch.charge_C - counted_C[stretch.step_id]
            self.passed(passed_C)
            # What it interrupts counts its charge too, from its own next row on.
            for step_id in (stretch.step_id, latest.get(stretch.interrupted)):
                if step_id is not None:
                    counted_C[step_id] += passed_C

    def passed(self, charge_C: float) -> None:
        """Count charge of a step that nobody watches any more."""
        self.budget.add(charge_C)
        if charge_C:
            self.charged_last = charge_C * self.geometry.charge_sign > 0

    def step(
        self, step: ChannelStep, source: Callable[[], str], able: ChannelCapabilities
    ) -> StepWatch:
        """Return what takes the rows of a step.

        Args:
            step: The step.
            source: Tells the instrument of the latest row.
            able: What the instrument can do.
        """
        return StepWatch(self, step, source, able, judged=not self._foreseen)

    def longest_s(self, current_A: float) -> float:
        """How long a current can go on: for the instrument, which then ends it by itself.

        A little longer than until the limit: who watches it sees the limit first.
        """
        if current_A == 0 or math.isinf(self.budget.limit_C):
            return math.inf
        return 1.02 * max(0.0, self.budget.left_C(current_A)) / abs(current_A) + 10.0

    def bounded(self, step: ChannelStep) -> ChannelStep:
        """Return a step of a list, which the cycler ends before one current alone is too much."""
        technique, limit_C = step.technique, self.budget.limit_C
        if not isinstance(technique, ConstantCurrent) or not technique.current_A:
            return step
        longest_s = 1.02 * limit_C / abs(technique.current_A) + 10.0
        if technique.duration_s <= longest_s:
            return step
        return replace(step, technique=technique.model_copy(update={"duration_s": longest_s}))

    # --- Other things that are seen ---------------------------------------------------------------

    def spectrum(self, spectrum: Spectrum) -> None:
        """Take note of the electrolyte's resistance; the high end alone is its least."""
        if self._electrolyte is None and self.geometry.layout != "blocking":
            _, impedance_ohm = spectrum.descending()
            self._electrolyte = (float(impedance_ohm.real[0]), spectrum.temperature_K)

    def electrolyte_ohm(self) -> float | None:
        """What of the cell's resistance cannot go away but by a short, at its temperature now."""
        if self._electrolyte is None:
            return None
        resistance_ohm, temperature_K = self._electrolyte
        return resistance_ohm * min(1.0, warming(temperature_K, self.reading("temperature_K")))

    def rests_at(self, source: str, time_s: float, voltage_V: float) -> None:
        """Take note of the terminals of a cell that has rested, and compare; raises `Trip`."""
        self.compare(source, time_s, voltage_V)
        self._rested = source, time_s, voltage_V

    def compare(self, source: str, time_s: float, voltage_V: float) -> None:
        """Compare an open circuit with what another instrument measured of the cell at rest.

        Raises:
            Trip: They differ.
        """
        before = self._rested
        if before is None or before[0] == source or time_s - before[1] > REMEMBERED_S:
            return
        if math.isnan(voltage_V):
            return
        other, _, other_V = before
        if abs(voltage_V - other_V) > DISAGREEMENT_V + DISAGREEMENT * abs(other_V):
            self.trip(
                Trip(
                    "cell",
                    f"{other} read {other_V:.4g} V on the resting cell and {source} reads "
                    f"{voltage_V:.4g} V; one of them is wrong, or not on this cell",
                )
            )

    def moved(self) -> None:
        """A current has flown: what was measured at rest before it says nothing any more."""
        self._rested = None

    # --- Telling ----------------------------------------------------------------------------------

    def trip(self, trip: Trip) -> None:
        """End the run; the alarm goes first."""
        self._alarm(trip)
        raise trip

    def sign(self, path: str, kind: str, text: str, data: Mapping[str, Any]) -> None:
        """Tell of a sign: a warning that people are told of, or a trip where that is wanted."""
        if self.limits.soft_short == "trip":
            self.trip(Trip("cell", f"{kind}: {text}"))
        if self._is_new(kind):
            self._journal.enter_soon(
                "warning", step=path, text=f"{kind}: {text}", state=kind, alert="trips", **data
            )

    def not_held(self, path: str, text: str) -> None:
        """Tell of a voltage that is not held: in each step that it happens in, to people once."""
        alert = {"alert": "trouble"} if self._is_new(_NOT_HELD) else {}
        self._journal.enter_soon("deviation", step=path, text=text, state=_NOT_HELD, **alert)

    def _is_new(self, kind: str) -> bool:
        """Whether nobody was told of a thing of a kind for a while; they are now."""
        now_s = self._journal.now_s
        if now_s - self._warned_s.get(kind, -math.inf) < APART_S:
            return False
        self._warned_s[kind] = now_s
        return True


class StepWatch:
    """The rows of one step, as `Detection` sees them.

    Attributes:
        held: Of a constant voltage, whether it is held; flags its rows.
    """

    def __init__(
        self,
        detection: Detection,
        step: ChannelStep,
        source: Callable[[], str],
        able: ChannelCapabilities,
        *,
        judged: bool,
    ) -> None:
        self._detection = detection
        self._budget = detection.budget
        self._passed_C = 0.0
        self.source = source
        self._rows: _Rows | None = None
        self.held: HeldVoltage | None = None
        technique = step.technique
        if isinstance(technique, ConstantVoltage):
            self.held = HeldVoltage(
                technique,
                detection.limits.current_max_A,
                able,
                partial(detection.not_held, step.path),
            )
        if isinstance(technique, Rest):
            self._rows = _Resting(detection, step, self, judged=judged)
        else:
            detection.moved()
            judged = judged and detection.geometry.layout != "blocking"
            if judged and isinstance(technique, ConstantCurrent) and technique.current_A:
                self._rows = _SteadyCurrent(detection, step, technique)

    def counted(self, charge_C: float) -> None:
        """Take note of charge of the step that was counted elsewhere."""
        self._passed_C += charge_C

    def unseen(self, charge_C: float) -> None:
        """Count charge of the step that nobody has seen: a row may never follow."""
        self._passed_C += charge_C
        self._detection.passed(charge_C)

    def row(self, time_s: float, voltage_V: float, current_A: float, charge_C: float) -> None:
        """Take one row, with the charge of the step so far; raises `Trip`."""
        passed_C = charge_C - self._passed_C
        if passed_C:
            self._passed_C = charge_C
            self._detection.passed(passed_C)
            try:
                self._budget.check()
            except Trip as trip:
                self._detection.trip(trip)
        if self._rows is not None and not math.isnan(voltage_V):
            self._rows.row(time_s, voltage_V, current_A)


class _Blocks:
    """Collects rows into blocks: median voltage, and scatter from row to row.

    After a gap it begins anew, and what came before is forgotten.
    """

    def __init__(self, interval_s: float) -> None:
        self._gap_s = max(5.0 * interval_s, BLOCK_S)
        self._voltages: list[float] = []
        self._began_s = self._last_s = math.nan

    def gap(self, time_s: float) -> bool:
        """Whether rows are missing before this one."""
        return time_s - self._last_s > self._gap_s

    def take(self, time_s: float, voltage_V: float) -> tuple[float, float] | None:
        """Take one row; returns median and scatter where it completes a block."""
        voltages = self._voltages
        if not voltages or self.gap(time_s):
            voltages.clear()
            self._began_s = time_s
        voltages.append(voltage_V)
        self._last_s = time_s
        if len(voltages) < BLOCK_ROWS or time_s - self._began_s < BLOCK_S:
            return None
        steps = [abs(b - a) for a, b in pairwise(voltages)]
        trend = abs(voltages[-1] - voltages[0]) / (len(voltages) - 1)
        median_V = statistics.median(voltages)
        voltages.clear()
        # Neighbours differ by sqrt(2) times the noise; the median of |x| is 0.674 of its deviation.
        return median_V, max(0.0, statistics.median(steps) - trend) / 0.954


class _SteadyCurrent:
    """A constant current: a voltage that falls or flickers, one that is not there at all.

    Voltages count in the direction of the current, so that a short always takes some of it away.
    """

    def __init__(self, detection: Detection, step: ChannelStep, technique: ConstantCurrent) -> None:
        self._detection, self._path = detection, step.path
        self._direction = math.copysign(1.0, technique.current_A)
        self._current_A = abs(technique.current_A)
        self._cathode = detection.has_cathode
        charges = self._direction == detection.geometry.charge_sign
        self._charges = charges and self._cathode
        # The short of a cell that is discharged makes its voltage fall as an empty one does.
        self._judged = charges or not self._cathode
        nucleates = detection.geometry.layout == "half" and not self._cathode
        settling_s = NUCLEATING_S if nucleates else SETTLING_S
        self._settling_s = min(settling_s, 0.1 * technique.duration_s)
        self._blocks = _Blocks(technique.interval_s)
        self._from_s = math.nan
        self._anew()

    def _anew(self) -> None:
        self._before: list[float] = []
        self._scattered = 0
        self._level_V = math.nan  # before a fall that is still to be confirmed as a hard short
        self._fell_s = self._low_s = math.nan
        self._highest: tuple[float, float | None, float | None] | None = None
        self._sunk = 0

    def row(self, time_s: float, voltage_V: float, current_A: float) -> None:
        if not self._judged:
            return
        if math.isnan(self._from_s) or self._blocks.gap(time_s):
            self._from_s = time_s
            self._anew()
        if abs(current_A) < 0.5 * self._current_A:
            return  # the instrument is on its way there, or at its compliance
        block = self._blocks.take(time_s, self._direction * voltage_V)
        if block is None:
            return
        self._hard(time_s, block[0])
        self._flat(block[0])
        if time_s - self._from_s < self._settling_s:
            return
        self._falls(time_s, *block)
        self._flickers(*block)
        self._sinks(block[0])
        self._before = [*self._before[-2:], block[0]]

    def _falls(self, time_s: float, voltage_V: float, scatter_V: float) -> None:
        if len(self._before) < 2:
            return
        last_V, earlier_V = self._before[-1], self._before[-2]
        fall_V, before_V = last_V - voltage_V, max(0.0, earlier_V - last_V)
        least_V = FALL_CATHODE_V if self._cathode else max(FALL * abs(last_V), FALL_MIN_V)
        if fall_V > max(least_V, FALL_SCATTERS * scatter_V, FALL_BEFORE * before_V):
            if math.isnan(self._fell_s):
                self._level_V, self._fell_s = last_V, time_s
            self._sign(
                SOFT_SHORT,
                f"the voltage fell from {last_V * self._direction:.4g} V to "
                f"{voltage_V * self._direction:.4g} V under a constant current",
                fell_V=fall_V,
            )

    def _flickers(self, voltage_V: float, scatter_V: float) -> None:
        polarisation_V = SCATTER_MIN_V / SCATTER if self._cathode else abs(voltage_V)
        large = scatter_V > max(SCATTER * polarisation_V, SCATTER_MIN_V)
        self._scattered = self._scattered + 1 if large else 0
        if self._scattered == SCATTER_BLOCKS:
            self._sign(
                IRREGULAR,
                f"the voltage scatters by {scatter_V * 1e3:.2g} mV around "
                f"{voltage_V * self._direction:.4g} V under a constant current",
                scatter_V=scatter_V,
            )

    def _sinks(self, voltage_V: float) -> None:
        """A cathode's voltage rises while it is charged; warmth and pressure may lower it."""
        if not self._charges:
            return
        temperature_K = self._detection.reading("temperature_K")
        pressure_Pa = self._detection.reading("stack_pressure_Pa")
        highest = self._highest
        if highest is None or voltage_V >= highest[0]:
            self._highest, self._sunk = (voltage_V, temperature_K, pressure_Pa), 0
            return
        if highest[0] - voltage_V < SINK_V:
            self._sunk = 0
            return
        if _differ(temperature_K, highest[1], SINK_K) or _differ(
            pressure_Pa, highest[2], SINK_PRESSURE * abs(pressure_Pa or 0.0) + 1e5
        ):
            self._highest, self._sunk = (voltage_V, temperature_K, pressure_Pa), 0
            return
        self._sunk += 1
        if self._sunk == SCATTER_BLOCKS:
            text = f"charging, the voltage sank from {highest[0]:.4g} V to {voltage_V:.4g} V"
            self._sign(SOFT_SHORT, text, fell_V=highest[0] - voltage_V)

    def _hard(self, time_s: float, voltage_V: float) -> None:
        if self._cathode:
            left = voltage_V < self._level_V - HARD_CATHODE_V
        else:
            electrolyte_ohm = self._detection.electrolyte_ohm()
            bound_V = HARD_ELECTROLYTE * (electrolyte_ohm or 0.0) * self._current_A
            left = voltage_V < HARD * self._level_V or voltage_V < bound_V
        if not left:
            self._low_s = math.nan
            if voltage_V > 0.9 * self._level_V:
                self._level_V = self._fell_s = math.nan  # it has recovered
            return
        if math.isnan(self._low_s):
            self._low_s = time_s
        if time_s - self._low_s >= HARD_S:
            was = "" if math.isnan(self._level_V) else f" (it was {self._level_V:.4g} V)"
            self._detection.trip(
                Trip(
                    "cell",
                    f"short circuit: {voltage_V * 1e3:.4g} mV at {self._current_A * 1e3:.4g} mA"
                    f"{was}, for {time_s - self._low_s:.0f} s",
                )
            )

    def _flat(self, voltage_V: float) -> None:
        """A cathode that is charged and shows no voltage is shorted."""
        capacity_C = self._detection.geometry.nominal_capacity_C
        if not self._charges or capacity_C is None:
            return
        bound_V = FLAT * abs(self._detection.limits.voltage_max_V)
        charged_C = self._detection.budget.charged_C
        if voltage_V < bound_V and charged_C > FLAT_CHARGE * capacity_C:
            self._detection.trip(
                Trip(
                    "cell",
                    f"short circuit: {voltage_V * 1e3:.4g} mV after "
                    f"{charged_C / _C_PER_MAH:.3g} mAh of charge",
                )
            )

    def _sign(self, kind: str, text: str, **data: float) -> None:
        self._detection.sign(self._path, kind, text, data)


class _Resting:
    """A rest: what other instruments say of it, and after a charge, whether its voltage stays."""

    def __init__(
        self, detection: Detection, step: ChannelStep, watch: StepWatch, *, judged: bool
    ) -> None:
        self._detection, self._path, self._watch = detection, step.path, watch
        charged = detection.charged_last or not detection.budget.discharged_C
        self._judged = judged and detection.has_cathode and charged
        self._blocks = _Blocks(step.technique.interval_s if isinstance(step.technique, Rest) else 1)
        self._least_V = FLAT * abs(detection.limits.voltage_max_V)
        self._from_s = math.nan
        self._level = math.nan, math.nan
        self._marks: list[tuple[float, float]] = []
        self._compared_s = -math.inf

    def row(self, time_s: float, voltage_V: float, current_A: float) -> None:  # noqa: ARG002
        if math.isnan(self._from_s):
            self._from_s = time_s
        rested_s = time_s - self._from_s
        if rested_s >= RESTED_S and time_s - self._compared_s >= RESTED_S:
            self._compared_s = time_s
            self._detection.rests_at(self._watch.source(), time_s, voltage_V)
        if not self._judged:
            return
        block = self._blocks.take(time_s, voltage_V)
        if block is None or rested_s < RESTED_S:
            return
        level_s, level_V = self._level
        if not time_s - level_s <= REST_LOST_S:
            self._level = time_s, block[0]
        elif block[0] < REST_LOST * level_V and level_V > self._least_V:
            text = f"short circuit: at rest {block[0]:.4g} V are left of {level_V:.4g} V"
            self._detection.trip(Trip("cell", f"{text} after {time_s - level_s:.0f} s"))
        if rested_s >= REST_FROM_S:
            self._decay(time_s, block[0])

    def _decay(self, time_s: float, voltage_V: float) -> None:
        """Judge a window by its halves: relaxation slows down, a leak does not."""
        if self._marks and time_s - self._marks[-1][0] < REST_WINDOW_S / 2:
            return
        self._marks = [*self._marks[-2:], (time_s, voltage_V)]
        if len(self._marks) < 3:
            return
        first_V, middle_V, last_V = (mark[1] for mark in self._marks)
        early_V, late_V = first_V - middle_V, middle_V - last_V
        if early_V + late_V > REST_FALL_V and late_V > REST_STEADY * early_V:
            per_hour = (early_V + late_V) * 3600.0 / (time_s - self._marks[0][0])
            self._detection.sign(
                self._path,
                LEAK,
                f"the voltage at rest falls by {per_hour * 1e3:.3g} mV/h and does not slow down",
                {"fall_V_per_h": per_hour},
            )


def _differ(now: float | None, before: float | None, by: float) -> bool:
    return now is not None and before is not None and abs(now - before) > by
