"""Reading Neware's .nda and .ndax by NewareNDA (BSD licence, of the extra "data")."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellbench.analysis.dataset import FloatArray
from cellbench.errors import InputError
from cellbench.exchange.incoming import FROM_FILE, Incoming, Origin
from cellbench.exchange.outgoing import mapped, stretches
from cellbench.store.needed import needed

_C_PER_MAH = 3.6
_RESTS = {"Rest", "OCV", "Pause"}


def read_neware(path: Path) -> Incoming:
    """Read a file.

    Raises:
        InputError: It is none of Neware's, or NewareNDA is not installed.
    """
    library = needed("NewareNDA")
    try:
        frame = library.read(str(path), log_level="CRITICAL")
    except Exception as error:
        raise InputError(f"{path.name} cannot be read as a file of Neware's: {error}") from error
    if frame.empty:
        raise InputError(f"{path.name} has no rows")
    step = frame["Step"].to_numpy().astype(int)
    moments_s = _unix_s(frame["Timestamp"])
    counted_mAh = _floats(frame["Charge_Capacity(mAh)"]) - _floats(frame["Discharge_Capacity(mAh)"])
    start_s = float(moments_s[0]) - float(frame["Time"].iloc[0])
    return Incoming(
        origin=Origin.of(
            path,
            "Neware BTS",
            f"NewareNDA {version('NewareNDA')}",
            FROM_FILE,
            "time: of each step by its first time stamp; its zone is that of the cycler's computer",
        ),
        positive="charge",
        time_s=_time_s(_floats(frame["Time"]), moments_s - start_s, step),
        voltage_V=_floats(frame["Voltage"]),
        current_A=_floats(frame["Current(mA)"]) / 1e3,
        counted_C=counted_mAh * _C_PER_MAH,
        counting="step",
        step=step,
        kind=mapped(frame["Status"].to_numpy().astype(str), _kind),
        cycle=frame["Cycle"].to_numpy().astype(int),
        temperature_K=_temperature_K(frame),
        started=datetime.fromtimestamp(start_s, UTC),
        model="Neware cycler",
    )


def _floats(column: Any) -> FloatArray:
    return np.asarray(column.to_numpy(), dtype=float)


def _unix_s(column: Any) -> FloatArray:
    naive = column.dt.tz_convert(None) if column.dt.tz is not None else column
    return np.asarray(naive.to_numpy().astype("datetime64[us]").astype(np.int64) / 1e6)


def _time_s(in_step_s: FloatArray, since_start_s: FloatArray, step: NDArray[np.int_]) -> FloatArray:
    """The cycler's time within each step, set behind each other by time stamps (often of 1 s)."""
    time_s, last_s = np.empty(len(step)), 0.0
    for rows in stretches(step):
        begins_s = max(last_s, float(since_start_s[rows.start] - in_step_s[rows.start]))
        time_s[rows] = begins_s + in_step_s[rows]
        last_s = float(time_s[rows][-1])
    return time_s


def _kind(status: str) -> str:
    """The technique of a status like "CC_Chg"; one that only holds a voltage is "voltage"."""
    if status in _RESTS:
        return "rest"
    method, _, direction = status.partition("_")
    if method == "CV":
        return "voltage"
    return {"Chg": "charge", "DChg": "discharge"}.get(direction, "")


def _temperature_K(frame: Any) -> FloatArray | None:
    """The first thermocouple, where there is one."""
    found = [name for name in frame.columns if name.startswith(("T", "t")) and name[1:].isdigit()]
    return _floats(frame[found[0]]) + 273.15 if found else None
