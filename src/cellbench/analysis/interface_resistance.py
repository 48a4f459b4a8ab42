"""Interface resistance against stack pressure, one row per spectrum.

The electrolyte's part (bulk and grain boundaries) should not care for pressure; the interfaces'
should, since pressure closes the voids between lithium and electrolyte (Krauskopf et al., ACS Appl.
Mater. Interfaces 11 (2019) 14463). In a symmetric cell ASR_interface = R_interface x area / 2,
"per interface", because current crosses two alike; in other cells it is R_interface x area, of both
interfaces together.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from cellbench.analysis import reported
from cellbench.analysis.dataset import Dataset, Result, Spectrum
from cellbench.analysis.equivalents import of_layout
from cellbench.analysis.kramers_kronig import residual_percent


def analyse(dataset: Dataset) -> Result:
    """Resistances of every spectrum, in order of time, and how they follow the stack pressure.

    An interface without an arc of its own is None, never zero.

    Raises:
        ValueError: if there is no spectrum, or the electrodes are blocking.
    """
    if not dataset.spectra:
        raise ValueError("No interface resistance without a spectrum.")
    if dataset.geometry.layout == "blocking":
        raise ValueError(
            "Blocking electrodes have no interface resistance: analyse the conductivity instead."
        )
    rows = [_row(dataset, one) for one in sorted(dataset.spectra, key=lambda one: one.time_s)]
    electrolyte = [row["R_electrolyte_ohm"] for row in rows]
    typical_ohm = reported.median(electrolyte)
    spread = (max(electrolyte) - min(electrolyte)) / typical_ohm if typical_ohm else None
    return {
        "R_electrolyte_ohm": typical_ohm,
        "R_electrolyte_spread_percent": reported.percent(spread),
        "R_interface_falls_with_pressure": _falls(rows, "R_interface"),
        "R_total_falls_with_pressure": _falls(rows, "R_total"),
        "ASR_is": "of both" if dataset.geometry.layout in {"full", "half"} else "per interface",
        "area_cm2": reported.scaled(dataset.geometry.area_m2, 1e4),
        "spectra": rows,
    }


def describe(result: Mapping[str, Any]) -> list[str]:
    """The table in lines for people."""
    lines = [_line(row, result["ASR_is"]) for row in result["spectra"]]
    verdict = {True: "falls monotonically with pressure", False: "does not fall monotonically"}
    falls = result["R_interface_falls_with_pressure"]
    if falls is not None:
        lines.append(f"interface resistance {verdict[falls]}")
    spread = result["R_electrolyte_spread_percent"]
    lines.append(f"electrolyte {result['R_electrolyte_ohm']:.4g} Ω, spread {spread:.2g} %")
    return lines


def _line(row: Mapping[str, Any], asr_is: str) -> str:
    pressure = row["stack_pressure_MPa"]
    at = "pressure unknown" if pressure is None else f"{pressure:.1f} MPa"
    interface = "interface not seen"
    if row["R_interface_ohm"] is not None:
        asr = row["ASR_interface_ohm_cm2"]
        interface = f"interface {row['R_interface_ohm']:.4g} Ω ({asr:.3g} Ω cm2 {asr_is})"
    return (
        f"{at:<10}electrolyte {row['R_electrolyte_ohm']:.4g} Ω   {interface}   "
        f"total {row['R_total_ohm']:.4g} Ω"
    )


def _row(dataset: Dataset, spectrum: Spectrum) -> Result:
    layout = dataset.geometry.layout
    found = of_layout("full" if layout in {"full", "half"} else "symmetric")(spectrum)
    interfaces = 1 if layout in {"full", "half"} else 2
    unknown = found.unidentified()
    seen = "interface" not in unknown
    interface_ohm = found.fit.resistance_ohm(*found.interface) if seen else None
    whole = (*found.electrolyte, *found.interface)
    at_s, pressure_Pa = spectrum.time_s, spectrum.stack_pressure_Pa
    if pressure_Pa is None:
        pressure_Pa = dataset.stack_pressure_Pa(at_s, at_s)
    return {
        "step": spectrum.step,
        "stack_pressure_MPa": reported.megapascal(pressure_Pa),
        "R_electrolyte_ohm": reported.number(found.fit.resistance_ohm(*found.electrolyte)),
        "R_electrolyte_uncertainty_ohm": reported.number(
            found.fit.uncertainty_ohm(*found.electrolyte)
        ),
        "R_interface_ohm": reported.number(interface_ohm),
        "R_interface_uncertainty_ohm": (
            reported.number(found.fit.uncertainty_ohm(*found.interface)) if seen else None
        ),
        "ASR_interface_ohm_cm2": (
            reported.ohm_cm2(interface_ohm * dataset.geometry.area_m2 / interfaces)
            if interface_ohm is not None
            else None
        ),
        "R_total_ohm": reported.number(found.fit.resistance_ohm(*whole)),
        "R_total_uncertainty_ohm": reported.number(found.fit.uncertainty_ohm(*whole)),
        "not_identified": [f"{part}: {why}" for part, why in unknown.items()],
        "temperature_degC": reported.degree_celsius(spectrum.temperature_K),
        "kramers_kronig_residual_percent": residual_percent(spectrum),
    }


def _falls(rows: Sequence[Result], name: str) -> bool | None:
    """Whether a resistance falls from each pressure to the next higher one; None if not known."""
    known = [
        (row["stack_pressure_MPa"], row[f"{name}_ohm"], row[f"{name}_uncertainty_ohm"])
        for row in rows
        if row["stack_pressure_MPa"] is not None and row[f"{name}_ohm"] is not None
    ]
    known.sort(key=lambda one: one[0])
    if len(known) < 2:
        return None
    return all(
        later[1] < earlier[1] + max(later[2], earlier[2]) for earlier, later in pairwise(known)
    )
