"""Splits in time that do not leak: purged by label interval, with an embargo.

*Label interval*: a trade occupies [decision time, exit time], closed on both sides, because its
label is settled by every price in between. *Purge*: a training row goes when its interval reaches
into the interval of a test row. *Embargo*: a further gap of wall-clock time (a weekend counts),
because neighbouring trades share market conditions beyond their labels. A training row before a
test part is therefore kept only when

    exit time < first decision time of the test part - embargo.

Method: Lopez de Prado, Advances in Financial Machine Learning (2018), chapter 7; DOMAIN E.3.
Times are int64 nanoseconds since 1970 UTC. Rows are sorted by decision time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.errors import AmiralError, DataRefusedError
from pipelines.settings import Splits

Times = NDArray[np.int64]
Rows = NDArray[np.int64]

NANOSECONDS_PER_HOUR = 3_600_000_000_000


class LeakageError(AmiralError):
    """A training row's label interval, padded by the embargo, meets a test row's interval."""


@dataclass(frozen=True)
class TemporalSplit:
    """Row positions of the three parts, in time order.

    Attributes
    ----------
    train
        What the final model is fitted on; purged against the validation part.
    validation
        Where choices are made; purged against the test part.
    test
        What is looked at once.
    development
        Everything before the test part, purged against the test part only: the rows that
        cross-validation may use.
    """

    train: Rows
    validation: Rows
    test: Rows
    development: Rows


def embargo_ns(settings: Splits) -> int:
    """The embargo in nanoseconds."""
    return round(settings.embargo_hours * NANOSECONDS_PER_HOUR)


def temporal_split(start: Times, end: Times, settings: Splits) -> TemporalSplit:
    """Cut the rows into train, validation and test, in time order, purged at both borders.

    Parameters
    ----------
    start, end
        Shape (n,): label intervals [start, end], closed, ns; `start` ascending.
    settings
        Section `splits`: the shares and the embargo.

    Raises
    ------
    DataRefusedError
        A part is left without rows.

    Examples
    --------
    Ten trades, one an hour, each open for half an hour, no embargo:

    >>> from pipelines.settings import load_settings
    >>> settings = load_settings(overrides=["splits.embargo_hours=0.0"]).splits
    >>> start = np.arange(10) * NANOSECONDS_PER_HOUR
    >>> split = temporal_split(start, start + NANOSECONDS_PER_HOUR // 2, settings)
    >>> split.train.tolist(), split.validation.tolist(), split.test.tolist()
    ([0, 1, 2, 3, 4, 5, 6], [7], [8, 9])

    Trades that stay open until the next decision touch it, and the border rows go:

    >>> split = temporal_split(start, start + NANOSECONDS_PER_HOUR, settings)
    >>> split.train.tolist(), split.validation.tolist(), split.test.tolist()
    ([0, 1, 2, 3, 4, 5], [], [8, 9])
    """
    _check_intervals(start, end)
    size = len(start)
    # Half up, so that 70 % of 10 is 7 whatever the floating-point product is.
    train_end = int(size * settings.train_share + 0.5)
    test_start = int(size * (settings.train_share + settings.validation_share) + 0.5)
    if not 0 < train_end <= test_start < size:
        raise DataRefusedError(f"{size} trade(s) cannot be cut into train, validation and test", remedy="collect more trades")
    embargo = embargo_ns(settings)
    train = _ending_before(start, end, 0, train_end, embargo)
    development = _ending_before(start, end, 0, test_start, embargo)
    if not len(train):
        raise DataRefusedError(
            f"purging leaves none of {train_end} training trades",
            limit=f"trades that close more than {settings.embargo_hours} h before the validation part",
            remedy="collect trades over a longer time",
        )
    return TemporalSplit(train, development[development >= train_end], np.arange(test_start, size), development)


def _ending_before(start: Times, end: Times, first: int, stop: int, embargo: int) -> Rows:
    """Rows of [first, stop) whose interval ends more than the embargo before row `stop` starts."""
    return first + np.flatnonzero(end[first:stop] < start[stop] - embargo)


class PurgedWalkForward:
    """Expanding walk-forward folds, purged and embargoed; scikit-learn's splitter interface.

    The rows are cut into `n_splits` + 1 blocks in time order (the first takes the remainder).
    Fold k tests on block k + 1 and trains on everything before it that survives the purge.
    Training is always before testing.

    Parameters
    ----------
    n_splits
        Number of folds.
    start, end
        Shape (n,): label intervals [start, end], closed, ns; `start` ascending.
    embargo
        Nanoseconds.
    skip_empty
        Leave a fold without training rows out instead of refusing.

    Raises
    ------
    DataRefusedError
        While splitting, when a fold is left without training rows.

    Examples
    --------
    >>> start = np.arange(9) * 10
    >>> folds = PurgedWalkForward(2, start, start + 10)
    >>> for train, test in folds.split(start):
    ...     print(train.tolist(), test.tolist())
    [0, 1] [3, 4, 5]
    [0, 1, 2, 3, 4] [6, 7, 8]
    """

    def __init__(self, n_splits: int, start: Times, end: Times, *, embargo: int = 0, skip_empty: bool = False) -> None:
        self.n_splits = n_splits
        self.start = start
        self.end = end
        self.embargo = embargo
        self.skip_empty = skip_empty

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:  # noqa: N803, ARG002
        """Return the number of folds."""
        return self.n_splits

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[Rows, Rows]]:  # noqa: N803, ARG002
        """Yield (train, test) row positions of each fold, oldest first."""
        _check_intervals(self.start, self.end)
        size = len(self.start)
        if len(X) != size:
            raise ValueError(f"X has {len(X)} rows, the label intervals {size}")
        block = size // (self.n_splits + 1)
        if not block:
            raise DataRefusedError(f"{size} trade(s) for {self.n_splits} folds", limit="at least one trade a fold")
        for fold in range(self.n_splits):
            first = size - block * (self.n_splits - fold)
            train = _ending_before(self.start, self.end, 0, first, self.embargo)
            if not len(train) and self.skip_empty:
                continue
            if not len(train):
                raise DataRefusedError(
                    f"fold {fold + 1} of {self.n_splits} keeps none of {first} training trades after purging",
                    limit=f"trades that close more than {self.embargo / NANOSECONDS_PER_HOUR:g} h before {_moment(int(self.start[first]))}",
                    remedy="collect trades over a longer time or lower splits.folds",
                )
            yield train, np.arange(first, first + block)


def assert_no_leakage(train: Rows, test: Rows, start: Times, end: Times, *, embargo: int = 0) -> None:
    """Check that no training interval, padded by the embargo on both sides, meets a test interval.

    Holds for training before and after the test part, so any splitter can be audited with it.

    Parameters
    ----------
    train, test
        Row positions.
    start, end
        Shape (n,): label intervals [start, end], closed, ns; any order.
    embargo
        Nanoseconds.

    Raises
    ------
    LeakageError
        With the first offending pair of rows and their times.
    """
    if not len(train) or not len(test):
        return
    by_start = np.argsort(start[test], kind="stable")
    test_start = start[test][by_start]
    latest_end = np.maximum.accumulate(end[test][by_start])
    # Of the test rows that start before the padded training row ends, does any end after it starts?
    reached = np.searchsorted(test_start, end[train] + embargo, side="right")
    meets = (reached > 0) & (latest_end[np.maximum(reached - 1, 0)] >= start[train] - embargo)
    if not meets.any():
        return
    row = int(train[np.flatnonzero(meets)[0]])
    partner = int(test[(start[test] <= end[row] + embargo) & (end[test] >= start[row] - embargo)][0])
    raise LeakageError(
        f"training row {row} [{_moment(int(start[row]))}, {_moment(int(end[row]))}] meets test row {partner} "
        f"[{_moment(int(start[partner]))}, {_moment(int(end[partner]))}]; {int(meets.sum())} training row(s) leak",
        limit=f"a gap of more than {embargo / NANOSECONDS_PER_HOUR:g} h between the label intervals",
        remedy="purge the training rows by exit time (PurgedWalkForward, temporal_split)",
    )


def _check_intervals(start: Times, end: Times) -> None:
    if start.shape != end.shape or start.ndim != 1:
        raise ValueError(f"start {start.shape} and end {end.shape} must be one-dimensional and of one length")
    if (end < start).any():
        row = int(np.flatnonzero(end < start)[0])
        raise ValueError(f"row {row} ends at {_moment(int(end[row]))}, before it starts at {_moment(int(start[row]))}")
    if (np.diff(start) < 0).any():
        row = int(np.flatnonzero(np.diff(start) < 0)[0]) + 1
        raise ValueError(f"rows must be sorted by start; row {row} starts at {_moment(int(start[row]))}, before the row above it")


def _moment(nanoseconds: int) -> str:
    return pd.Timestamp(nanoseconds, unit="ns", tz="UTC").isoformat()
