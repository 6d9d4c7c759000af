"""Indicators over bars: each row uses bars up to itself, and each is one pass in compiled code.

Windows are summed afresh at every bar instead of by running sums, so that a row's value does not
depend, not even in the last bit, on anything but the bars of its window.

`day` is the number of the trading day of each bar, ascending from 0. Prices are roll-free: the
caller has taken the cumulative roll gap away.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

TRADING_DAYS_PER_YEAR = 252
TRADING_MINUTES_PER_DAY = 23 * 60
"""Globex trades 18:00 to 17:00 New York."""


@njit(cache=True)
def vwap_bands(high: Floats, low: Floats, close: Floats, volume: Floats, day: Ints) -> tuple[Floats, Floats]:
    """Volume-weighted average of the typical price since the trading day's start, and its standard deviation.

    The weighted form of Welford's recurrence (West 1979, Communications of the ACM 22(9)): no
    difference of large sums is ever taken.

    Returns
    -------
    vwap, sd
        Shape (n,), points; NaN until the trading day has volume.
    """
    n = len(close)
    vwap, sd = np.full(n, np.nan), np.full(n, np.nan)
    total, mean, squares = 0.0, 0.0, 0.0
    for t in range(n):
        if t == 0 or day[t] != day[t - 1]:
            total, mean, squares = 0.0, 0.0, 0.0
        if volume[t] > 0.0:
            typical = (high[t] + low[t] + close[t]) / 3.0
            total += volume[t]
            step = typical - mean
            mean += step * (volume[t] / total)
            squares += volume[t] * step * (typical - mean)
        if total > 0.0:
            vwap[t] = mean
            sd[t] = np.sqrt(max(squares, 0.0) / total)
    return vwap, sd


@njit(cache=True)
def wilder_atr(high: Floats, low: Floats, close: Floats, period: int) -> Floats:
    """Average true range (Wilder 1978): mean of the first `period` true ranges, then smoothing by 1 / `period`.

    Returns
    -------
    ndarray
        Shape (n,), points; NaN for the first `period` - 1 bars.
    """
    n = len(close)
    atr = np.full(n, np.nan)
    value = 0.0
    for t in range(n):
        true_range = high[t] - low[t]
        if t > 0:
            true_range = max(true_range, abs(high[t] - close[t - 1]), abs(low[t] - close[t - 1]))
        if t < period:
            value += true_range / period
        else:
            value += (true_range - value) / period
        if t >= period - 1:
            atr[t] = value
    return atr


@njit(cache=True)
def slope(values: Floats, bars: int, start: Ints) -> Floats:
    """Ordinary-least-squares slope of the last `bars` values, per bar.

    Parameters
    ----------
    values
        Shape (n,).
    bars
        Length of the window.
    start
        Shape (n,); a window that would begin before bar `start[t]` gives NaN.
    """
    n = len(values)
    result = np.full(n, np.nan)
    middle = (bars - 1) / 2.0
    norm = bars * (bars * bars - 1) / 12.0
    for t in range(n):
        first = t - bars + 1
        if first < start[t]:
            continue
        total = 0.0
        for k in range(bars):
            total += (k - middle) * (values[first + k] - values[first])
        result[t] = total / norm
    return result


def trend(high: Floats, low: Floats, bars: int, tick: float) -> tuple[Ints, Floats]:
    """Direction and strength of the trend (DOMAIN B.3): agreement of the slopes of highs and lows.

    Returns
    -------
    direction
        Shape (n,); +1 or -1 when both slopes point that way, else 0.
    strength
        Shape (n,), in [0, 1]; NaN for the first `bars` - 1 bars.
    """
    start = np.zeros(len(high), dtype=np.int64)
    h, low_slope = slope(high, bars, start), slope(low, bars, start)
    agree = h * low_slope > 0.0
    direction = np.where(agree, np.sign(h), 0.0).astype(np.int64)
    strength = np.where(agree, np.minimum((np.abs(h) + np.abs(low_slope)) / (2.0 * tick), 1.0), 0.0)
    return direction, np.where(np.isnan(h), np.nan, strength)


@njit(cache=True)
def realized_volatility(log_return: Floats, bars: int, bars_per_year: float) -> Floats:
    """Root mean square of the last `bars` log returns, annualised.

    Returns
    -------
    ndarray
        Shape (n,), fraction per year; NaN until `bars` returns are known. The first entry of
        `log_return` has no predecessor and is not read.
    """
    n = len(log_return)
    result = np.full(n, np.nan)
    for t in range(bars, n):
        total = 0.0
        for k in range(t - bars + 1, t + 1):
            total += log_return[k] * log_return[k]
        result[t] = np.sqrt(total / bars * bars_per_year)
    return result


@njit(cache=True)
def correlation(x: Floats, y: Floats, bars: int, min_pairs: int) -> Floats:
    """Pearson correlation of the pairs among the last `bars` entries where both are known.

    Returns
    -------
    ndarray
        Shape (n,), in [-1, 1]; NaN below `min_pairs` pairs or when one side is constant.
    """
    n = len(x)
    result = np.full(n, np.nan)
    for t in range(n):
        first = max(0, t - bars + 1)
        pairs, mean_x, mean_y = 0, 0.0, 0.0
        for k in range(first, t + 1):
            if not (np.isnan(x[k]) or np.isnan(y[k])):
                pairs += 1
                mean_x += x[k]
                mean_y += y[k]
        if pairs < min_pairs:
            continue
        mean_x /= pairs
        mean_y /= pairs
        xx, yy, xy = 0.0, 0.0, 0.0
        for k in range(first, t + 1):
            if not (np.isnan(x[k]) or np.isnan(y[k])):
                dx, dy = x[k] - mean_x, y[k] - mean_y
                xx += dx * dx
                yy += dy * dy
                xy += dx * dy
        # Equal returns leave rounding dust instead of zero; correlating dust would be noise.
        dust = 1e-20 * pairs
        if xx > dust and yy > dust:
            result[t] = min(1.0, max(-1.0, xy / np.sqrt(xx * yy)))
    return result


def trailing_rank(values: Floats, day: Ints, days: int, min_days: int) -> Floats:
    """Share of the earlier values, of this trading day and the `days` before it, that are <= the present one.

    Parameters
    ----------
    values
        Shape (n,); NaN is passed over.
    day
        Shape (n,); trading-day numbers.
    days
        Trading days that the rank looks back on.
    min_days
        Whole trading days of history, below which the rank is NaN.

    Notes
    -----
    Counts are kept in a Fenwick tree over the values' order, so a bar costs O(log n) whatever the
    length of the window. The order knows later values, the counts do not.
    """
    order = np.unique(values[~np.isnan(values)])
    position = np.searchsorted(order, values) + 1
    return _rank_in_window(position.astype(np.int64), np.isnan(values), day, days, min_days, len(order))


@njit(cache=True)
def _rank_in_window(position: Ints, missing: Flags, day: Ints, days: int, min_days: int, size: int) -> Floats:
    n = len(position)
    result = np.full(n, np.nan)
    tree = np.zeros(size + 1, dtype=np.int64)
    held, oldest, first_day = 0, 0, -1
    for t in range(n):
        while day[oldest] < day[t] - days:
            if not missing[oldest]:
                _add(tree, position[oldest], -1)
                held -= 1
            oldest += 1
        if missing[t]:
            continue
        if first_day < 0:
            first_day = day[t]
        if held > 0 and day[t] - first_day >= min_days:
            result[t] = _count_up_to(tree, position[t]) / held
        _add(tree, position[t], 1)
        held += 1
    return result


@njit(cache=True)
def _add(tree: Ints, at: int, amount: int) -> None:
    while at < len(tree):
        tree[at] += amount
        at += at & -at


@njit(cache=True)
def _count_up_to(tree: Ints, at: int) -> int:
    total = 0
    while at > 0:
        total += tree[at]
        at -= at & -at
    return total


@njit(cache=True)
def running_extremes(high: Floats, low: Floats, group: Ints, use: Flags) -> tuple[Floats, Floats]:
    """Highest high and lowest low so far of each group's bars where `use` holds; NaN before the first."""
    n = len(high)
    top, bottom = np.full(n, np.nan), np.full(n, np.nan)
    best, worst = np.nan, np.nan
    for t in range(n):
        if t == 0 or group[t] != group[t - 1]:
            best, worst = np.nan, np.nan
        if use[t]:
            best = high[t] if np.isnan(best) else max(best, high[t])
            worst = low[t] if np.isnan(worst) else min(worst, low[t])
        top[t], bottom[t] = best, worst
    return top, bottom


@njit(cache=True)
def overnight_gap(opened: Floats, close: Floats, offset: Floats, day: Ints, regular: Flags) -> Floats:
    """Percent from the last regular close of the trading day before to this day's regular open.

    `opened` and `close` are roll-free; `offset` brings them to the present contract's prices.
    NaN before the regular open, and when one of the two regular sessions has no bars.
    """
    n = len(close)
    result = np.full(n, np.nan)
    before, latest, first, latest_day = np.nan, np.nan, np.nan, -1
    for t in range(n):
        if t == 0 or day[t] != day[t - 1]:
            before = latest if latest_day == day[t] - 1 else np.nan
            first = np.nan
        if regular[t]:
            if np.isnan(first):
                first = 100.0 * (opened[t] - before) / (before + offset[t])
            latest, latest_day = close[t], day[t]
        result[t] = first
    return result
