"""Bases: consolidation zones, and the newest one that counts (DOMAIN C.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipelines.settings import Baseline

Floats = NDArray[np.float64]

# Weights of DOMAIN C.3; they define the quality and are no tunables.
DURATION_WEIGHT = 0.30
DURATION_FULL = 10.0
SIZE_WEIGHT = 0.20
SIZE_GOOD = 0.7
SIZE_POOR = 0.3
VOLUME_WEIGHT = 0.25
INSIDE_WEIGHT = 0.25
TYPE_STEPS = 4
TYPE_MAJORITY = 3


@dataclass(frozen=True)
class Zones:
    """The zone that ends at each bar; quality NaN where none does.

    Attributes
    ----------
    quality
        Share of 1; at most 0.94 with a zone of 8 bars.
    high, low
        Edges, index points.
    sign
        +1 green (closes drifted up), -1 red, 0 neutral.
    duration
        Bars of the zone, counting the bars over which it was found again and again.
    """

    quality: Floats
    high: Floats
    low: Floats
    sign: NDArray[np.int8]
    duration: NDArray[np.int64]


def find_zones(high: Floats, low: Floats, close: Floats, volume: Floats, unit: Floats, settings: Baseline) -> Zones:
    """Look for a base that ends at each bar.

    Parameters
    ----------
    high, low, close
        Shape (n,), index points, continuous across rolls.
    volume
        Contracts.
    unit
        Points of one unit of `settings.distances` at each bar (the tick, or ATR14).
    settings
        The baseline section.

    Notes
    -----
    The share of closes inside is taken over the whole search window: the zone's own closes are
    inside by construction. A step between equal closes is neither up nor down, so that the
    colour of a mirrored market is the mirrored colour.
    """
    sizes = settings.distances
    limits = np.array([sizes.base_size, sizes.base_ideal_low, sizes.base_ideal_high, sizes.base_good_low, sizes.base_good_high])
    return Zones(*_find(high, low, close, volume, unit, limits, settings.base_window, settings.base_zone, settings.base_std_share))


@njit(cache=True)
def _find(high, low, close, volume, unit, limits, window, zone, std_share):  # type: ignore[no-untyped-def]
    n = close.size
    quality = np.full(n, np.nan)
    top = np.full(n, np.nan)
    bottom = np.full(n, np.nan)
    sign = np.zeros(n, dtype=np.int8)
    duration = np.zeros(n, dtype=np.int64)
    for t in range(max(window, zone, TYPE_STEPS + 1) - 1, n):
        if not unit[t] > 0.0:
            continue
        start = t - window + 1
        widest = high[start : t + 1].max() - low[start : t + 1].min()
        if not _spread(close, start, t + 1) < std_share * widest:
            continue
        first = t - zone + 1
        upper = high[first : t + 1].max()
        lower = low[first : t + 1].min()
        size = (upper - lower) / unit[t]
        if size > limits[0]:
            continue
        inside = 0
        for i in range(start, t + 1):
            if lower <= close[i] <= upper:
                inside += 1
        mean = volume[first : t + 1].sum() / zone
        steady = max(0.0, 1.0 - _spread(volume, first, t + 1) / mean) if mean > 0.0 else 0.0
        fit = SIZE_POOR
        if limits[1] <= size <= limits[2]:
            fit = 1.0
        elif limits[3] <= size <= limits[4]:
            fit = SIZE_GOOD
        quality[t] = (
            DURATION_WEIGHT * min(zone / DURATION_FULL, 1.0) + SIZE_WEIGHT * fit + VOLUME_WEIGHT * steady + INSIDE_WEIGHT * inside / window
        )
        top[t] = upper
        bottom[t] = lower
        sign[t] = _drift(close, t)
        duration[t] = duration[t - 1] + 1 if duration[t - 1] > 0 else zone
    return quality, top, bottom, sign, duration


@njit(cache=True)
def _drift(close, t):  # type: ignore[no-untyped-def]
    ups = 0
    downs = 0
    for i in range(t - TYPE_STEPS + 1, t + 1):
        if close[i] > close[i - 1]:
            ups += 1
        elif close[i] < close[i - 1]:
            downs += 1
    if ups >= TYPE_MAJORITY:
        return 1
    if downs >= TYPE_MAJORITY:
        return -1
    return 0


@njit(cache=True)
def _spread(values, start, stop):  # type: ignore[no-untyped-def]
    """Population standard deviation; differences to the first value are exact on the tick grid, so a mirror changes nothing."""
    total = 0.0
    squares = 0.0
    for i in range(start, stop):
        step = values[i] - values[start]
        total += step
        squares += step * step
    count = stop - start
    return np.sqrt(max(0.0, squares - total * total / count) / count)
