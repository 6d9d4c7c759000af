"""What the synthetic market's edge is worth: the chance that the target is reached before the stop.

For Brownian motion with drift mu and variance s2 per bar, starting at 0 between a stop at -a and a
target at +b, exp(-2 mu y / s2) is a martingale; stopping it at the first exit gives

    P(target first) = (1 - exp(-2 mu a / s2)) / (1 - exp(-2 mu (a + b) / s2)),

and a / (a + b) without drift (Cox and Miller 1965, The Theory of Stochastic Processes, section 5.7;
Karlin and Taylor 1975, A First Course in Stochastic Processes, chapter 7). The synthetic market's
drift is edge * x bar standard deviations, so that with stop and target in the same unit the chance
depends on edge and x alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_NO_DRIFT = 1e-12


def win_probability(x_side: ArrayLike, edge: float, stop_sd: ArrayLike, target_sd: ArrayLike) -> NDArray[np.float64]:
    """Probability that a trade reaches its target before its stop, without costs or time limit.

    Parameters
    ----------
    x_side
        The day's driver times the side (+1 long, -1 short); any shape.
    edge
        Drift per bar at a driver of one, in bar standard deviations.
    stop_sd, target_sd
        Distances from the entry, positive, in bar standard deviations.

    Returns
    -------
    ndarray
        In [0, 1], increasing in `x_side` when edge > 0, equal to stop / (stop + target) at 0.

    Examples
    --------
    >>> win_probability([-1.0, 0.0, 1.0], 0.06, 2.5, 5.0).round(3).tolist()
    [0.24, 0.333, 0.437]
    """
    drift, stop, target = np.broadcast_arrays(edge * np.asarray(x_side, dtype=np.float64), stop_sd, target_sd)
    still = np.abs(drift) < _NO_DRIFT
    rate = 2.0 * np.where(still, 1.0, np.abs(drift))
    # Both signs of the drift in terms of decaying exponentials, so that nothing overflows.
    numerator, denominator = -np.expm1(-rate * stop), -np.expm1(-rate * (stop + target))
    moving = np.where(drift > 0.0, numerator, numerator * np.exp(-rate * target)) / denominator
    return np.where(still, stop / (stop + target), moving)


def true_auc(probabilities: ArrayLike) -> float:
    """AUC of the true probability as a score, when each outcome is a Bernoulli draw of it.

    The best that any model can reach in the long run: the chance that of an independent win and
    loss the win had the higher probability, ties counting half.

    Parameters
    ----------
    probabilities
        Shape (n,), in [0, 1]; not all 0 and not all 1.

    Examples
    --------
    >>> true_auc([0.4, 0.4, 0.4])
    0.5
    >>> true_auc([0.0, 1.0])
    1.0
    """
    p = np.asarray(probabilities, dtype=np.float64)
    values, counts = np.unique(p, return_counts=True)
    wins, losses = values * counts, (1.0 - values) * counts
    if wins.sum() == 0.0 or losses.sum() == 0.0:
        raise ValueError("the AUC needs a chance of both outcomes")
    losses_below = np.cumsum(losses) - losses
    return float((wins * (losses_below + 0.5 * losses)).sum() / (wins.sum() * losses.sum()))
