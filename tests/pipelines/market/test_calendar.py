from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipelines.errors import InputError
from pipelines.market.calendar import find_gaps, trading_days, unix_seconds
from pipelines.market.table import PHASES
from tests.pipelines.market.samples import new_york_range


def place(start: str, minutes: int = 5) -> dict[str, object]:
    """Where the bar that starts at this New York time stands."""
    times = pd.DatetimeIndex([pd.Timestamp(start, tz="America/New_York")])
    days = trading_days(unix_seconds(times), minutes)
    return {
        "session": str(pd.Timestamp(days.session[0]).date()),
        "regular": bool(days.is_regular[0]),
        "half": bool(days.half_day[0]),
        "phase": PHASES[days.phase[0]],
        "since": days.since_open[0],
        "left": days.to_close[0],
    }


@pytest.mark.parametrize(
    ("start", "phase", "regular"),
    [
        ("2024-01-09 18:00", "overnight", False),
        ("2024-01-09 23:55", "overnight", False),
        ("2024-01-10 03:50", "overnight", False),
        ("2024-01-10 03:55", "pre_market", False),  # known at 04:00
        ("2024-01-10 09:20", "pre_market", False),
        ("2024-01-10 09:25", "open", False),  # ends at 09:30, when the open phase begins
        ("2024-01-10 09:30", "open", True),
        ("2024-01-10 10:25", "midday", True),
        ("2024-01-10 13:55", "afternoon", True),
        ("2024-01-10 15:25", "close", True),
        ("2024-01-10 15:50", "close", True),
        ("2024-01-10 15:55", "after_hours", True),  # the last regular bar, known at 16:00
        ("2024-01-10 16:55", "after_hours", False),
    ],
)
def test_phases_of_a_whole_day(start: str, phase: str, regular: bool) -> None:
    found = place(start)
    assert (found["session"], found["phase"], found["regular"]) == ("2024-01-10", phase, regular)


@pytest.mark.parametrize("day", ["2024-07-03", "2024-11-29"])
def test_half_days_close_at_one(day: str) -> None:
    last = place(f"{day} 12:55")
    assert (last["regular"], last["half"], last["left"], last["since"]) == (True, True, 0.0, 210.0)
    assert place(f"{day} 12:50")["phase"] == "midday"
    for later in ("12:55", "13:00", "14:30", "15:40", "16:55"):
        assert place(f"{day} {later}")["phase"] == "after_hours"
    assert not place(f"{day} 13:00")["regular"]


@pytest.mark.parametrize(
    ("day", "open_utc"),
    [("2024-03-08", "14:30"), ("2024-03-11", "13:30"), ("2024-11-01", "13:30"), ("2024-11-04", "14:30")],
)
def test_daylight_saving_moves_the_open(day: str, open_utc: str) -> None:
    start = unix_seconds(pd.DatetimeIndex([f"{day} {open_utc}"]).tz_localize("UTC"))
    days = trading_days(start, 5)
    assert days.is_regular[0]
    assert days.since_open[0] == 5.0
    assert not trading_days(start - 300, 5).is_regular[0]


def test_sunday_evening_after_the_clock_change_belongs_to_monday() -> None:
    for sunday, monday in (("2024-03-10", "2024-03-11"), ("2024-11-03", "2024-11-04")):
        found = place(f"{sunday} 18:00")
        assert (found["session"], found["phase"], found["since"]) == (monday, "overnight", -925.0)


def test_a_holiday_belongs_to_the_next_trading_day() -> None:
    for start in ("2025-01-19 18:00", "2025-01-20 09:30", "2025-01-20 12:55", "2025-01-20 18:00", "2025-01-21 09:25"):
        found = place(start)
        assert (found["session"], found["regular"]) == ("2025-01-21", False)
    assert place("2025-01-20 10:00")["phase"] == "overnight"
    assert place("2025-01-21 09:30")["regular"]
    assert place("2025-01-17 16:55")["session"] == "2025-01-17"


def test_bars_are_counted_from_the_start_of_the_trading_day() -> None:
    start = unix_seconds(
        new_york_range("2024-07-02 16:50", "2024-07-02 17:00").append(new_york_range("2024-07-02 18:00", "2024-07-02 18:15"))
    )
    days = trading_days(start, 5)
    assert days.bar_in_session.tolist() == [0, 1, 0, 1, 2]
    assert days.number.tolist() == [0, 0, 1, 1, 1]


def test_the_calendar_depends_on_the_bars_only() -> None:
    long = unix_seconds(new_york_range("2024-06-30 18:00", "2024-07-05 17:00"))
    whole, part = trading_days(long, 5), trading_days(long[:300], 5)
    np.testing.assert_array_equal(whole.session[:300], part.session)
    np.testing.assert_array_equal(whole.to_close[:300], part.to_close)


@pytest.mark.parametrize("year", [1999, 2120])
def test_years_without_known_rules_are_refused(year: int) -> None:
    with pytest.raises(InputError, match=f"bars from {year} to {year}; expected years 2007 to 2098.*remedy"):
        trading_days(unix_seconds(pd.DatetimeIndex([f"{year}-03-03 15:00"]).tz_localize("UTC")), 5)


def test_gaps_count_in_regular_hours_only() -> None:
    start = unix_seconds(new_york_range("2024-01-09 18:00", "2024-01-10 17:00"))
    days = trading_days(start, 5)
    hole = (days.since_open > 60) & (days.since_open <= 85)  # five bars
    night = (days.bar_in_session > 10) & (days.bar_in_session < 40)
    kept = start[~hole & ~night]
    gaps = find_gaps(kept, trading_days(kept, 5), 5, 3)
    assert gaps["missing"].tolist() == [5]
    assert str(gaps["after"][0]) == "2024-01-10 15:25:00+00:00"
    assert find_gaps(kept, trading_days(kept, 5), 5, 5).empty
