"""Splits in time that do not leak: purged by label interval, with an embargo.

*Label interval*: a trade occupies [decision time, exit time], closed on both sides, because its
label is settled by every price in between. *Purge*: a training row goes when its interval reaches
into the interval of a test row. *Embargo*: a further gap of wall-clock time (a weekend counts),
because neighbouring trades share market conditions beyond their labels. A training row before a
test part is therefore kept only when

    exit time < first decision time of the test part - embargo,

and one after it only when

    decision time > last exit time of the test part + embargo.

For a part of consecutive rows the two conditions are exact: no row goes that meets no test interval,
whatever the overlaps. The embargo works on both sides. Lopez de Prado applies his after the test part
only; before it, trades share the market just as well, and the nightly model is trained on the past.

Method: Lopez de Prado, Advances in Financial Machine Learning (2018), chapters 7 and 12; DOMAIN E.3.
Times are int64 nanoseconds since 1970 UTC (`to_nanoseconds` converts). Rows are sorted by decision
time; several rows may share one.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.errors import AmiralError, DataRefusedError, SettingsError
from pipelines.settings import Splits

Times = NDArray[np.int64]
Rows = NDArray[np.int64]
Floats = NDArray[np.float64]

NANOSECONDS_PER_HOUR = 3_600_000_000_000

_NOT_A_TIME = np.iinfo(np.int64).min  # what NaT becomes as an integer
_LAST = int(np.iinfo(np.int64).max)
_COMPLETE = "leave rows without a decision or an exit out"


class LeakageError(AmiralError):
    """A training row's label interval, padded by the embargo, meets a test row's interval."""


class IntervalError(AmiralError, ValueError):
    """Label intervals or row positions from which no split can be made, and which no audit can judge."""


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


def to_nanoseconds(times: Any) -> Times:
    """Convert times of any zone and unit to what the splitters take.

    Parameters
    ----------
    times
        Shape (n,): Series, DatetimeIndex, datetime64 array or sequence of datetimes. Without a zone
        they are read as UTC.

    Returns
    -------
    ndarray
        Shape (n,): int64 nanoseconds since 1970 UTC.

    Raises
    ------
    IntervalError
        A time is missing (NaT), or lies outside of the years 1678 to 2261.

    Examples
    --------
    >>> to_nanoseconds(pd.DatetimeIndex(["1970-01-01 02:00"]).tz_localize("Europe/Athens").as_unit("s")).tolist()
    [0]
    """
    index = pd.DatetimeIndex(pd.to_datetime(times, utc=True))
    if index.hasnans:
        raise IntervalError(f"row {int(np.flatnonzero(index.isna())[0])} has no time (NaT)", limit="a time in every row", remedy=_COMPLETE)
    try:
        return index.as_unit("ns").asi8.copy()
    except pd.errors.OutOfBoundsDatetime as error:
        raise IntervalError(
            f"times from {index.min()} to {index.max()} do not fit into nanoseconds",
            limit="the years 1678 to 2261",
            remedy="give open trades no sentinel as exit time; leave them out",
        ) from error


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
    """Walk-forward folds, expanding or sliding, purged and embargoed; scikit-learn's splitter interface.

    The rows are cut into `n_splits` + 1 blocks in time order (the first takes the remainder).
    Fold k tests on block k + 1 and trains on everything before it that survives the purge, or on the
    latest `max_train` of these rows. Training is always before testing.

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
    max_train
        Rows in the sliding window, counted after the purge; early folds may have fewer. None for a
        window that expands.

    Raises
    ------
    SettingsError
        `max_train` below 1.
    IntervalError
        While splitting: intervals that are unsorted, reversed or incomplete, or an unusable embargo.
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

    >>> [train.tolist() for train, _ in PurgedWalkForward(2, start, start + 10, max_train=2).split(start)]
    [[0, 1], [3, 4]]
    """

    def __init__(
        self, n_splits: int, start: Times, end: Times, *, embargo: int = 0, skip_empty: bool = False, max_train: int | None = None
    ) -> None:
        if max_train is not None and max_train < 1:
            raise SettingsError(
                f"a sliding window of {max_train} training rows", limit="at least 1", remedy="raise max_train, or leave it out"
            )
        self.n_splits = n_splits
        self.start = start
        self.end = end
        self.embargo = embargo
        self.skip_empty = skip_empty
        self.max_train = max_train

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:  # noqa: N803, ARG002
        """Return the number of folds."""
        return self.n_splits

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[Rows, Rows]]:  # noqa: N803, ARG002
        """Yield (train, test) row positions of each fold, oldest first."""
        embargo = _check_inputs(X, self.start, self.end, self.embargo)
        size = len(self.start)
        block = size // (self.n_splits + 1)
        if not block:
            raise DataRefusedError(f"{size} trade(s) for {self.n_splits} folds", limit="at least one trade a fold")
        for fold in range(self.n_splits):
            first = size - block * (self.n_splits - fold)
            train = _ending_before(self.start, self.end, 0, first, embargo)
            if not len(train) and self.skip_empty:
                continue
            if not len(train):
                raise DataRefusedError(
                    f"fold {fold + 1} of {self.n_splits} keeps none of {first} training trades after purging",
                    limit=f"trades that close more than {_hours(embargo)} h before {_moment(int(self.start[first]))}",
                    remedy="collect trades over a longer time or lower splits.folds",
                )
            yield train if self.max_train is None else train[-self.max_train :], np.arange(first, first + block)


class PurgedKFold:
    """K folds in time with training rows on both sides of the test block; scikit-learn's splitter interface.

    The rows are cut into `n_splits` consecutive blocks (the first ones take the remainder, one row each).
    Fold k tests on block k and trains on all other rows whose interval stays clear of the block's
    intervals by more than the embargo, before and after. Later rows train too, so the folds say how well
    a model tells trades apart, not how it would have done in its time; for that see `PurgedWalkForward`.

    Parameters
    ----------
    n_splits
        Number of folds, at least 2.
    start, end
        Shape (n,): label intervals [start, end], closed, ns; `start` ascending.
    embargo
        Nanoseconds, on both sides of the test block.

    Raises
    ------
    SettingsError
        Fewer than 2 folds.
    IntervalError
        While splitting: intervals that are unsorted, reversed or incomplete, or an unusable embargo.
    DataRefusedError
        While splitting: fewer rows than folds, an embargo not shorter than the data, or a fold left
        without training rows.

    References
    ----------
    Lopez de Prado, Advances in Financial Machine Learning (2018), section 7.4.

    Examples
    --------
    >>> start = np.arange(9) * 10
    >>> for train, test in PurgedKFold(3, start, start + 10).split(start):
    ...     print(train.tolist(), test.tolist())
    [4, 5, 6, 7, 8] [0, 1, 2]
    [0, 1, 7, 8] [3, 4, 5]
    [0, 1, 2, 3, 4] [6, 7, 8]
    """

    def __init__(self, n_splits: int, start: Times, end: Times, *, embargo: int = 0) -> None:
        if n_splits < 2:
            raise SettingsError(f"{n_splits} fold(s)", limit="at least 2, so that one can train", remedy="raise n_splits")
        self.n_splits = n_splits
        self.start = start
        self.end = end
        self.embargo = embargo

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:  # noqa: N803, ARG002
        """Return the number of folds."""
        return self.n_splits

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[Rows, Rows]]:  # noqa: N803, ARG002
        """Yield (train, test) row positions of each fold, oldest test block first."""
        return _block_folds(X, self.start, self.end, self.embargo, self.n_splits, 1)


class CombinatorialPurgedKFold:
    """Every choice of k test blocks out of N, purged and embargoed, with backtest paths.

    The rows are cut into N consecutive blocks (the first ones take the remainder, one row each). Each of
    the C(N, k) splits tests on k of them and trains on all other rows whose interval stays clear of every
    test interval by more than the embargo, before and after. Every row is tested C(N - 1, k - 1) times;
    with one prediction from each of these splits, phi(N, k) = k / N * C(N, k) = C(N - 1, k - 1) paths run
    through the whole history, which gives a distribution of a backtest where walk-forward gives one value.

    Parameters
    ----------
    n_blocks
        N, at least 2.
    n_test_blocks
        k, from 1 to N - 1.
    start, end
        Shape (n,): label intervals [start, end], closed, ns; `start` ascending.
    embargo
        Nanoseconds, on both sides of every test block.
    max_splits
        Largest number of splits that is accepted.

    Raises
    ------
    SettingsError
        `n_blocks` or `n_test_blocks` out of range, or more splits than `max_splits`.
    IntervalError
        While splitting: intervals that are unsorted, reversed or incomplete, or an unusable embargo.
    DataRefusedError
        While splitting: fewer rows than blocks, an embargo not shorter than the data, or a split left
        without training rows.

    References
    ----------
    Lopez de Prado, Advances in Financial Machine Learning (2018), sections 12.3 and 12.4.

    Examples
    --------
    >>> start = np.arange(8) * 10
    >>> folds = CombinatorialPurgedKFold(4, 2, start, start + 5)
    >>> folds.n_splits, folds.n_paths
    (6, 3)
    >>> for train, test in folds.split(start):
    ...     print(train.tolist(), test.tolist())
    [4, 5, 6, 7] [0, 1, 2, 3]
    [2, 3, 6, 7] [0, 1, 4, 5]
    [2, 3, 4, 5] [0, 1, 6, 7]
    [0, 1, 6, 7] [2, 3, 4, 5]
    [0, 1, 4, 5] [2, 3, 6, 7]
    [0, 1, 2, 3] [4, 5, 6, 7]

    The first path takes its predictions of block 2 from split 1 (which tests blocks 0 and 2):

    >>> folds.paths().tolist()
    [[0, 0, 1, 2], [1, 3, 3, 4], [2, 4, 5, 5]]
    >>> predictions = [np.full(4, float(split)) for split in range(6)]
    >>> folds.assemble(predictions)[0].tolist()
    [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 2.0, 2.0]
    """

    def __init__(self, n_blocks: int, n_test_blocks: int, start: Times, end: Times, *, embargo: int = 0, max_splits: int = 1_000) -> None:
        if n_blocks < 2:
            raise SettingsError(f"{n_blocks} block(s)", limit="at least 2, so that one can train", remedy="raise n_blocks")
        if not 1 <= n_test_blocks < n_blocks:
            raise SettingsError(
                f"{n_test_blocks} test block(s) of {n_blocks}",
                limit=f"1 to {n_blocks - 1}, so that at least one block trains",
                remedy="lower n_test_blocks or raise n_blocks",
            )
        _check_number_of_splits(n_blocks, n_test_blocks, max_splits)
        self.n_blocks = n_blocks
        self.n_test_blocks = n_test_blocks
        self.start = start
        self.end = end
        self.embargo = embargo
        self.max_splits = max_splits

    @property
    def n_splits(self) -> int:
        """Number of splits, C(N, k)."""
        return math.comb(self.n_blocks, self.n_test_blocks)

    @property
    def n_paths(self) -> int:
        """Number of backtest paths, C(N - 1, k - 1)."""
        return math.comb(self.n_blocks - 1, self.n_test_blocks - 1)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:  # noqa: N803, ARG002
        """Return the number of splits."""
        return self.n_splits

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[Rows, Rows]]:  # noqa: N803, ARG002
        """Yield (train, test) row positions, in the lexicographic order of the test blocks."""
        return _block_folds(X, self.start, self.end, self.embargo, self.n_blocks, self.n_test_blocks)

    def paths(self) -> Rows:
        """Return which split predicts which block in each backtest path.

        Path p takes a block from the p-th of the splits that test it, as in figure 12.2 of the book.

        Returns
        -------
        ndarray
            Shape (n_paths, n_blocks): number of the split, from 0, in the order of `split`. The pairs
            (split, block) of all paths are the pairs of all splits, each once.
        """
        return self._occurrences() // self.n_test_blocks

    def assemble(self, predictions: Sequence[Any]) -> Floats:
        """Put the predictions of all splits together into backtest paths.

        Parameters
        ----------
        predictions
            One array for each split, in the order of `split`: the predictions of its test rows, in
            their order. NaN stays NaN in the one path that uses it.

        Returns
        -------
        ndarray
            Shape (n_paths, n): for every path one prediction of every row.

        Raises
        ------
        DataRefusedError
            Not one array for each split, or not one prediction for each test row.
        """
        edges = _block_edges(len(self.start), self.n_blocks)
        tested = _combinations(self.n_blocks, self.n_test_blocks)
        # Where the predictions of each split's test blocks end.
        ends = np.cumsum(np.diff(edges)[tested], axis=1)
        if len(predictions) != len(tested):
            raise DataRefusedError(
                f"predictions of {len(predictions)} split(s)",
                limit=f"{len(tested)}, one array for each",
                remedy="predict after every split",
            )
        arrays = [np.asarray(values, dtype=np.float64) for values in predictions]
        for number, values in enumerate(arrays):
            if values.shape != (ends[number, -1],):
                raise DataRefusedError(
                    f"predictions of split {number} have the shape {values.shape}",
                    limit=f"({ends[number, -1]},), one value for each test row",
                    remedy="hand over predict(X[test]) for the test rows of that split",
                )
        paths = np.empty((self.n_paths, edges[-1]))
        for path, used in zip(paths, self._occurrences(), strict=True):
            for block, occurrence in enumerate(used):
                split, position = divmod(int(occurrence), self.n_test_blocks)
                stop = ends[split, position]
                first, last = edges[block], edges[block + 1]
                path[first:last] = arrays[split][stop - (last - first) : stop]
        return paths

    def _occurrences(self) -> Rows:
        """Shape (n_paths, n_blocks): split times k plus the block's place among the split's test blocks."""
        tested = _combinations(self.n_blocks, self.n_test_blocks)
        return np.argsort(tested.ravel(), kind="stable").reshape(self.n_blocks, self.n_paths).T


def _block_folds(X: Any, start: Times, end: Times, embargo: int, blocks: int, test_blocks: int) -> Iterator[tuple[Rows, Rows]]:  # noqa: N803
    """(train, test) for every choice of test blocks, in lexicographic order."""
    embargo = _check_inputs(X, start, end, embargo)
    size = len(start)
    edges = _block_edges(size, blocks)
    span = int(start[-1] - start[0])
    if embargo >= span:
        raise DataRefusedError(
            f"an embargo of {_hours(embargo)} h leaves every fold without training rows: the trades are decided within {_hours(span)} h",
            limit=f"an embargo shorter than {_hours(span)} h",
            remedy="shorten the embargo or collect trades over a longer time",
        )
    latest_end = np.maximum.reduceat(end, edges[:-1])
    choices = _combinations(blocks, test_blocks)
    for number, tested in enumerate(choices):
        # An early test interval may outlast a later test block, so what follows waits for the latest end so far.
        resume = np.searchsorted(start, np.maximum.accumulate(latest_end[tested]) + embargo, side="right")
        gaps = zip([0, *resume[:-1]], edges[tested], strict=True)
        train = np.concatenate([*(_ending_before(start, end, first, stop, embargo) for first, stop in gaps), np.arange(resume[-1], size)])
        test = np.concatenate([np.arange(edges[block], edges[block + 1]) for block in tested])
        if not len(train):
            raise DataRefusedError(
                f"split {number} of {len(choices)}, which tests block(s) {', '.join(map(str, tested))} of 0 to {blocks - 1}, "
                f"keeps none of {size - len(test)} training trades after purging",
                limit=f"trades more than {_hours(embargo)} h away from the intervals of the test blocks",
                remedy="collect trades over a longer time, shorten the embargo, or test a smaller share of the blocks at once",
            )
        yield train, test


def _block_edges(size: int, blocks: int) -> Rows:
    """Shape (blocks + 1,): block b holds the rows [edges[b], edges[b + 1]); sizes differ by one at most, larger ones first."""
    if size < blocks:
        raise DataRefusedError(
            f"{size} trade(s) for {blocks} blocks", limit="at least one trade a block", remedy="collect more trades or use fewer blocks"
        )
    share, remainder = divmod(size, blocks)
    position = np.arange(blocks + 1)
    return position * share + np.minimum(position, remainder)


def _combinations(blocks: int, chosen: int) -> Rows:
    """Shape (C(blocks, chosen), chosen), in lexicographic order."""
    return np.array(list(combinations(range(blocks), chosen)), dtype=np.int64)


def _check_number_of_splits(blocks: int, chosen: int, limit: int) -> None:
    # The exact number of a large choice takes long to compute and nobody reads its digits.
    digits = (math.lgamma(blocks + 1) - math.lgamma(chosen + 1) - math.lgamma(blocks - chosen + 1)) / math.log(10.0)
    number = math.comb(blocks, chosen) if digits < 15 else math.inf
    if number > limit:
        raise SettingsError(
            f"{chosen} test blocks of {blocks} make {f'{number:,}' if digits < 15 else f'more than 1e{int(digits)}'} splits",
            limit=f"at most {limit:,}, because every split costs a fit of the model",
            remedy="lower n_blocks or n_test_blocks, or raise max_splits",
        )


def assert_no_leakage(train: Rows, test: Rows, start: Times, end: Times, *, embargo: int = 0) -> None:
    """Check that no training interval, padded by the embargo on both sides, meets a test interval.

    Holds for training before and after the test part, so any splitter can be audited with it.

    Parameters
    ----------
    train, test
        Row positions. Without rows on one side there is nothing to leak.
    start, end
        Shape (n,): label intervals [start, end], closed, ns; any order.
    embargo
        Nanoseconds.

    Raises
    ------
    LeakageError
        With the first offending pair of rows and their times.
    IntervalError
        Intervals, positions or an embargo that cannot be judged.
    """
    _check_intervals(start, end, ordered=False)
    _audit(train, test, start, end, _check_embargo(embargo, start, end), "")


def assert_no_leakage_in(folds: Iterable[tuple[Rows, Rows]], start: Times, end: Times, *, embargo: int = 0) -> None:
    """Check every fold of a splitter with `assert_no_leakage`.

    Parameters
    ----------
    folds
        Pairs (train, test) of row positions, such as `splitter.split(X)` yields.
    start, end
        Shape (n,): label intervals [start, end], closed, ns; any order.
    embargo
        Nanoseconds.

    Raises
    ------
    LeakageError
        With the number of the first fold that leaks (from 0), the offending pair of rows and their times.
    IntervalError
        Intervals, positions or an embargo that cannot be judged.
    DataRefusedError
        No folds, or one without training or test rows: an audit of nothing must not pass.

    Examples
    --------
    Scikit-learn's splitter knows no label intervals:

    >>> from sklearn.model_selection import TimeSeriesSplit
    >>> start = np.arange(9) * NANOSECONDS_PER_HOUR
    >>> end = start + NANOSECONDS_PER_HOUR
    >>> assert_no_leakage_in(PurgedWalkForward(2, start, end).split(start), start, end)
    >>> assert_no_leakage_in(TimeSeriesSplit(2).split(start), start, end)
    Traceback (most recent call last):
        ...
    pipelines.splits.LeakageError: fold 0: training row 2 [1970-01-01T02:00:00+00:00, ...
    """
    _check_intervals(start, end, ordered=False)
    embargo = _check_embargo(embargo, start, end)
    number = -1
    for number, (train, test) in enumerate(folds):
        if not len(train) or not len(test):
            raise DataRefusedError(
                f"fold {number} has {len(train)} training and {len(test)} test rows",
                limit="at least one of each",
                remedy="collect trades over a longer time or use fewer folds",
            )
        _audit(train, test, start, end, embargo, f"fold {number}: ")
    if number < 0:
        raise DataRefusedError("there are no folds to audit", limit="at least one", remedy="hand over splitter.split(X), not yet used up")


def _audit(train: Rows, test: Rows, start: Times, end: Times, embargo: int, where: str) -> None:
    train, test = _positions(train, len(start), f"{where}train"), _positions(test, len(start), f"{where}test")
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
        f"{where}training row {row} [{_moment(int(start[row]))}, {_moment(int(end[row]))}] meets test row {partner} "
        f"[{_moment(int(start[partner]))}, {_moment(int(end[partner]))}]; {int(meets.sum())} training row(s) leak",
        limit=f"a gap of more than {_hours(embargo)} h between the label intervals",
        remedy="purge the training rows by exit time (PurgedWalkForward, PurgedKFold, CombinatorialPurgedKFold, temporal_split)",
    )


def _positions(rows: Any, size: int, name: str) -> Rows:
    found = np.asarray(rows)
    if not found.size:
        return np.empty(0, dtype=np.int64)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise IntervalError(
            f"{name} holds {found.dtype} of shape {found.shape}", limit="row positions", remedy="np.flatnonzero makes positions of a mask"
        )
    if found.min() < 0 or found.max() >= size:
        raise IntervalError(
            f"{name} holds row positions from {found.min()} to {found.max()}",
            limit=f"0 to {size - 1}",
            remedy="hand over positions (0, 1, ...), not the labels of an index",
        )
    return found


def _check_inputs(X: Any, start: Times, end: Times, embargo: int) -> int:  # noqa: N803
    """What every splitter asks of its input; the embargo as an int."""
    _check_intervals(start, end)
    if len(X) != len(start):
        raise IntervalError(f"X has {len(X)} rows, the label intervals {len(start)}", remedy="make the splitter from the rows of X")
    return _check_embargo(embargo, start, end)


def _check_intervals(start: Times, end: Times, *, ordered: bool = True) -> None:
    for name, times in (("start", start), ("end", end)):
        if not isinstance(times, np.ndarray) or times.dtype != np.int64:
            kind = getattr(times, "dtype", "no times")
            raise IntervalError(
                f"{name} is a {type(times).__name__} of {kind}",
                limit="an array of int64, nanoseconds since 1970 UTC",
                remedy=f"convert it: to_nanoseconds({name})",
            )
    if start.shape != end.shape or start.ndim != 1:
        raise IntervalError(f"start {start.shape} and end {end.shape} must be one-dimensional and of one length")
    for name, times in (("start", start), ("end", end)):
        if (times == _NOT_A_TIME).any():
            row = int(np.flatnonzero(times == _NOT_A_TIME)[0])
            raise IntervalError(f"row {row} has no {name} (NaT)", limit="a time in every row", remedy=_COMPLETE)
    if (end < start).any():
        row = int(np.flatnonzero(end < start)[0])
        raise IntervalError(
            f"row {row} ends at {_moment(int(end[row]))}, before it starts at {_moment(int(start[row]))}",
            limit="an exit at or after the decision",
            remedy="mend the times of that row or leave it out",
        )
    # Compared, not subtracted: a difference of far-off times would wrap around.
    if ordered and (start[1:] < start[:-1]).any():
        row = int(np.flatnonzero(start[1:] < start[:-1])[0]) + 1
        raise IntervalError(
            f"rows must be sorted by start; row {row} starts at {_moment(int(start[row]))}, before the row above it",
            limit="ascending decision times, equal ones allowed",
            remedy="sort the rows, of X too, by decision time",
        )


def _check_embargo(embargo: int, start: Times, end: Times) -> int:
    """The embargo as an int that can be added to every time without wrapping around."""
    try:
        found = operator.index(embargo)
    except TypeError as error:
        raise IntervalError(
            f"an embargo of {embargo!r}", limit="a whole number of nanoseconds", remedy="take embargo_ns(settings.splits), or round"
        ) from error
    if found < 0:
        raise IntervalError(f"an embargo of {_hours(found)} h", limit="0 or more", remedy="give its length without a sign")
    if len(start) and (int(end.max()) + found > _LAST or int(start.min()) - found < -_LAST):
        raise IntervalError(
            f"times from {_moment(int(start.min()))} to {_moment(int(end.max()))} with an embargo of {_hours(found)} h",
            limit="the range of int64 nanoseconds, the years 1678 to 2261",
            remedy="check the unit of the embargo; give open trades no sentinel as exit time",
        )
    return found


def _hours(nanoseconds: int) -> str:
    return f"{nanoseconds / NANOSECONDS_PER_HOUR:g}"


def _moment(nanoseconds: int) -> str:
    return pd.Timestamp(nanoseconds, unit="ns", tz="UTC").isoformat()
