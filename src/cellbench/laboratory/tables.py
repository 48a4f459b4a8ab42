"""What is copied of a run's file, and how: rows by a number that only grows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cellbench.instruments.readings import Flag


@dataclass(frozen=True)
class Followed:
    """A table of the run's file that only grows.

    Attributes:
        name: In the database.
        cursor: Column of ``copied_run`` that says how far it is copied.
        local: In the run's file.
        local_number, number: Column that numbers the rows, there and here.
        kinds: The other columns, by the same names there and here, with their types.
    """

    name: str
    cursor: str
    local: str
    local_number: str
    number: str
    kinds: dict[str, str]

    @property
    def staged(self) -> str:
        """Name of the table that rows pass through."""
        return f"staged_{self.name}"

    @property
    def columns(self) -> str:
        """All columns but the number, for SQL."""
        return ", ".join(self.kinds)

    @property
    def types(self) -> list[str]:
        """Of the number and the columns."""
        return ["int8", *self.kinds.values()]

    @property
    def texts(self) -> tuple[int, ...]:
        """Where in a row there are texts."""
        return self._of("text")

    @property
    def times(self) -> tuple[int, ...]:
        """Where in a row there are times."""
        return self._of("timestamptz")

    def _of(self, kind: str) -> tuple[int, ...]:
        return tuple(at for at, each in enumerate(self.types) if each == kind)


_REAL = "float8"
_MEASURED = ("voltage_V", "current_A", "charge_C", "force_N", "temperature_K")

STEPS = Followed("step", "steps", "step", "id", "id", {"path": "text", "kind": "text"})
SAMPLES = Followed(
    "sample",
    "samples",
    "sample",
    "rowid",
    "number",
    {"time_s": _REAL, "source": "text", "step": "int4"}
    | dict.fromkeys(_MEASURED, _REAL)
    | {"flags": "int4", "row": "int8"},
)
_CONDITIONS = ("temperature_K", "stack_pressure_Pa", "bias_V")
_POINTS = ("frequency_Hz", "impedance_real_ohm", "impedance_imag_ohm", "point_time_s", "flags")
SPECTRA = Followed(
    "spectrum",
    "spectra",
    "spectrum",
    "id",
    "id",
    {"time_s": _REAL, "step": "int4"}
    | dict.fromkeys(_CONDITIONS, _REAL)
    | dict.fromkeys(_POINTS, "bytea"),
)
_WORDS = ("kind", "step", "text", "data")
JOURNAL = Followed(
    "journal",
    "journal",
    "journalentry",
    "seq",
    "seq",
    {"time_s": _REAL, "utc": "timestamptz"} | dict.fromkeys(_WORDS, "text"),
)
#: Steps and samples before the entries that depend on them.
FOLLOWED = (STEPS, SAMPLES, SPECTRA, JOURNAL)


# --- Samples reduced ------------------------------------------------------------------------------

#: Rows of a block of the finest level, and how many of its blocks make one of the coarser.
FINE, WIDER = 256, 64
COARSE = FINE * WIDER
#: What is drawn of a sample.
DRAWN = ("voltage_V", "current_A", "force_N", "temperature_K")

_LOWS, _HIGHS = ([f"{end}_{name}" for name in DRAWN] for end in ("low", "high"))
#: What a block says, in the order of the columns.
BLOCK = ("count", "from_s", "to_s", "first_step", "last_step", "missing", *_LOWS, *_HIGHS)
#: A row as a block of one; blocks as one.
OF_ROW = (
    f"1 AS count, time_s AS from_s, time_s AS to_s, step AS first_step, step AS last_step, "
    f"flags & {int(Flag.MISSING)} AS missing, "
    + ", ".join(f"{name} AS {end}_{name}" for end in ("low", "high") for name in DRAWN)
)
OF_BLOCKS = (
    "sum(count)::bigint, min(from_s), max(to_s), min(first_step), max(last_step), max(missing), "
    + ", ".join([f"min({name})" for name in _LOWS] + [f"max({name})" for name in _HIGHS])
)


def reduced(before: int, after: int) -> Iterator[str]:
    """What has blocks of rows reduced that have become whole; each takes the run's number.

    Args:
        before: Number of the last row of which that was done.
        after: Number of the last row now.
    """
    first, last = max(0, before) // FINE, max(0, after) // FINE
    if last > first:
        yield (
            f"INSERT INTO level (run, size, place, source, {', '.join(BLOCK)}) "  # noqa: S608 (ours)
            f"SELECT run, {FINE}, place, source, {OF_BLOCKS} FROM ("
            f"SELECT run, (number - 1) / {FINE} AS place, source, {OF_ROW} FROM sample "
            f"WHERE run = %s AND number > {first * FINE} AND number <= {last * FINE}"
            ") AS rows GROUP BY run, place, source"
        )
    first, last = first // WIDER, last // WIDER
    if last > first:
        yield (
            f"INSERT INTO level (run, size, place, source, {', '.join(BLOCK)}) "  # noqa: S608 (ours)
            f"SELECT run, {COARSE}, place / {WIDER} AS block, source, {OF_BLOCKS} FROM level "
            f"WHERE run = %s AND size = {FINE} AND place >= {first * WIDER} "
            f"AND place < {last * WIDER} GROUP BY run, block, source"
        )
