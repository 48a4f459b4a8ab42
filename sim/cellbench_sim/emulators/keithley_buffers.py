"""Reading buffers of the 2450, 2460 and 2461, and the elements of a reading that replies hold.

Sources: reference manual of the 2450 and 2461, ``:TRACe:DATA?`` and the tables of status bits.
"""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from cellbench_sim.emulators.scpi import ScpiError, names_of, short_form

#: What the instrument's clock showed when the bench was switched on.
_POWERED_ON = datetime.datetime(2026, 1, 5, 8, 0, 0, tzinfo=datetime.UTC)
QUESTIONABLE, FRONT = 2, 8
PROTECTED, READ_BACK, LIMITED, FOUR_WIRE, OUTPUT_ON = 4, 8, 32, 64, 128
_UNITS = {"VOLT": "Volt DC", "CURR": "Amp DC", "RES": "Ohm"}
_SYMBOLS = {"VOLT": "V", "CURR": "A", "RES": "Ohm"}
ELEMENTS = (
    "DATE", "FORMatted", "FRACtional", "READing", "RELative", "SEConds", "SOURce", "SOURFORMatted",
    "SOURSTATus", "SOURUNIT", "STATus", "TIME", "TSTamp", "UNIT",
)  # fmt: skip
_SHORT_FORMS = {form: short_form(name) for name in ELEMENTS for form in names_of(name)}
_ELEMENTS_MAX = 14


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading: what was measured and sourced, when (on the instrument's clock), and how."""

    function: str
    value: float
    source_function: str
    source_value: float
    time_s: float
    status: int
    source_status: int


class ReadingBuffer:
    """Holds readings until it is full; then it stops, or forgets the oldest.

    Args:
        capacity: How many readings it holds.
        continuous: Whether the oldest are overwritten.

    Attributes:
        first_s: Time of the first reading, to which relative times refer.
    """

    def __init__(self, capacity: int, *, continuous: bool) -> None:
        self.capacity, self.continuous = capacity, continuous
        self.first_s: float | None = None
        self._readings: list[Reading] = []
        self._overwritten = 0
        self._complained = False

    def __len__(self) -> int:
        return len(self._readings)

    @property
    def start(self) -> int:
        """Index of the oldest reading; 0 if there is none."""
        return self._overwritten % self.capacity + 1 if self._readings else 0

    @property
    def end(self) -> int:
        """Index of the newest reading; 0 if there is none."""
        if not self._readings:
            return 0
        return (self._overwritten - 1) % self.capacity + 1 if self._overwritten else len(self)

    def add(self, reading: Reading) -> bool:
        """Store a reading; return False the first time that there is no room for one."""
        if self.first_s is None:
            self.first_s = reading.time_s
        if len(self) < self.capacity:
            self._readings.append(reading)
        elif self.continuous:
            self._readings[self._overwritten % self.capacity] = reading
            self._overwritten += 1
        else:
            had_complained, self._complained = self._complained, True
            return had_complained
        return True

    def clear(self) -> None:
        """Forget all readings."""
        self.first_s = None
        self._readings, self._overwritten, self._complained = [], 0, False

    def last(self) -> Reading | None:
        """Return the newest reading, if there is one."""
        return self._readings[self.end - 1] if self._readings else None

    def between(self, first: int, last: int) -> list[Reading]:
        """Return the readings of these indices, both included.

        Raises:
            ScpiError: The buffer does not hold them.
        """
        if not 1 <= first <= last <= len(self):
            raise ScpiError(-222)
        return self._readings[first - 1 : last]

    def statistic(self, name: str) -> float:
        """Return AVER, MAX, MIN or STDD of all values; not a number if there are none."""
        values = [reading.value for reading in self._readings]
        if not values:
            return 9.91e37
        functions: dict[str, Callable[[list[float]], float]] = {
            "AVER": statistics.fmean,
            "MAX": max,
            "MIN": min,
            "STDD": lambda entries: statistics.stdev(entries) if len(entries) > 1 else 0.0,
        }
        return functions[name](values)


def elements_of(words: tuple[str, ...]) -> list[str]:
    """Return the short forms of the elements that a query asks for.

    Raises:
        ScpiError: There is no such element, or too many are asked for.
    """
    if len(words) > _ELEMENTS_MAX:
        raise ScpiError(-108)
    if any(word.upper() not in _SHORT_FORMS for word in words):
        raise ScpiError(1133, "Parameter 4, Syntax error, expected valid name parameters")
    return [_SHORT_FORMS[word.upper()] for word in words]


def date_of(time_s: float) -> datetime.datetime:
    """Return what the instrument's clock shows at a time of its own."""
    return _POWERED_ON + datetime.timedelta(seconds=time_s)


def number(value: float, precision: int = 0) -> str:
    """Return a number as replies hold it; precision 0 leaves it to the instrument."""
    return f"{value:.{precision - 1 if precision else 6}E}"


def _fraction(reading: Reading) -> str:
    return f"{reading.time_s % 1.0:.9f}"[1:]


def _stamp(reading: Reading) -> str:
    return f"{date_of(reading.time_s):%m/%d/%Y %H:%M:%S}{_fraction(reading)}"


def _formatted(value: float, function: str) -> str:
    return f"{value:+.6g} {_SYMBOLS[function]}"


_SHOWN: dict[str, Callable[[Reading], str]] = {
    "STAT": lambda reading: str(reading.status),
    "SOURSTAT": lambda reading: str(reading.source_status),
    "SEC": lambda reading: str(int(date_of(reading.time_s).timestamp())),
    "FRAC": lambda reading: f"0{_fraction(reading)}",
    "DATE": lambda reading: f"{date_of(reading.time_s):%m/%d/%Y}",
    "TIME": lambda reading: f"{date_of(reading.time_s):%H:%M:%S}",
    "TST": _stamp,
    "UNIT": lambda reading: _UNITS[reading.function],
    "SOURUNIT": lambda reading: _UNITS[reading.source_function],
    "FORM": lambda reading: _formatted(reading.value, reading.function),
    "SOURFORM": lambda reading: _formatted(reading.source_value, reading.source_function),
}


def shown(reading: Reading, element: str, first_s: float, precision: int) -> str:
    """Return one element of a reading as replies hold it."""
    match element:
        case "READ":
            return number(reading.value, precision)
        case "SOUR":
            return number(reading.source_value, precision)
        case "REL":
            return f"{reading.time_s - first_s:.9f}"
        case _:
            return _SHOWN[element](reading)
