"""Lithium diffusing in the particles of an active material: by modes in time, closed in frequency.

A sphere of radius R whose mean lithium content x changes at the rate r has, at its surface,
x + sum(m_k) + rem r, with dm_k/dt = -m_k/tau_k + (2/3) r and tau_k = R^2 / (D l_k^2), where the l_k
are the roots of tan(l) = l (Crank, The Mathematics of Diffusion, 1975, 6.3.4). In frequency
x_surface / r = (R^2/3D) tanh(phi) / (phi - tanh(phi)) with phi = R sqrt(j w / D).
"""

import math
from functools import lru_cache
from itertools import pairwise
from operator import mul

import numpy as np
from numpy.typing import NDArray

from cellbench_sim.physics.state import Stateful

_MODES = 16
#: Beyond those, modes are taken together up to each of these.
_TOGETHER_UP_TO = (24, 40, 80)
_SETTLED_AFTER = 36.0
#: All modes together make 1/15; what is left out of them follows as one fast mode.
_REMAINDER_SPEED = 4.0
_LARGE_PHI = 20.0
#: Steps whose decays are kept.
_STEPS_KNOWN = 4096


def _roots(count: int) -> list[float]:
    """First positive roots of tan(l) = l, by the fixed point l = k pi + atan(l)."""
    roots = []
    for k in range(1, count + 1):
        root = k * math.pi
        for _ in range(60):
            root = k * math.pi + math.atan(root)
        roots.append(root)
    return roots


def _ladder() -> tuple[list[float], list[float]]:
    """Time constants and gains of the modes, in units of R^2/D."""
    every = [1.0 / root**2 for root in _roots(_TOGETHER_UP_TO[-1])]
    times, gains = every[:_MODES], [2.0 / 3.0 * time for time in every[:_MODES]]
    for first, last in pairwise((_MODES, *_TOGETHER_UP_TO)):
        taken = every[first:last]
        gains.append(2.0 / 3.0 * sum(taken))
        times.append(sum(time * time for time in taken) / sum(taken))
    return [*times, every[-1] / _REMAINDER_SPEED], [*gains, 1.0 / 15.0 - sum(gains)]


_TIMES, _GAINS = _ladder()


@lru_cache(_STEPS_KNOWN)
def _ahead(scaled: float) -> tuple[tuple[float, ...], float]:
    """Return what each mode keeps over a step, and what all gain in it, both in units of R^2/D.

    Steps are the same again and again, and for all cells of a kind.
    """
    decays = tuple(
        math.exp(-scaled / time) if scaled < _SETTLED_AFTER * time else 0.0 for time in _TIMES
    )
    return decays, sum(gain * (1.0 - decay) for gain, decay in zip(_GAINS, decays, strict=True))


class Particle(Stateful):
    """Lithium content of a sphere, mean and surface; `diffusion_time_s` is R^2/D."""

    def __init__(self, diffusion_time_s: float, content: float) -> None:
        self.diffusion_time_s = diffusion_time_s
        self.mean = content
        self._modes = [0.0] * len(_TIMES)

    @property
    def surface(self) -> float:
        """Content at the surface, now."""
        return self.mean + sum(self._modes)

    def response(self, duration_s: float) -> tuple[float, float]:
        """Return (content, seconds): the surface after a step at rate r is content + seconds r."""
        decays, gained = _ahead(duration_s / self.diffusion_time_s)
        kept = sum(map(mul, decays, self._modes))
        return self.mean + kept, duration_s + self.diffusion_time_s * gained

    def relax(self, duration_s: float, rate_per_s: float) -> None:
        """Advance by a step at a steady rate of change of the mean."""
        decays, _ = _ahead(duration_s / self.diffusion_time_s)
        steady = rate_per_s * self.diffusion_time_s
        self._modes = [
            gain * steady + (mode - gain * steady) * decay
            for mode, gain, decay in zip(self._modes, _GAINS, decays, strict=True)
        ]
        self.mean += rate_per_s * duration_s

    def transfer(self, omega: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Return surface content over rate of change of the mean (s), at omega in rad/s."""
        phi = np.sqrt(1j * omega * self.diffusion_time_s)
        # Beyond this argument the hyperbolic tangent is 1 to the last bit.
        tanh = np.tanh(np.where(phi.real > _LARGE_PHI, _LARGE_PHI, phi))
        result: NDArray[np.complex128] = self.diffusion_time_s / 3.0 * tanh / (phi - tanh)
        return result
