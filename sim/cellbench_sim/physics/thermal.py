"""Thermal activation, shared by everything that gets faster when warm."""

import math

BOLTZMANN_eV_PER_K = 8.617333262e-5


def arrhenius(activation_energy_eV: float, temperature_K: float, reference_K: float) -> float:
    """Return the rate at a temperature over that at the reference, exp(-Ea/k (1/T - 1/T_ref))."""
    inverse = 1.0 / temperature_K - 1.0 / reference_K
    return math.exp(-activation_energy_eV / BOLTZMANN_eV_PER_K * inverse)


def thermal_voltage_V(temperature_K: float) -> float:
    """Return RT/F."""
    return BOLTZMANN_eV_PER_K * temperature_K
