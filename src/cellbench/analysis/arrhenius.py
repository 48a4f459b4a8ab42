"""Activation energy of the ionic conductivity, in both usual forms, with confidence intervals.

sigma = A exp(-Ea / kT) and sigma T = A exp(-Ea / kT) differ by about k<T> in Ea (0.026 to 0.029 eV
between 30 and 60 degC); the second is that of hopping ions (Bachman et al., Chem. Rev. 116 (2016)
140). Studies seldom say which they fitted, so both are given. Straight lines through ln
against 1/T; intervals are 95 % of the scatter about the line, without the thermometer's own error.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from cellbench.analysis import conductivity, reported
from cellbench.analysis.dataset import Dataset, FloatArray, Result
from cellbench.analysis.regression import Regression, line
from cellbench.analysis.warming import BOLTZMANN_EV_K

Form: TypeAlias = Literal["sigma", "sigma_T"]
_ROOM_K = 298.15
_ZERO_CELSIUS_K = 273.15
_LEAST_SPAN_K = 10.0


def analyse(dataset: Dataset, *, temperature_K: float = _ROOM_K) -> Result:
    """Both activation energies from the spectra of a temperature ladder.

    Args:
        dataset: a run with spectra at three temperatures or more, over 10 K or more.
        temperature_K: at which the lines are read off.

    Raises:
        ValueError: if the spectra or their temperatures do not suffice, or no line is to be seen.
    """
    found = conductivity.analyse(dataset)
    rows = [row for row in found["spectra"] if row["temperature_degC"] is not None]
    kelvin = np.array([row["temperature_degC"] + _ZERO_CELSIUS_K for row in rows])
    sigma = np.array([row["conductivity_mS_cm"] for row in rows])
    if len(set(kelvin.round().tolist())) < 3 or np.ptp(kelvin) < _LEAST_SPAN_K:
        raise ValueError("No activation energy: it takes three temperatures over 10 K or more.")
    plain, with_T = line(1 / kelvin, np.log(sigma)), line(1 / kelvin, np.log(sigma * kelvin))
    slope, half_width = plain[1]
    if half_width > abs(slope):
        raise ValueError(
            "No activation energy: the conductivities lie on no line. Do the spectra show the "
            "electrolyte by itself?"
        )
    return {
        **_energy("Ea_sigma", plain),
        **_energy("Ea_sigma_T", with_T),
        "r2": reported.number(plain.r2),
        "conductivity_mS_cm": reported.number(_read_off(plain, temperature_K)),
        "read_off_at_degC": reported.degree_celsius(temperature_K),
        "lowest_degC": reported.degree_celsius(float(kelvin.min())),
        "highest_degC": reported.degree_celsius(float(kelvin.max())),
        "log10_A_S_cm": reported.number((plain[0][0] + np.log(1e-3)) / np.log(10)),
        "log10_A_S_K_cm": reported.number((with_T[0][0] + np.log(1e-3)) / np.log(10)),
        "hysteresis_percent": reported.percent(_hysteresis(kelvin, sigma, plain)),
        "spectra": [_row(row, one_K) for row, one_K in zip(rows, kelvin.tolist(), strict=True)],
    }


def describe(result: Mapping[str, Any]) -> list[str]:
    """The energies in lines for people."""
    return [
        f"Ea, sigma     {_with_interval(result, 'Ea_sigma')}",
        f"Ea, sigma T   {_with_interval(result, 'Ea_sigma_T')}",
        f"conductivity  {result['conductivity_mS_cm']:.3g} mS/cm "
        f"at {result['read_off_at_degC']:.4g} °C, from the line",
        f"range         {result['lowest_degC']:.1f} to {result['highest_degC']:.1f} °C, "
        f"{len(result['spectra'])} spectra",
    ]


def _energy(name: str, found: Regression) -> Result:
    slope, half_width = found[1]
    return {
        f"{name}_eV": reported.number(-slope * BOLTZMANN_EV_K),
        f"{name}_interval_eV": reported.number(half_width * BOLTZMANN_EV_K),
    }


def _read_off(found: Regression, temperature_K: float) -> float:
    return float(np.exp(found.coefficients @ [1, 1 / temperature_K]))


def _hysteresis(kelvin: FloatArray, sigma: FloatArray, found: Regression) -> float | None:
    """On the way down against on the way up, as a mean of what the line leaves; None without."""
    top = int(np.argmax(kelvin))
    if top < 1 or top > len(kelvin) - 2:
        return None
    rest = np.log(sigma) - (found.coefficients[0] + found.coefficients[1] / kelvin)
    return float(np.mean(rest[top + 1 :]) - np.mean(rest[:top]))


def _row(row: Mapping[str, Any], kelvin: float) -> Result:
    return {
        "step": row["step"],
        "temperature_degC": row["temperature_degC"],
        "inverse_temperature_1000_per_K": reported.number(1000 / kelvin),
        "conductivity_mS_cm": row["conductivity_mS_cm"],
        "conductivity_uncertainty_mS_cm": row["conductivity_uncertainty_mS_cm"],
        "sigma_T_S_K_cm": reported.number(row["conductivity_mS_cm"] * 1e-3 * kelvin),
        "R_total_ohm": row["R_total_ohm"],
        "kramers_kronig_residual_percent": row["kramers_kronig_residual_percent"],
    }


def _with_interval(result: Mapping[str, Any], name: str) -> str:
    value, half_width = result[f"{name}_eV"], result[f"{name}_interval_eV"]
    interval = "" if half_width is None else f" ± {half_width:.3f}"
    return f"{value:.3f}{interval} eV"


def line_points(result: Mapping[str, Any], form: Form = "sigma") -> tuple[list[float], list[float]]:
    """Ends of a fitted line: 1000/T in 1/K, and sigma in mS/cm or sigma T in S K/cm."""
    inverse: Sequence[float] = [row["inverse_temperature_1000_per_K"] for row in result["spectra"]]
    prefactor = 10 ** result["log10_A_S_cm" if form == "sigma" else "log10_A_S_K_cm"]
    scale, energy_eV = 1e3 if form == "sigma" else 1.0, result[f"Ea_{form}_eV"]
    ends = [min(inverse), max(inverse)]
    values = [scale * prefactor * np.exp(-energy_eV / BOLTZMANN_EV_K * x / 1000) for x in ends]
    return ends, [float(value) for value in values]
