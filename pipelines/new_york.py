"""New York wall-clock minutes from UTC seconds, exact and cheap for one value or a million.

The features need the New York time of every request; building a time-zone-aware index costs
about a hundred times more than one look-up in a table of the daylight-saving transitions.
"""

from __future__ import annotations

import datetime as dt

import numpy as np
from numpy.typing import NDArray

FIRST_YEAR, LAST_YEAR = 2007, 2099
"""Years for which the present United States rule holds (Energy Policy Act of 2005)."""

_STANDARD_MINUTES = -300
_DAYLIGHT_MINUTES = -240


def _nth_sunday(year: int, month: int, nth: int) -> dt.datetime:
    first = dt.datetime(year, month, 1, tzinfo=dt.UTC)
    return first + dt.timedelta(days=(6 - first.weekday()) % 7 + 7 * (nth - 1))


def _transitions() -> NDArray[np.int64]:
    moments = []
    for year in range(FIRST_YEAR, LAST_YEAR + 1):
        # Clocks change at 02:00 local: 07:00 UTC in spring, 06:00 UTC in autumn.
        moments.append(_nth_sunday(year, 3, 2) + dt.timedelta(hours=7))
        moments.append(_nth_sunday(year, 11, 1) + dt.timedelta(hours=6))
    return np.array([int(moment.timestamp()) for moment in moments], dtype=np.int64)


_CHANGES = _transitions()


def new_york_minutes(seconds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Minutes since New York midnight.

    Parameters
    ----------
    seconds
        Unix seconds (UTC), any shape, from 2007 to 2099.

    Examples
    --------
    >>> summer = int(dt.datetime(2024, 7, 1, 13, 30, tzinfo=dt.UTC).timestamp())
    >>> winter = int(dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC).timestamp())
    >>> new_york_minutes(np.array([summer, winter])).tolist()
    [570, 570]
    """
    in_daylight_time = np.searchsorted(_CHANGES, seconds, side="right") % 2 == 1
    offset = np.where(in_daylight_time, _DAYLIGHT_MINUTES, _STANDARD_MINUTES)
    return (seconds // 60 + offset) % 1440
