from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines.new_york import new_york_minutes

NEW_YORK = ZoneInfo("America/New_York")


@given(st.datetimes(min_value=dt.datetime(2007, 1, 1), max_value=dt.datetime(2099, 12, 31)))
@example(dt.datetime(2024, 3, 10, 6, 59, 59))
@example(dt.datetime(2024, 3, 10, 7, 0))
@example(dt.datetime(2024, 11, 3, 5, 59, 59))
@example(dt.datetime(2024, 11, 3, 6, 0))
def test_agrees_with_the_time_zone_database(moment: dt.datetime) -> None:
    seconds = int(moment.replace(tzinfo=dt.UTC).timestamp())
    local = dt.datetime.fromtimestamp(seconds, NEW_YORK)
    assert new_york_minutes(np.array([seconds])).tolist() == [local.hour * 60 + local.minute]
