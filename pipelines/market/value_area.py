"""Volume profile of the trading day: point of control, value area, high-volume nodes.

A bar's volume is spread evenly over the ticks from its low to its high. The point of control
(POC) is the tick with the most volume; the value area grows from it, one tick at a time to the
side that holds more, until it covers the wanted share (Steidlmayer's Market Profile, with single
ticks). On equal volume the choice is symmetric: the POC nearest the middle of the day's range
(the lower of two), the growth to the side that has grown less (up, if both are equal).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def value_areas(high: Floats, low: Floats, volume: Floats, day: Ints, tick: float, share: float) -> tuple[Floats, Floats, Floats]:
    """Developing POC, value-area high and low of each trading day, after each bar.

    Parameters
    ----------
    high, low
        Shape (n,); roll-free prices on the tick grid.
    volume
        Shape (n,); contracts.
    day
        Shape (n,); trading-day numbers.
    tick
        Points per tick.
    share
        Share of the volume that the value area covers.

    Returns
    -------
    poc, vah, val
        Shape (n,), points, val <= poc <= vah; NaN until the trading day has volume.
    """
    bottom, top = _ticks(low, tick), _ticks(high, tick)
    levels = _develop(top, bottom, volume, day, share)
    poc, vah, val = (np.where(levels[k] == _NOWHERE, np.nan, levels[k] * tick) for k in range(3))
    return poc, vah, val


def volume_clusters(high: Floats, low: Floats, volume: Floats, day: Ints, tick: float, reach: int, count: int) -> Floats:
    """High-volume nodes of each trading day's whole profile.

    A node is a tick that holds more volume than any other within `reach` ticks (of a plateau the
    lowest tick counts).

    Returns
    -------
    ndarray
        Shape (days, count), points, most volume first, NaN padded.
    """
    bottom, top = _ticks(low, tick), _ticks(high, tick)
    nodes = _nodes(top, bottom, volume, day, reach, count)
    return np.where(nodes == _NOWHERE, np.nan, nodes * tick)


_NOWHERE = np.iinfo(np.int64).min


def _ticks(price: Floats, tick: float) -> Ints:
    return np.rint(price / tick).astype(np.int64)


@njit(cache=True)
def _develop(top: Ints, bottom: Ints, volume: Floats, day: Ints, share: float) -> Ints:
    n = len(volume)
    levels = np.full((3, n), _NOWHERE)
    first = 0
    while first < n:
        last = _day_end(day, first)
        base = bottom[first:last].min()
        profile = np.zeros(top[first:last].max() - base + 1)
        total, lowest, highest = 0.0, base + len(profile), base - 1
        for t in range(first, last):
            if volume[t] > 0.0:
                _spread(profile, bottom[t] - base, top[t] - base, volume[t])
                total += volume[t]
                lowest, highest = min(lowest, bottom[t]), max(highest, top[t])
            if total > 0.0:
                poc, up, down = _area(profile, lowest - base, highest - base, total * share)
                levels[0, t], levels[1, t], levels[2, t] = base + poc, base + up, base + down
        first = last
    return levels


@njit(cache=True)
def _day_end(day: Ints, first: int) -> int:
    last = first + 1
    while last < len(day) and day[last] == day[first]:
        last += 1
    return last


@njit(cache=True)
def _spread(profile: Floats, bottom: int, top: int, volume: float) -> None:
    each = volume / (top - bottom + 1)
    for k in range(bottom, top + 1):
        profile[k] += each


@njit(cache=True)
def _area(profile: Floats, lowest: int, highest: int, wanted: float) -> tuple[int, int, int]:
    poc = lowest
    for k in range(lowest + 1, highest + 1):
        nearer = abs(2 * k - lowest - highest) < abs(2 * poc - lowest - highest)
        if profile[k] > profile[poc] or (profile[k] == profile[poc] and nearer):
            poc = k
    up, down, covered = poc, poc, profile[poc]
    while covered < wanted and (up < highest or down > lowest):
        above = profile[up + 1] if up < highest else -1.0
        below = profile[down - 1] if down > lowest else -1.0
        if above > below or (above == below and up - poc <= poc - down):
            up += 1
            covered += above
        else:
            down -= 1
            covered += below
    return poc, up, down


@njit(cache=True)
def _nodes(top: Ints, bottom: Ints, volume: Floats, day: Ints, reach: int, count: int) -> Ints:
    n = len(volume)
    nodes = np.full((day[n - 1] + 1, count), _NOWHERE)
    first = 0
    while first < n:
        last = _day_end(day, first)
        base = bottom[first:last].min()
        profile = np.zeros(top[first:last].max() - base + 1)
        for t in range(first, last):
            if volume[t] > 0.0:
                _spread(profile, bottom[t] - base, top[t] - base, volume[t])
        peaks = np.array([k for k in range(len(profile)) if _is_peak(profile, k, reach)], dtype=np.int64)
        ranked = np.argsort(-profile[peaks], kind="mergesort")[:count]
        for slot, peak in enumerate(ranked):
            nodes[day[first], slot] = base + peaks[peak]
        first = last
    return nodes


@njit(cache=True)
def _is_peak(profile: Floats, k: int, reach: int) -> bool:
    if profile[k] <= 0.0:
        return False
    for j in range(max(0, k - reach), min(len(profile), k + reach + 1)):
        if profile[j] > profile[k] or (j < k and profile[j] == profile[k]):
            return False
    return True
