"""Trading days of the Globex bars: regular hours, half days, holidays, daylight saving, phases.

The regular sessions are those of the New York Stock Exchange (`exchange_calendars`, XNYS), which
the index futures' regular hours follow. A trading day runs from 18:00 New York of the evening
before to 17:00; bars of a holiday belong to the next trading day, like the trade dates of the
exchange. The calendar is asked for a range that the bars give, never for one that depends on
today's date.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.errors import InputError
from pipelines.market.table import PHASES
from pipelines.new_york import FIRST_YEAR, LAST_YEAR, new_york_minutes

NEW_YORK = "America/New_York"
CLOSE_OF_DAY = pd.Timedelta(hours=17)
"""New York wall clock at which a trading day ends."""

OVERNIGHT, PRE_MARKET, OPEN, MIDDAY, AFTERNOON, CLOSE, AFTER_HOURS = range(len(PHASES))
_PHASE_STARTS = np.array([240, 570, 630, 840, 930, 960])
"""Minutes of the New York day at which PRE_MARKET .. AFTER_HOURS begin (DOMAIN B.10)."""

_DAYS_BETWEEN_SESSIONS = 14
"""Calendar days that surely hold the next regular session (the longest closure since 2007 had 4)."""


@dataclass(frozen=True)
class Sessions:
    """Regular sessions in order; times in Unix seconds.

    Attributes
    ----------
    day
        Date of the session, datetime64[ns].
    opens, closes
        Regular open and close; the close is early on half days.
    ends
        17:00 New York of that date, the end of the trading day.
    half
        True on half days.
    """

    day: NDArray[np.datetime64]
    opens: NDArray[np.int64]
    closes: NDArray[np.int64]
    ends: NDArray[np.int64]
    half: NDArray[np.bool_]


@lru_cache(maxsize=16)
def sessions_between(first_year: int, last_year: int) -> Sessions:
    """Regular sessions from the start of `first_year` to two weeks beyond the end of `last_year`."""
    import exchange_calendars

    start = pd.Timestamp(first_year, 1, 1)
    end = pd.Timestamp(last_year, 12, 31) + pd.Timedelta(days=_DAYS_BETWEEN_SESSIONS)
    calendar = exchange_calendars.get_calendar("XNYS", start=start, end=end)
    days = pd.DatetimeIndex(calendar.sessions).as_unit("ns")
    ends = (days + CLOSE_OF_DAY).tz_localize(NEW_YORK)
    return Sessions(
        day=days.to_numpy(),
        opens=unix_seconds(calendar.opens),
        closes=unix_seconds(calendar.closes),
        ends=unix_seconds(ends),
        half=days.isin(calendar.early_closes),
    )


def unix_seconds(times: pd.Series | pd.DatetimeIndex) -> NDArray[np.int64]:
    """Whole Unix seconds of time-zone-aware times."""
    index = pd.DatetimeIndex(times).tz_convert("UTC").as_unit("s")
    return index.asi8.copy()


@dataclass(frozen=True)
class TradingDays:
    """Where each bar stands in its trading day; arrays of shape (n,).

    Attributes
    ----------
    number
        0 for the first trading day of the bars, then 1, 2, ...
    session
        Date of the trading day, datetime64[ns].
    bar_in_session
        0 for the first bar of the trading day.
    is_regular
        The bar lies within the regular hours.
    half_day
        The trading day closes early.
    phase
        Index into `PHASES` at the bar's end, which is when its values are known.
    since_open, to_close
        Minutes from the regular open to the bar's end, and from there to the regular close.
    """

    number: NDArray[np.int64]
    session: NDArray[np.datetime64]
    bar_in_session: NDArray[np.int64]
    is_regular: NDArray[np.bool_]
    half_day: NDArray[np.bool_]
    phase: NDArray[np.int64]
    since_open: NDArray[np.float64]
    to_close: NDArray[np.float64]


def trading_days(start: NDArray[np.int64], bar_minutes: int) -> TradingDays:
    """Place bars in their trading days.

    Parameters
    ----------
    start
        Shape (n,); bar starts in Unix seconds, ascending.
    bar_minutes
        Length of a bar.

    Raises
    ------
    InputError
        Bars before 2007 or after 2098, where the calendar's rules do not hold.
    """
    end = start + 60 * bar_minutes
    table = sessions_between(*_years(start))
    at = np.searchsorted(table.ends, end, side="left")
    number = np.concatenate([[0], np.cumsum(np.diff(at) != 0)]).astype(np.int64)
    first_bar = np.flatnonzero(np.diff(number, prepend=-1))
    opens, closes = table.opens[at], table.closes[at]
    return TradingDays(
        number=number,
        session=table.day[at],
        bar_in_session=np.arange(len(start)) - first_bar[number],
        is_regular=(start >= opens) & (end <= closes),
        half_day=table.half[at],
        phase=_phases(end, opens, closes),
        since_open=(end - opens) / 60.0,
        to_close=(closes - end) / 60.0,
    )


def _years(start: NDArray[np.int64]) -> tuple[int, int]:
    first, last = (pd.Timestamp(int(second), unit="s").year for second in (start[0], start[-1]))
    if first < FIRST_YEAR or last >= LAST_YEAR:
        raise InputError(
            f"bars from {first} to {last}",
            limit=f"years {FIRST_YEAR} to {LAST_YEAR - 1}, for which the calendar's rules hold",
            remedy="leave the other years out (or mend their times)",
        )
    return first, last


def _phases(end: NDArray[np.int64], opens: NDArray[np.int64], closes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Phase at `end`: New York wall clock on the date of the regular session, overnight before that date."""
    minute = new_york_minutes(end)
    phase = np.searchsorted(_PHASE_STARTS, minute, side="right")
    # The regular open is at 09:30 of its date, so its midnight is 570 minutes earlier (no clock
    # changes between midnight and 09:30 on a weekday). A holiday's bars come before it: overnight.
    phase[end < opens - 570 * 60] = OVERNIGHT
    phase[(end >= closes) & (phase > OVERNIGHT)] = AFTER_HOURS
    return phase


def find_gaps(start: NDArray[np.int64], days: TradingDays, bar_minutes: int, max_gap_bars: int) -> pd.DataFrame:
    """List the holes inside regular hours of more than `max_gap_bars` bars.

    Outside regular hours a quiet market leaves bars out and holidays stop it early, so a hole
    there says little.

    Returns
    -------
    DataFrame
        Columns after, before (starts of the bars on both sides, UTC) and missing (bars).
    """
    missing = np.diff(start) // (60 * bar_minutes) - 1
    inside = (np.diff(days.number) == 0) & days.is_regular[:-1] & days.is_regular[1:]
    at = np.flatnonzero(inside & (missing > max_gap_bars))
    return pd.DataFrame(
        {
            "after": pd.to_datetime(start[at], unit="s", utc=True),
            "before": pd.to_datetime(start[at + 1], unit="s", utc=True),
            "missing": missing[at],
        }
    )
