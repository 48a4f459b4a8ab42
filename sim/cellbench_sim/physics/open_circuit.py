"""Open-circuit potentials (V vs Li+/Li) of cathode materials over their lithium content x.

NMC811: the fit of Chen et al., J. Electrochem. Soc. 2020, 167, 080534, which reaches only 4.62 V
at x = 0.07; below x = 0.2 it is blended into U = 4.8 + 3.33 (0.07 - x), so that Li0.07 is what 4.8
V leaves. NCM85: as NMC811 (assumed). NCM622 and LCO: points of the usual shape (assumed). Each
falls steeply where the material is full, and goes on steeply beyond 0 and 1.
"""

from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cellbench_sim.physics.tabulated import Curve

ActiveName = Literal["NMC811", "NCM85", "NCM622", "LCO"]
Contents = NDArray[np.float64]

_BLEND_AT, _BLEND_WIDTH = 0.16, 0.01
_FULL_WIDTH = 0.006
_BEYOND_V = -60.0
_LEAST, _MOST = 0.0, 1.0

_NCM622 = (
    (0.0, 5.25), (0.1, 4.95), (0.15, 4.82), (0.2, 4.68), (0.25, 4.55), (0.3, 4.43), (0.35, 4.32),
    (0.4, 4.22), (0.45, 4.12), (0.5, 4.03), (0.55, 3.95), (0.6, 3.88), (0.65, 3.82), (0.7, 3.775),
    (0.75, 3.735), (0.8, 3.70), (0.85, 3.665), (0.9, 3.62), (0.95, 3.54), (0.97, 3.45),
    (0.985, 3.2), (1.0, 2.4),
)  # fmt: skip
_LCO = (
    (0.0, 5.4), (0.2, 4.88), (0.3, 4.70), (0.35, 4.58), (0.4, 4.44), (0.44, 4.32), (0.46, 4.255),
    (0.48, 4.21), (0.5, 4.18), (0.52, 4.155), (0.55, 4.11), (0.6, 4.05), (0.65, 4.0), (0.7, 3.965),
    (0.75, 3.938), (0.8, 3.925), (0.85, 3.918), (0.92, 3.908), (0.95, 3.893), (0.97, 3.85),
    (0.985, 3.7), (0.995, 3.3), (1.0, 2.6),
)  # fmt: skip


@lru_cache
def open_circuit_curve(active: ActiveName) -> Curve:
    """Return the potential (V) of an active material over its lithium content."""
    if active == "NCM622":
        return _through(_NCM622)
    if active == "LCO":
        return _through(_LCO)
    return Curve(_nmc811, _LEAST, _MOST, _BEYOND_V)


def _nmc811(x: Contents) -> Contents:
    fit = (
        4.4875
        - 0.8090 * x
        - 0.0428 * np.tanh(18.5138 * (x - 0.5542))
        - 17.7326 * np.tanh(15.7890 * (x - 0.3117))
        + 17.5842 * np.tanh(15.9308 * (x - 0.3120))
    )
    nearly_empty = 4.8 + 3.33 * (0.07 - x)
    weight = 1.0 / (1.0 + np.exp((x - _BLEND_AT) / _BLEND_WIDTH))
    blended: Contents = weight * nearly_empty + (1.0 - weight) * fit
    return blended - np.exp((x - 1.0) / _FULL_WIDTH)


def _through(points: tuple[tuple[float, float], ...]) -> Curve:
    # A quarter of a second, which lithium and blocking cells need not wait for.
    from scipy.interpolate import PchipInterpolator  # noqa: PLC0415

    contents, potentials = zip(*points, strict=True)
    return Curve(PchipInterpolator(contents, potentials), _LEAST, _MOST, _BEYOND_V)
