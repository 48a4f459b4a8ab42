"""A solution that runs ahead of the state: what a solver found, readable at any time within it."""

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class LookAhead:
    """Terminals and state between the steps of a solver, by cubic Hermite polynomials.

    Args:
        start_s: When it begins, on the clock of whoever reads it.
        times_s: Nodes from 0 on, shape (n,).
        states: State at the nodes, shape (n, states).
        state_slopes: Its derivatives with time.
        terminals: Voltage and current (V, A) at the nodes, shape (n, 2).
        terminal_slopes: Their derivatives with time.
        spent: Whether the model ends here, because it has no solution further on.
    """

    def __init__(
        self,
        start_s: float,
        times_s: Array,
        states: Array,
        state_slopes: Array,
        terminals: Array,
        terminal_slopes: Array,
        *,
        spent: bool,
    ) -> None:
        self.start_s, self.spent = start_s, spent
        self._times_s: list[float] = times_s.tolist()
        self._states, self._state_slopes = states, state_slopes
        self._terminals: list[list[float]] = terminals.tolist()
        self._terminal_slopes: list[list[float]] = terminal_slopes.tolist()

    @property
    def end_s(self) -> float:
        """When it ends."""
        return self.start_s + self._times_s[-1]

    def terminals(self, time_s: float) -> tuple[float, float]:
        """Return voltage and current (V, A) at a time; after the end, those at the end."""
        node, weights = self._place(time_s)
        if weights is None:
            voltage_V, current_A = self._terminals[node]
            return voltage_V, current_A
        a, b, c, d = weights
        before, after = self._terminals[node], self._terminals[node + 1]
        rising, risen = self._terminal_slopes[node], self._terminal_slopes[node + 1]
        return (
            a * before[0] + b * after[0] + c * rising[0] + d * risen[0],
            a * before[1] + b * after[1] + c * rising[1] + d * risen[1],
        )

    def state(self, time_s: float) -> Array:
        """Return the state at a time; after the end, that at the end."""
        node, weights = self._place(time_s)
        if weights is None:
            found: Array = self._states[node]
            return found
        a, b, c, d = weights
        states, slopes = self._states, self._state_slopes
        between: Array = a * states[node] + b * states[node + 1]
        between += c * slopes[node] + d * slopes[node + 1]
        return between

    def _place(self, time_s: float) -> tuple[int, tuple[float, float, float, float] | None]:
        """Return the node before a time, and the weights there; none where it is at a node."""
        times_s, since_s = self._times_s, time_s - self.start_s
        node = bisect_right(times_s, since_s) - 1
        if node < 0 or node == len(times_s) - 1 or times_s[node] == since_s:
            return max(0, node), None
        step_s = times_s[node + 1] - times_s[node]
        x = (since_s - times_s[node]) / step_s
        rest = 1.0 - x
        return node, (
            (1.0 + 2.0 * x) * rest * rest,
            x * x * (3.0 - 2.0 * x),
            step_s * x * rest * rest,
            -step_s * x * x * rest,
        )
