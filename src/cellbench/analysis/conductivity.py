"""Ionic conductivity from impedance: thickness / (R_total x area), R_total = bulk + boundaries.

A dense pellet's spectrum shows its bulk and its grain boundaries in series (Irvine, Sinclair and
West, Adv. Mater. 2 (1990) 132); between laboratories the value of one material scatters by half and
more (Ohno et al., ACS Energy Lett. 5 (2020) 910), so pressures and temperature stand beside it.
The pellet's thickness and area are the card's. What the band does not identify (a boundary arc
above it, say) is listed and given as None, while the total, which is known, is given all the same.
Spectra at several temperatures give the activation energy in both usual forms.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cellbench.analysis import reported
from cellbench.analysis.dataset import Dataset, Result, Spectrum
from cellbench.analysis.equivalents import FOLLOWS_RMS, Equivalent, blocking, reversible
from cellbench.analysis.kramers_kronig import residual_percent
from cellbench.analysis.warming import BOLTZMANN_EV_K

_ROOM_K = 298.15
_MS_CM = 10.0  # mS/cm in one S/m


def analyse(dataset: Dataset) -> Result:
    """Conductivity of each spectrum, and of the run.

    The run's values are those of one spectrum: the median one, or with temperatures more than 5 K
    apart the one nearest to 25 degC. Uncertainties are standard errors (68 %) of the fit; those of
    thickness and area are not in them.

    Raises:
        ValueError: if there is no spectrum, or the card gives no thickness.
    """
    thickness_m = dataset.geometry.electrolyte_thickness_m
    if thickness_m is None:
        raise ValueError("The cell card gives no electrolyte thickness: no conductivity.")
    if not dataset.spectra:
        raise ValueError("No conductivity without a spectrum.")
    area_m2 = dataset.geometry.electrolyte_area_m2 or dataset.geometry.area_m2
    rows = [_row(dataset, spectrum, thickness_m / area_m2) for spectrum in dataset.spectra]
    overall = {
        key: value for key, value in _representative(rows).items() if key not in {"step", "time_h"}
    }
    values = [row["conductivity_mS_cm"] for row in rows]
    spread = (max(values) - min(values)) / float(np.median(values))
    return overall | {
        "conductivity_spread_percent": reported.percent(spread),
        "thickness_um": reported.scaled(thickness_m, 1e6),
        "area_cm2": reported.scaled(area_m2, 1e4),
        "spectra": rows,
        **_activation_energy(rows),
    }


def describe(result: Mapping[str, Any]) -> list[str]:
    """The conductivity in lines for people."""
    temperature, pressure = result["temperature_degC"], result["stack_pressure_MPa"]
    at = f" at {temperature:.1f} °C" if temperature is not None else ""
    under = f", {pressure:.1f} MPa" if pressure is not None else ""
    lines = [
        f"conductivity  {_with_error(result)}{at}{under}",
        f"resistance    {result['R_total_ohm']:.4g} Ω in total{_parts(result)}",
    ]
    if result["fit_residual_percent"] > 100 * FOLLOWS_RMS:
        lines.append(
            f"NOT TO BE TRUSTED: the circuit leaves {result['fit_residual_percent']:.0f} % of the "
            "spectrum unexplained. Is this the cell of the card?"
        )
    if result["Ea_sigma_eV"] is not None:
        lines.append(
            f"activation    {result['Ea_sigma_eV']:.3f} eV (of sigma), "
            f"{result['Ea_sigma_T_eV']:.3f} eV (of sigma T)"
        )
    return lines


def _with_error(result: Mapping[str, Any]) -> str:
    """Three digits, and what the fit leaves open; the sizes on the card are worse than that."""
    value, error = result["conductivity_mS_cm"], result["conductivity_uncertainty_mS_cm"]
    decimals = max(0, 2 - math.floor(math.log10(value)))
    text = f"{value:.{decimals}f} mS/cm"
    return text if not error else f"{text} (fit: ± {100 * error / value:.1g} %)"


def _parts(result: Mapping[str, Any]) -> str:
    bulk_ohm, boundary_ohm = result["R_bulk_ohm"], result["R_grain_boundary_ohm"]
    if bulk_ohm is None or boundary_ohm is None:
        return "; bulk and grain boundary not told apart in this band"
    return f": bulk {bulk_ohm:.4g} Ω, grain boundary {boundary_ohm:.4g} Ω"


def _row(dataset: Dataset, spectrum: Spectrum, length_over_area_per_m: float) -> Result:
    found = _equivalent(dataset, spectrum)
    fit, parts = found.fit, found.electrolyte
    total_ohm, error_ohm = fit.resistance_ohm(*parts), fit.uncertainty_ohm(*parts)
    conductivity = _MS_CM * length_over_area_per_m / total_ohm
    temperature_K, pressure_Pa = _conditions(dataset, spectrum)
    return {
        "step": spectrum.step,
        "time_h": reported.scaled(spectrum.time_s, 1 / 3600),
        "conductivity_mS_cm": reported.number(conductivity),
        "conductivity_uncertainty_mS_cm": reported.number(conductivity * error_ohm / total_ohm),
        **_resistances(found),
        "temperature_degC": reported.degree_celsius(temperature_K),
        "stack_pressure_MPa": reported.megapascal(pressure_Pa),
        "highest_pressure_MPa": reported.megapascal(_highest_Pa(dataset, spectrum.time_s)),
        "fit_residual_percent": reported.percent(fit.rms),
        "kramers_kronig_residual_percent": residual_percent(spectrum),
    }


def _equivalent(dataset: Dataset, spectrum: Spectrum) -> Equivalent:
    return reversible(spectrum) if dataset.geometry.layout == "symmetric" else blocking(spectrum)


def _resistances(found: Equivalent) -> Result:
    unknown = {k: why for k, why in found.unidentified().items() if k != "interface"}
    groups = {"bulk": found.bulk, "grain_boundary": found.grain_boundary}
    parts = found.electrolyte
    values: Result = {
        "R_total_ohm": reported.number(found.fit.resistance_ohm(*parts)),
        "R_total_uncertainty_ohm": reported.number(found.fit.uncertainty_ohm(*parts)),
        "not_identified": [f"R_{name}_ohm" for name in unknown],
        "why_not_identified": [f"R_{name}_ohm: {why}" for name, why in unknown.items()],
    }
    for name, elements in groups.items():
        known = name not in unknown
        ohm, error_ohm = found.fit.resistance_ohm(*elements), found.fit.uncertainty_ohm(*elements)
        values[f"R_{name}_ohm"] = reported.number(ohm) if known else None
        values[f"R_{name}_uncertainty_ohm"] = reported.number(error_ohm) if known else None
    return values


def _conditions(dataset: Dataset, spectrum: Spectrum) -> tuple[float | None, float | None]:
    """Temperature (K) and stack pressure (Pa): the spectrum's own, else the gauges'."""
    at_s = spectrum.time_s
    temperature_K, pressure_Pa = spectrum.temperature_K, spectrum.stack_pressure_Pa
    return (
        dataset.temperature_K(at_s, at_s) if temperature_K is None else temperature_K,
        dataset.stack_pressure_Pa(at_s, at_s) if pressure_Pa is None else pressure_Pa,
    )


def _highest_Pa(dataset: Dataset, until_s: float) -> float | None:
    """The highest pressure (Pa) that the pellet has felt in this run: it remembers that."""
    series = dataset.samples.stack_pressure
    felt = series.value[(series.time_s <= until_s) & np.isfinite(series.value)]
    return float(felt.max()) if len(felt) else None


def _representative(rows: Sequence[Result]) -> Result:
    known = [row for row in rows if row["temperature_degC"] is not None]
    celsius = [row["temperature_degC"] for row in known]
    if len(known) == len(rows) and max(celsius) - min(celsius) > 5:
        return min(known, key=lambda row: abs(float(row["temperature_degC"]) + 273.15 - _ROOM_K))
    return sorted(rows, key=lambda row: float(row["conductivity_mS_cm"]))[(len(rows) - 1) // 2]


def _activation_energy(rows: Sequence[Result]) -> Result:
    """Both forms of the activation energy, from three temperatures or more over 10 K."""
    known = [row for row in rows if row["temperature_degC"] is not None]
    kelvin = np.array([row["temperature_degC"] for row in known], dtype=float) + 273.15
    sigma = np.array([row["conductivity_mS_cm"] for row in known], dtype=float)
    if len(set(kelvin.round())) < 3 or np.ptp(kelvin) < 10:
        return {"Ea_sigma_eV": None, "Ea_sigma_T_eV": None}
    slopes = [np.polyfit(1 / kelvin, np.log(y), 1)[0] for y in (sigma, sigma * kelvin)]
    plain, with_T = (reported.number(-BOLTZMANN_EV_K * float(slope)) for slope in slopes)
    return {"Ea_sigma_eV": plain, "Ea_sigma_T_eV": with_T}
