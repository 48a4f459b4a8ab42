"""Straight lines and planes through measured points, with confidence intervals.

Ordinary least squares; intervals are 95 %, from Student's t with the degrees of freedom left
(Draper and Smith, Applied Regression Analysis, 3rd ed., ch. 1 and 5).
"""

from dataclasses import dataclass

import numpy as np

from cellbench.analysis.dataset import FloatArray

CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class Regression:
    """Coefficients in the order of the columns, half-widths of their intervals, and the fit.

    `half_width` is NaN where no degree of freedom is left; `r2` is the coefficient of
    determination.
    """

    coefficients: FloatArray
    half_width: FloatArray
    residuals: FloatArray
    r2: float

    def __getitem__(self, index: int) -> tuple[float, float]:
        """One coefficient and the half-width of its interval."""
        return float(self.coefficients[index]), float(self.half_width[index])


def regress(columns: FloatArray, target: FloatArray, *, dependent: bool = False) -> Regression:
    """Least squares of `target` (n) on `columns` (n, k).

    Args:
        columns: one column per coefficient; a constant is a column of ones.
        target: what to explain.
        dependent: whether neighbouring residuals are alike (a time series): intervals are then
            widened by the effective number of independent rows, from the lag-one correlation.

    Raises:
        ValueError: if there are fewer points than coefficients.
    """
    count, free = columns.shape
    if count < free:
        raise ValueError(f"{free} coefficients need at least {free} points, there are {count}.")
    # Seconds beside unity: unscaled columns would cost half the digits.
    scale = np.linalg.norm(columns, axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    basis = columns / scale
    found = np.linalg.lstsq(basis, target, rcond=None)[0]
    residuals = target - basis @ found
    spread = float(np.sum((target - target.mean()) ** 2))
    r2 = 1 - float(residuals @ residuals) / spread if spread > 0 else 1.0
    half_width = _half_width(basis, residuals, dependent=dependent) / scale
    return Regression(found / scale, half_width, residuals, r2)


def line(x: FloatArray, y: FloatArray, *, dependent: bool = False) -> Regression:
    """Intercept and slope, in this order. Raises like `regress`."""
    return regress(np.column_stack((np.ones(len(x)), x)), y, dependent=dependent)


def t_quantile(degrees: float) -> float:
    """Two-sided 95 % quantile of Student's t."""
    from scipy.special import stdtrit  # noqa: PLC0415 - only a result that is wanted pays for it

    return float(stdtrit(degrees, 0.5 + CONFIDENCE / 2))


def _half_width(basis: FloatArray, residuals: FloatArray, *, dependent: bool) -> FloatArray:
    count, free = basis.shape
    share = _independent_share(residuals) if dependent else 1.0
    degrees = count * share - free
    if degrees <= 0:
        return np.full(free, np.nan)
    variance = float(residuals @ residuals) / (count - free) / share
    covariance = np.linalg.pinv(basis.T @ basis) * variance
    return np.asarray(t_quantile(degrees) * np.sqrt(np.maximum(np.diag(covariance), 0.0)))


def _independent_share(residuals: FloatArray) -> float:
    """Share of rows that count, (1 - r) / (1 + r) for a first-order autoregression."""
    square = float(residuals @ residuals)
    if square <= 0 or len(residuals) < 3:
        return 1.0
    r = float(residuals[1:] @ residuals[:-1]) / square
    return (1 - r) / (1 + r) if 0 < r < 1 else 1.0
