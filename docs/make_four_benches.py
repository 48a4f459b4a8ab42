"""Writes docs/evidence/four_benches.md: three protocols in full length on four simulated benches.

python docs/make_four_benches.py STORE [PAGE]

What STORE holds from an earlier call is not run again. Exits with 1 where benches do not agree.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellbench.store import RunReader

PAGE = Path(__file__).parent / "evidence" / "four_benches.md"
#: Benches by their title; None is the usual simulated one, with which the others are compared.
BENCHES: Mapping[str, str | None] = {
    "PalmSens": None,
    "Keithley": "keithley",
    "Neware, PalmSens for spectra": "neware_with_palmsens",
    "Maccor, RMC press": "maccor",
}
REFERENCE = next(iter(BENCHES))
HEAD = """# Four benches

Written by `python docs/make_four_benches.py STORE`: the shipped `ccd`, `rate_test` and
`ageing_hold`, in full length, on four simulated benches with the same simulated cells. Every
instrument is an emulator that was written from the manual apart from its driver, so the numbers
show that a result does not depend on which instruments took it; they show nothing of real ones.

Each bench is compared with the first one. "Within" is what resolution, sampling and the accuracy of
the emulated instruments explain. A bench without a potentiostat has no spectra: what needs them is
"-", and the run's journal holds a deviation.

The Maccor does not resolve the leakage. The hold names no `current range`, so the driver takes the
one that holds the limit of the protocol, 150 mA, in which a reading is in steps of 0.15 uA and
scatters by 0.75 uA; and the emulated Maccor reports magnitudes, so that noise does not average out.
"""

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """One run: what its analyses gave, and its file."""

    results: Result
    reader: RunReader


@dataclass(frozen=True)
class Row:
    """A result that benches are compared by.

    Attributes:
        get: The result, None where the bench cannot measure it.
        within: Difference that is allowed, in the row's unit.
        relative: Difference that is allowed, as a fraction.
        why: What allows it.
        resolution: What one bench cannot tell apart, in the row's unit; added to ``within``.
    """

    title: str
    get: Callable[[Result], float | str | None]
    why: str = "the same"
    within: float = 0.0
    relative: float = 0.0
    resolution: Callable[[Run], float] = lambda _run: 0.0

    def shown(self, run: Run) -> str:
        """The result; with its resolution where that is not small."""
        value = self.get(run.results)
        if value is None or isinstance(value, str):
            return value or "-"
        resolved = self.resolution(run)
        if resolved < 0.1 * abs(value):
            return _text(value)
        unresolved = " (not resolved)" if abs(value) < 2 * resolved else ""
        return f"{value:.2g} ± {resolved:.2g}{unresolved}"

    def agrees(self, reference: Run, other: Run) -> bool:
        """Whether two benches agree, as far as both can measure it."""
        expected, found = self.get(reference.results), self.get(other.results)
        if expected is None or found is None:
            return True
        if isinstance(expected, str) or isinstance(found, str):
            return expected == found
        resolved = max(self.resolution(reference), self.resolution(other))
        allowed = self.within + self.relative * abs(expected) + resolved
        return abs(found - expected) <= allowed or math.isclose(found, expected)


def _ccd(key: str) -> Callable[[Result], Any]:
    return lambda results: results["ccd"][key]


def _last_stable(key: str) -> Callable[[Result], Any]:
    def get(results: Result) -> Any:
        ccd = results["ccd"]
        at = ccd["last_stable_mA_cm2"]
        return next(row[key] for row in ccd["steps"] if row["current_density_mA_cm2"] == at)

    return get


def _block(number: int, key: str) -> Callable[[Result], Any]:
    return lambda results: results["rate_table"]["rates"][number][key]


def _leakage(key: str) -> Callable[[Result], Any]:
    return lambda results: results["leakage"][key]


def _growth(key: str) -> Callable[[Result], Any]:
    return lambda results: results.get("resistance_growth", {}).get(key)


def resolution_uA(run: Run) -> float:
    """Scatter of a current in the hold's last hour, or one step of its range where that is more.

    A median of many readings would be known better, were it not that a cycler that reports
    magnitudes reads its noise where there is no current.
    """
    hold = next(number for number, (path, _) in run.reader.steps.items() if path == "hold")
    samples = run.reader.samples(*run.reader.sources())
    rows = (samples["step"] == hold) & np.isfinite(samples["current_A"])
    last = rows & (samples["time_s"] >= samples["time_s"][rows].max() - 3600)
    current_A = samples["current_A"][last]
    steps_A = np.diff(np.unique(current_A.round(13)))
    scatter_A = 1.48 * float(np.median(np.abs(current_A - np.median(current_A))))
    return 1e6 * max(float(steps_A.min()) if len(steps_A) else 0.0, scatter_A)


def _charge_resolution(run: Run) -> float:
    """What the resolution of the current makes in the hold, in mAh/cm2."""
    leakage = run.results["leakage"]
    per_cm2 = leakage["leakage_uA_cm2"] / leakage["leakage_uA"]
    return float(1e-3 * resolution_uA(run) * per_cm2 * leakage["hold_h"])


_BLOCKS = ("C/20", "C/10", "C/5", "C/2", "1C", "2C", "back at C/10")
_RESOLVED = "1 %, and the scatter of a reading"
PROTOCOLS: Mapping[str, tuple[Row, ...]] = {
    "ccd": (
        Row("verdict", _ccd("verdict")),
        Row("last stable, mA/cm2", _ccd("last_stable_mA_cm2")),
        Row("irregular at, mA/cm2", _ccd("irregular_at_mA_cm2")),
        Row("short at, mA/cm2", _ccd("short_at_mA_cm2")),
        Row("charge of the last stable half-cycle, mAh/cm2", _ccd("areal_capacity_mAh_cm2"),
            "1 s of 20 min", relative=1 / 1200),
        Row("voltage of the last stable step, V", _last_stable("voltage_positive_V"),
            "gauge and gain, 0.5 %", relative=5e-3),
        Row("stack pressure, MPa", _ccd("stack_pressure_MPa"),
            "the press settles within 0.1 MPa", within=0.1),
        Row("resistance of the electrolyte, ohm", _ccd("R_electrolyte_ohm"),
            "gain and pressure, 1 %", relative=1e-2),
    ),
    "rate_test": (
        *(
            Row(f"discharge capacity, {name}, mAh/g", _block(number, "discharge_mAh_g"),
                "0.5 %", relative=5e-3)
            for number, name in enumerate(_BLOCKS)
        ),
        Row("return, %", lambda results: results["rate_table"]["return_percent"],
            "0.2 points", within=0.2),
        Row("efficiency of a cycle at 1C, %", _block(4, "coulombic_efficiency_percent"),
            "0.2 points", within=0.2),
        Row("mean voltage of discharge at 1C, V", _block(4, "mean_V"), "5 mV", within=5e-3),
    ),
    "ageing_hold": (
        Row("held, h", _leakage("hold_h"), "a minute", within=1 / 60),
        Row("potential vs Li+/Li, V", _leakage("potential_V"), "5 mV", within=5e-3),
        Row("leakage, uA", _leakage("leakage_uA"), _RESOLVED, relative=1e-2,
            resolution=resolution_uA),
        Row("charge during the hold, mAh/cm2", _leakage("charge_mAh_cm2"),
            "5 %, as a hold that is left for spectra charges anew after each; the scatter",
            relative=5e-2, resolution=_charge_resolution),
        Row("interface, fresh, ohm", _growth("first_ohm"), "the fit, 2 %", relative=2e-2),
        Row("interface, at the end of the hold, ohm", _growth("highest_ohm"), "1 %", relative=1e-2),
        Row("interface, discharged, ohm", _growth("last_ohm"), "the fit, 2 %", relative=2e-2),
        Row("exponent of the growth", _growth("exponent"), "its interval", within=0.05),
    ),
}  # fmt: skip


def run(protocol: str, bench: str | None, store: Path) -> Run:
    """Run a protocol on a bench in its own part of the store, or take what is there."""
    own = store / (bench or "palmsens")
    own.mkdir(parents=True, exist_ok=True)
    answer = own / f"{protocol}.json"
    if not answer.exists():
        chosen = [] if bench is None else ["--bench", bench]
        command = [sys.executable, "-m", "cellbench", "run", protocol, *chosen]
        done = subprocess.run(
            [*command, "--store", str(own), "--json"], stdout=subprocess.PIPE, text=True, check=True
        )
        answer.write_text(done.stdout, encoding="utf-8")
    found = json.loads(answer.read_text(encoding="utf-8"))
    return Run(found["results"], RunReader(own / "runs" / f"{found['run']}.sqlite"))


def page(runs: Mapping[str, Mapping[str, Run]]) -> tuple[str, bool]:
    """The whole page, and whether all benches agree; runs by protocol and title of the bench."""
    parts, agreed = [HEAD], True
    for protocol, rows in PROTOCOLS.items():
        benches = runs[protocol]
        parts.append(f"\n## {protocol}\n\n| | {' | '.join(benches)} | within | |\n")
        parts.append("|---" * (len(benches) + 3) + "|\n")
        for row in rows:
            cells = [row.shown(each) for each in benches.values()]
            agrees = all(row.agrees(benches[REFERENCE], each) for each in benches.values())
            agreed &= agrees
            verdict = "agree" if agrees else "**differ**"
            parts.append(f"| {row.title} | {' | '.join(cells)} | {row.why} | {verdict} |\n")
        if protocol == "ageing_hold":
            cells = [_text(resolution_uA(each)) for each in benches.values()]
            parts.append(f"| resolution of the leakage, uA | {' | '.join(cells)} | | |\n")
        parts.append("\n" + "".join(_deviations(title, each) for title, each in benches.items()))
    return "".join(parts), agreed


def deviations(reader: RunReader) -> dict[str, int]:
    """The deviations of a run's journal, and how often each is there."""
    texts = [entry.text for entry in reader.journal if entry.kind == "deviation"]
    return {text: texts.count(text) for text in dict.fromkeys(texts)}


def _deviations(title: str, ran: Run) -> str:
    found = deviations(ran.reader)
    listed = "; ".join(f"{text} ({count} times)" for text, count in found.items())
    return f"- {title}: {listed or 'no deviation'}.\n"


def _text(value: float | str | None) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.4g}"


def main(store: Path, target: Path = PAGE) -> int:
    """Run what is missing, write the page, and return the exit code."""
    runs = {
        protocol: {title: run(protocol, bench, store) for title, bench in BENCHES.items()}
        for protocol in PROTOCOLS
    }
    text, agreed = page(runs)
    target.write_text(text, encoding="utf-8")
    return 0 if agreed else 1


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
