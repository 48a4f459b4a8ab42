"""The commands of the Keithley 2400 family: set-up and one reading.

Source: 2400 Series user's manual 2400S-900-01, SCPI command reference. Compliance is all that the
instrument does by itself here: it clamps, and ends nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from cellbench_drivers.keithley_2450 import SHORT
from cellbench_drivers.keithley_program import Program

#: Bits of the status element of a reading.
OVERFLOW, COMPLIANCE = 1 << 0, 1 << 3
_ZERO_RANGE_A, _ZERO_RANGE_V = 1e-6, 0.2


def setup_commands(program: Program, *, four_wire: bool) -> Iterator[str]:
    """Set up source and measurement for a program; the output stays off."""
    source, sense = SHORT[program.controls], SHORT[program.measures]
    least = _ZERO_RANGE_A if program.controls == "current" else _ZERO_RANGE_V
    yield "*CLS"
    yield f":SOUR:FUNC {source}"
    yield f":SOUR:{source}:MODE FIX"
    yield ":SENS:FUNC:CONC ON"
    yield ':SENS:FUNC "VOLT","CURR"'
    yield f":SENS:{sense}:RANG:AUTO ON"
    yield f":SENS:{sense}:NPLC {program.line_cycles:g}"
    yield f":SYST:RSEN {'ON' if four_wire else 'OFF'}"
    yield ":OUTP:SMOD HIMP"
    yield f":SOUR:{source}:RANG {max(least, *(abs(each) for each in program.levels)):.6g}"
    yield f"{limit_header(program)} {program.limit:.6g}"
    yield level_command(program, program.levels[0])
    yield ":ARM:COUN 1"
    yield ":TRIG:COUN 1"
    yield ":FORM:ELEM VOLT,CURR,STAT"


def limit_header(program: Program) -> str:
    """The command of the compliance."""
    return f":SENS:{SHORT[program.measures]}:PROT"


def level_command(program: Program, level: float) -> str:
    """Set the source to a level."""
    return f":SOUR:{SHORT[program.controls]} {level:.7g}"
