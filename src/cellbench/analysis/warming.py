"""How a solid electrolyte's resistance follows temperature, where nobody has measured it."""

import math

BOLTZMANN_EV_K = 8.617333262e-5
#: Activation energy that solid electrolytes usually have, in eV.
USUAL_ENERGY_EV = 0.4


def warming(
    before_K: float | None, now_K: float | None, energy_eV: float = USUAL_ENERGY_EV
) -> float:
    """The electrolyte's resistance over the earlier one; 1 where a temperature is not known."""
    if before_K is None or now_K is None:
        return 1.0
    return math.exp(energy_eV / BOLTZMANN_EV_K * (1 / now_K - 1 / before_K))
