"""Sample weights: how much a trade teaches that the trades open beside it do not teach already.

*Concurrency* at a moment is the number of label intervals that hold it. A trade's *average
uniqueness* is the mean of 1 / concurrency over its own interval: 1 for a trade that was open
alone, 1/k for each of k trades with the same interval. The *time decay* lets older trades count
less; it runs over cumulated uniqueness, so that a crowd of overlapping trades ages by as much as
the information in it.

Method: Lopez de Prado, Advances in Financial Machine Learning (2018), sections 4.3 to 4.7 and
4.11, in continuous time in place of bars. The weights depend on the rows handed in only: a fold
calls with its training rows. Times are int64 nanoseconds since 1970 UTC; intervals are closed.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.contracts.base import ContractError
from pipelines.errors import SettingsError
from pipelines.settings import Weights

Times = NDArray[np.int64]
Floats = NDArray[np.float64]


def sample_weights(start: Times, end: Times, settings: Weights) -> Floats:
    """Weigh trades by average uniqueness and by age.

    Parameters
    ----------
    start, end
        Shape (n,): label intervals [start, end], closed, ns, in any order.
    settings
        Section `weights` of the settings. Without `uniqueness` only the decay is left, still
        over cumulated uniqueness.

    Returns
    -------
    ndarray
        Shape (n,), positive, mean 1. Trades that start together have decayed equally.

    Raises
    ------
    ContractError
        An interval ends before it starts.

    Examples
    --------
    Two trades at the same time teach as much as one alone:

    >>> from pipelines.settings import load_settings
    >>> start = np.array([0, 0, 10])
    >>> sample_weights(start, start + 5, load_settings().weights).tolist()
    [0.75, 0.75, 1.5]
    """
    uniqueness = average_uniqueness(start, end)
    moments, position = np.unique(start, return_inverse=True)
    together = np.bincount(position, weights=uniqueness, minlength=len(moments)).astype(np.float64)
    weights = time_decay(together, settings.time_decay)[position]
    if settings.uniqueness:
        weights = weights * uniqueness
    return weights / weights.mean() if len(weights) else weights


def average_uniqueness(start: Times, end: Times) -> Floats:
    """Average 1 / concurrency over each label interval.

    Parameters
    ----------
    start, end
        Shape (n,): label intervals [start, end], closed, ns, in any order.

    Returns
    -------
    ndarray
        Shape (n,), in (0, 1]. An interval of no length takes 1 / concurrency of its one moment.

    Raises
    ------
    ContractError
        An interval ends before it starts.

    Examples
    --------
    The first trade shares half of its time with the second:

    >>> average_uniqueness(np.array([0, 5]), np.array([10, 10])).tolist()
    [0.75, 0.5]
    """
    _check(start, end)
    if not len(start):
        return np.empty(0)
    moments, position = np.unique(np.concatenate([start, end]), return_inverse=True)
    first, last = position[: len(start)], position[len(start) :]
    started = np.cumsum(np.bincount(first, minlength=len(moments)))
    ended = np.cumsum(np.bincount(last, minlength=len(moments)))

    # Whole nanoseconds and fractions of one are summed apart: the sum over years of nanoseconds
    # would leave a float no digits for the difference over a short trade.
    # No interval spans a stretch that none holds, so what such a stretch adds drops out of every difference.
    concurrency = np.maximum((started - ended)[:-1], 1)
    whole, rest = np.divmod(np.diff(moments), concurrency)
    whole_until = np.concatenate([[0], np.cumsum(whole)])
    rest_until = np.concatenate([[0.0], np.cumsum(rest / concurrency)])

    own = (whole_until[last] - whole_until[first]) + (rest_until[last] - rest_until[first])
    length = end - start
    ended_before = np.concatenate([[0], ended[:-1]])
    at_moment = 1.0 / (started - ended_before)[first]
    return np.where(length > 0, own / np.maximum(length, 1), at_moment)


def time_decay(uniqueness: Floats, oldest: float) -> Floats:
    """Let weights rise along a straight line over cumulated uniqueness, from the oldest to the newest.

    Lopez de Prado lets the line begin just before the oldest observation; here the oldest one
    itself has the weight `oldest`.

    Parameters
    ----------
    uniqueness
        Shape (n,), positive, oldest first.
    oldest
        Weight of the oldest as a share of the newest one's, above 0 and at most 1; 1 = no decay.

    Returns
    -------
    ndarray
        Shape (n,), not falling; the newest has 1.

    Raises
    ------
    SettingsError
        `oldest` is out of range.

    Examples
    --------
    >>> time_decay(np.array([1.0, 0.5, 0.5, 1.0]), 0.5).tolist()
    [0.5, 0.625, 0.75, 1.0]
    """
    if not 0.0 < oldest <= 1.0:
        raise SettingsError(f"time decay {oldest:g}", limit="above 0 and at most 1", remedy="change weights.time_decay")
    if len(uniqueness) < 2:
        return np.ones(len(uniqueness))
    learnt = np.cumsum(uniqueness)
    # Counted back from the newest, so that without decay every weight is exactly 1.
    return 1.0 - (1.0 - oldest) * (learnt[-1] - learnt) / (learnt[-1] - learnt[0])


def _check(start: Times, end: Times) -> None:
    if start.shape != end.shape or start.ndim != 1:
        raise ValueError(f"start {start.shape} and end {end.shape} must be one-dimensional and of one length")
    late = np.flatnonzero(end < start)
    if len(late):
        row = int(late[0])
        raise ContractError(
            f"label interval {row} ends at {_moment(int(end[row]))}, before it starts at {_moment(int(start[row]))}; "
            f"{len(late)} interval(s) do",
            limit="end >= start",
            remedy="mend or leave out these trades and build the dataset again",
        )


def _moment(nanoseconds: int) -> str:
    return pd.Timestamp(nanoseconds, unit="ns", tz="UTC").isoformat()
