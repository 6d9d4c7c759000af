"""VIX as it was known: the close of a day exists from 16:15 New York of that day on."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.market.calendar import unix_seconds

_SECONDS_PER_DAY = 86_400.0


def vix_asof(vix: pd.DataFrame | None, end: NDArray[np.int64], max_age_days: float) -> NDArray[np.float64]:
    """The last VIX close that was known at each bar's end.

    Parameters
    ----------
    vix
        Columns known_at (UTC) and close, sorted by known_at; None gives NaN throughout.
    end
        Shape (n,); bar ends in Unix seconds.
    max_age_days
        Calendar days since known_at beyond which the value is NaN.
    """
    if vix is None or vix.empty:
        return np.full(len(end), np.nan)
    known = unix_seconds(vix["known_at"])
    row = np.searchsorted(known, end, side="right") - 1
    usable = (row >= 0) & (end - known[np.maximum(row, 0)] <= max_age_days * _SECONDS_PER_DAY)
    return np.where(usable, vix["close"].to_numpy(np.float64)[np.maximum(row, 0)], np.nan)
