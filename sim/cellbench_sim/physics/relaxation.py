"""How the relaxation times of a depressed arc are spread, as a short ladder of RC pairs.

The arc Z = R / (1 + (j w tau)^alpha) has, over x = ln(t / tau), the cumulative distribution F(x) =
1/2 + atan(tanh(alpha x / 2) / tan(pi (1 - alpha) / 2)) / (pi alpha)  (Cole and Cole 1941). The axis
is cut into bins, narrow in the peak and even in the tails; each becomes one pair with the bin's
share of the resistance and the mean ln(t) of the bin. About twenty pairs are within 0.1 % of R at
alpha 0.85 to 0.95.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_TAIL_BIN_WIDTH = 1.2
_PEAK_BINS = 8
_FINE_POINTS = 20001


@dataclass(frozen=True)
class RelaxationTimes:
    """Pairs from the slowest to the fastest: times over tau, and shares of R that sum to one."""

    ratios: tuple[float, ...]
    shares: tuple[float, ...]
    ratio_array: NDArray[np.float64]
    share_array: NDArray[np.float64]


@lru_cache
def relaxation_times(
    alpha: float, log_shortest: float = -9.0, log_longest: float = 6.0
) -> RelaxationTimes:
    """Return the ladder of an arc of exponent `alpha` between two values of ln(t / tau)."""
    if alpha == 1.0:
        return _ladder(np.zeros(1), np.ones(1))
    fine = np.linspace(log_shortest, log_longest, _FINE_POINTS)
    share_below = _cumulative(fine, alpha)
    cuts = _cuts(fine, share_below)
    shares = np.diff(share_below[cuts])
    moments = np.concatenate([[0.0], np.cumsum(np.diff(share_below) * (fine[1:] + fine[:-1]) / 2)])
    means = np.diff(moments[cuts]) / shares
    shares[0] += share_below[0]
    shares[-1] += 1.0 - share_below[-1]
    return _ladder(means, shares)


def _cumulative(x: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    angle = np.arctan(np.tanh(alpha * x / 2) / np.tan(np.pi * (1 - alpha) / 2))
    result: NDArray[np.float64] = 0.5 + angle / (np.pi * alpha)
    return result


def _cuts(fine: NDArray[np.float64], share_below: NDArray[np.float64]) -> NDArray[np.intp]:
    """Places in `fine` that bound the bins: even in x in the tails, even in share in the peak."""
    progress = (fine - fine[0]) / _TAIL_BIN_WIDTH + _PEAK_BINS * (share_below - share_below[0])
    bins = max(1, round(progress[-1]))
    return np.searchsorted(progress, np.linspace(0.0, progress[-1], bins + 1)).astype(np.intp)


def _ladder(means: NDArray[np.float64], shares: NDArray[np.float64]) -> RelaxationTimes:
    ratios = np.exp(means[::-1])
    shares = shares[::-1] / shares.sum()
    return RelaxationTimes(tuple(ratios.tolist()), tuple(shares.tolist()), ratios, shares)
