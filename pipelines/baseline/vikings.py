"""Vikings against Defenders: who pushed the last bars (DOMAIN C.1, C.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.int8]

# Weights of DOMAIN C.2; they define the score and are no tunables.
BODY_SHARE = 0.6
BODY_WEIGHT = 0.8
VOLUME_WEIGHT = 0.2
VOLUME_CAP = 2.0
DELTA_FULL = 1000.0
DELTA_WEIGHT = 0.5
AGGRESSIVE_SHARE = 0.6
AGGRESSIVE_WEIGHT = 0.3


@dataclass(frozen=True)
class Fight:
    """The balance at each bar.

    Attributes
    ----------
    balance
        b in [-1, 1]: +1 only Vikings (buyers), -1 only Defenders. 0 while bars are too few.
    colour
        +1 green (close > open), -1 red, 0 neutral.
    run
        Length in bars of the run of one colour that ends here, signed by the colour.
    """

    balance: Floats
    colour: Codes
    run: NDArray[np.int64]


def fight(
    opened: Floats,
    high: Floats,
    low: Floats,
    close: Floats,
    volume: Floats,
    bid_volume: Floats,
    ask_volume: Floats,
    reference: Floats,
    bars: int,
) -> Fight:
    """Weigh the last `bars` bars at every bar.

    Parameters
    ----------
    opened, high, low, close
        Shape (n,), index points.
    volume
        Contracts.
    bid_volume, ask_volume
        Aggressor volumes in contracts, NaN where the feed has none; only the last bar's count.
    reference
        Reference volume at each bar, contracts.
    bars
        Bars that are weighed.
    """
    colour = np.sign(close - opened).astype(np.int8)
    balance = _balance(colour, opened, high, low, close, volume, bid_volume, ask_volume, reference, bars)
    return Fight(balance, colour, _runs(colour))


@njit(cache=True)
def trailing_mean(values, bars):  # type: ignore[no-untyped-def]
    """Mean of the last `bars` values, summed anew per bar so that no rounding travels; NaN before there are enough."""
    result = np.full(values.size, np.nan)
    for t in range(bars - 1, values.size):
        total = 0.0
        for i in range(t - bars + 1, t + 1):
            total += values[i]
        result[t] = total / bars
    return result


@njit(cache=True)
def _balance(colour, opened, high, low, close, volume, bid_volume, ask_volume, reference, bars):  # type: ignore[no-untyped-def]
    balance = np.zeros(close.size)
    for t in range(bars - 1, close.size):
        vikings = 0.0
        defenders = 0.0
        for i in range(t - bars + 1, t + 1):
            # A neutral bar belongs to nobody; a bar without range is neutral.
            if colour[i] == 0:
                continue
            push = 0.0
            body = abs(close[i] - opened[i]) / (high[i] - low[i])
            if body > BODY_SHARE:
                push += BODY_WEIGHT * body
            if reference[t] > 0.0:
                push += VOLUME_WEIGHT * min(volume[i] / reference[t], VOLUME_CAP)
            if colour[i] > 0:
                vikings += push
            else:
                defenders += push
        delta = ask_volume[t] - bid_volume[t]
        if delta > 0.0:
            vikings += min(delta / DELTA_FULL, 1.0) * DELTA_WEIGHT
        elif delta < 0.0:
            defenders += min(-delta / DELTA_FULL, 1.0) * DELTA_WEIGHT
        traded = ask_volume[t] + bid_volume[t]
        if traded > 0.0:
            if ask_volume[t] > AGGRESSIVE_SHARE * traded:
                vikings += AGGRESSIVE_WEIGHT
            elif bid_volume[t] > AGGRESSIVE_SHARE * traded:
                defenders += AGGRESSIVE_WEIGHT
        if vikings + defenders > 0.0:
            # The same as 2 * vikings / (vikings + defenders) - 1, and exactly odd under a mirror.
            balance[t] = (vikings - defenders) / (vikings + defenders)
    return balance


@njit(cache=True)
def _runs(colour):  # type: ignore[no-untyped-def]
    runs = np.zeros(colour.size, dtype=np.int64)
    for t in range(colour.size):
        if colour[t] != 0:
            runs[t] = colour[t]
            if t > 0 and colour[t - 1] == colour[t]:
                runs[t] += runs[t - 1]
    return runs
