"""The golden rule, "rouge sous verte" (DOMAIN C.1, C.4).

An up-trend holds while no red bar closes below the newest green base; a down-trend holds while
no green bar closes above the newest red base. The newest base that counts sets the side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipelines.baseline.bases import Zones
from pipelines.settings import Baseline

Floats = NDArray[np.float64]

STATUS = ("unclear", "weak_bullish", "strong_bullish", "weak_bearish", "strong_bearish", "violation_confirmed")
UNCLEAR, WEAK_BULLISH, STRONG_BULLISH, WEAK_BEARISH, STRONG_BEARISH, VIOLATED = range(len(STATUS))

STRONG_BALANCE = 0.4
"""The balance b at which the trend counts as strong: o > 0.7 or o < 0.3 with o = (b + 1) / 2."""
STRONG = 0.6
WEAK = 0.2


@dataclass(frozen=True)
class GoldenRule:
    """The rule's state at each bar.

    Attributes
    ----------
    continuation
        tc in {-0.6, -0.2, 0, 0.2, 0.6}. A broken green base is bearish, a broken red one bullish.
    status
        Index into `STATUS`.
    base_at
        Bar at which the newest base that counts ended; -1 where there is none within the look-back.
    """

    continuation: Floats
    status: NDArray[np.int8]
    base_at: NDArray[np.int64]


def golden_rule(close: Floats, colour: NDArray[np.int8], balance: Floats, zones: Zones, tick: float, settings: Baseline) -> GoldenRule:
    """Follow the newest base that counts and whether it has been broken.

    Parameters
    ----------
    close
        Shape (n,), index points, continuous across rolls.
    colour, balance
        `Fight.colour` and `Fight.balance`.
    zones
        The base that ends at each bar.
    tick
        Index points per tick.
    settings
        The baseline section.
    """
    tolerance = settings.violation_ticks * tick
    return GoldenRule(
        *_follow(
            *(close, colour, balance, zones.quality, zones.high, zones.low, zones.sign),
            *(settings.base_min_quality, settings.golden_rule_bars, tolerance),
        )
    )


@njit(cache=True)
def _follow(close, colour, balance, quality, top, bottom, sign, min_quality, lookback, tolerance):  # type: ignore[no-untyped-def]
    n = close.size
    continuation = np.zeros(n)
    status = np.zeros(n, dtype=np.int8)
    base_at = np.full(n, -1, dtype=np.int64)
    base = -1
    broken = False
    for t in range(n):
        if quality[t] > min_quality:
            base = t
            broken = False
        elif base >= 0 and t - base > lookback:
            base = -1
        if base < 0:
            continue
        base_at[t] = base
        side = sign[base]
        if side == 0:
            continue
        edge = bottom[base] - tolerance if side > 0 else top[base] + tolerance
        if colour[t] == -side and side * (close[t] - edge) < 0.0:
            broken = True
        if broken:
            status[t] = VIOLATED
            continuation[t] = -side * STRONG
        elif side > 0:
            strong = balance[t] > STRONG_BALANCE
            status[t] = STRONG_BULLISH if strong else WEAK_BULLISH
            continuation[t] = STRONG if strong else WEAK
        else:
            strong = balance[t] < -STRONG_BALANCE
            status[t] = STRONG_BEARISH if strong else WEAK_BEARISH
            continuation[t] = -STRONG if strong else -WEAK
    return continuation, status, base_at
