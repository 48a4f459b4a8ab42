"""The commands of the Keithley 2450, 2460 and 2461: set-up, and the trigger model that runs alone.

Sources: reference manuals 2450-901-01 and 2461-901-01, SCPI command reference. The trigger model
switches the output on, takes readings into a buffer, compares each with the cut-offs and limits,
and switches the output off at a crossing or after the last reading. It needs no host for that.

A staircase is the list behind ``:SOUR:LIST:VOLT``, which the instrument keeps as the source
configuration list ``VoltCustomSweepList``; the trigger model recalls its entries one by one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from cellbench_drivers.keithley_program import Program, Quantity, Watch

#: Our reading buffer.
BUFFER = "cell"
#: So many values fit on one line of a source list, and into the whole of it.
_LIST_LINE, LIST_MAX = 100, 2500
_STAIRCASE = "VoltCustomSweepList"
_BLOCKS_MAX = 63
DELAY_MIN_S, _DELAY_MAX_S = 1e-4, 10_000.0
#: The source range of a zero current: small, but not so slow as the smallest.
_ZERO_RANGE_A, _ZERO_RANGE_V = 1e-6, 0.02
#: Over-voltage protection comes in steps; one below the source's limit would win over it.
_PROTECTIONS_V = (2, 5, 10, 20, 40, 60, 80)
#: States of the trigger model: those in which it can still touch the output, and the others.
ACTIVE = frozenset({"RUNNING", "WAITING", "ABORTING"})
STATES = ACTIVE | {"IDLE", "EMPTY", "BUILDING", "FAILED", "ABORTED"}
SHORT: dict[Quantity, str] = {"voltage": "VOLT", "current": "CURR"}


def setup_commands(program: Program, *, four_wire: bool) -> Iterator[str]:
    """Set up source and measurement for a program; the output stays off."""
    source, sense = SHORT[program.controls], SHORT[program.measures]
    yield "*CLS"
    yield ':TRIG:LOAD "Empty"'
    yield f":SOUR:FUNC {source}"
    yield f':SENS:FUNC "{sense}"'
    yield f":SENS:{sense}:RANG:AUTO ON"
    yield f":SENS:{sense}:NPLC {program.line_cycles:g}"
    yield f":SENS:{sense}:RSEN {'ON' if four_wire else 'OFF'}"
    yield f":OUTP:{source}:SMOD HIMP"
    # A protection below what was set before would be a conflict: it comes back at the end.
    yield ":SOUR:VOLT:PROT NONE"
    yield f":SOUR:{source}:RANG {_source_range(program):.6g}"
    yield f"{limit_header(program)} {program.limit:.6g}"
    yield f":SOUR:{source}:READ:BACK ON"
    yield f":SOUR:{source} {program.levels[0]:.7g}"
    if len(program.levels) > 1:
        yield from _list_commands(program.levels)
    yield f":SOUR:VOLT:PROT {_protection(program)}"
    yield f':TRAC:CLE "{BUFFER}"'


def limit_header(program: Program) -> str:
    """The command of the source's own limit."""
    return ":SOUR:CURR:VLIM" if program.controls == "current" else ":SOUR:VOLT:ILIM"


def trigger_commands(program: Program, delay_s: float) -> list[str]:
    """Write the trigger model of a program.

    Args:
        program: What it is to do.
        delay_s: The pause between two readings that makes their interval.

    Raises:
        ValueError: It has too many cut-offs, or too long an interval.
    """
    if delay_s > _DELAY_MAX_S:
        raise ValueError(f"an interval of {program.interval_s:g} s is too long: 10000 s at most")
    model = _TriggerModel(program, max(delay_s, DELAY_MIN_S))
    if len(program.levels) > 1:
        model.sweep()
    else:
        model.hold()
    return model.commands()


class _TriggerModel:
    """Blocks of a trigger model, numbered from 1 as they come."""

    def __init__(self, program: Program, delay_s: float) -> None:
        self._program = program
        self._delay = f"DEL:CONS {{}},{delay_s:.6g}"
        self._blocks: list[str] = []

    def hold(self) -> None:
        """Readings from the first moment on: measure, compare, wait, so many times."""
        self._add("SOUR:STAT {},ON")
        for first, count, watches in self._phases(self._program.rows - 1):
            del first
            measure = self._measure()
            self._compare(watches, measure)
            self._add(self._delay)
            self._repeat(count, measure)
        self._measure()
        self._add("SOUR:STAT {},OFF")

    def sweep(self) -> None:
        """A reading at the end of each step of a staircase."""
        self._add(f'CONF:REC {{}},"{_STAIRCASE}",1')
        self._add("SOUR:STAT {},ON")
        for first, count, watches in self._phases(self._program.rows):
            if first == 0:  # the first step is there already
                self._add(f"BRAN:ALW {{}},{len(self._blocks) + 3}")
            step = self._add(f'CONF:NEXT {{}},"{_STAIRCASE}"')
            self._add(self._delay)
            self._compare(watches, self._measure())
            self._repeat(count, step)
        self._add("SOUR:STAT {},OFF")

    def commands(self) -> list[str]:
        """The commands that build it."""
        if len(self._blocks) > _BLOCKS_MAX:
            raise ValueError("its trigger model has no room for so many cut-offs")
        end = str(len(self._blocks))
        return [f":TRIG:BLOC:{block.replace('<end>', end)}" for block in self._blocks]

    def _phases(self, rows: int) -> Iterator[tuple[int, int, Sequence[Watch]]]:
        """Yield stretches of rows for which the same watches count: first row, number, watches."""
        program = self._program
        compared = [each for each in program.watches if each.quantity == program.measures]
        changes = {0, *(program.first_row(each) for each in compared)}
        firsts = sorted(row for row in changes if row < rows)
        for first, following in zip(firsts, [*firsts[1:], rows], strict=True):
            watches = [each for each in compared if program.first_row(each) <= first]
            yield first, following - first, watches

    def _add(self, block: str) -> int:
        number = len(self._blocks) + 1
        self._blocks.append(block.format(number))
        return number

    def _measure(self) -> int:
        return self._add(f'MEAS {{}},"{BUFFER}"')

    def _compare(self, watches: Sequence[Watch], measure: int) -> None:
        for watch in watches:
            self._add(f"BRAN:LIM:CONS {{}},{_limit(watch)},<end>,{measure}")

    def _repeat(self, count: int, begin: int) -> None:
        if count > 1:
            self._add(f"BRAN:COUN {{}},{count},{begin}")


def _limit(watch: Watch) -> str:
    """The criterion of a limit block. One limit of one-sided criteria is ignored: both are set."""
    if math.isinf(watch.high):
        return f"ABOV,{watch.low:.7g},{watch.low:.7g}"
    if math.isinf(watch.low):
        return f"BEL,{watch.high:.7g},{watch.high:.7g}"
    return f"{'IN' if watch.inside else 'OUT'},{watch.low:.7g},{watch.high:.7g}"


def _source_range(program: Program) -> float:
    least = _ZERO_RANGE_A if program.controls == "current" else _ZERO_RANGE_V
    return max(least, *(abs(level) for level in program.levels))


def _protection(program: Program) -> str:
    """The lowest protection that leaves the source its levels and its limit."""
    if program.controls == "current":
        needed_V = program.limit
    else:
        needed_V = max(abs(level) for level in program.levels) * 1.01
    step = next((step for step in _PROTECTIONS_V if step >= needed_V), None)
    return "NONE" if step is None else f"PROT{step}"


def _list_commands(levels: Sequence[float]) -> Iterator[str]:
    for begin in range(0, len(levels), _LIST_LINE):
        values = ",".join(f"{level:.7g}" for level in levels[begin : begin + _LIST_LINE])
        yield f":SOUR:LIST:VOLT{':APP' if begin else ''} {values}"
