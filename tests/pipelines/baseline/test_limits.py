"""Each limit of the live mode, on trades whose result is fixed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.baseline.kernel import EXITS
from pipelines.baseline.limits import LIMITS, Limits, Plan, collect, live
from tests.pipelines.baseline.test_kernel import DECISION, RULES, tape_of

FREE = Limits(loss_soft=1e9, loss_hard=1e9, loss_run=99, stopout_minutes=0.0, point_value=50.0, commission=2.5, tick=0.25)
LOSER = (100, 100, 97.75, 98)  # a long with a 2-point stop loses 2.25 points = 112.50 + 2.50 USD within the bar
WINNER = (100, 105, 100, 104)
QUIET = (100, 100.5, 99.5, 100)


def live_of(bars, at, *, limits=FREE, patience=0.0, **tape):
    plan = plan_of(at, patience)
    walks = live(tape_of([DECISION, *bars], **tape), RULES, plan, limits)
    return [LIMITS[code] for code in walks.limit], walks


def plan_of(at, patience=0.0):
    n = len(at)
    return Plan(np.array(at), np.ones(n, np.int64), np.full(n, 2.0), np.full(n, 4.0), np.zeros(n, bool), np.full(n, patience))


def test_collect_lets_trades_overlap():
    walks = collect(tape_of([DECISION, QUIET, QUIET, QUIET, LOSER]), RULES, plan_of([0, 1, 2, 3]))
    assert walks.exit_at.tolist() == [4, 4, 4, 4]
    assert walks.limit.tolist() == [0] * 4


def test_one_position_at_a_time():
    limits, walks = live_of([QUIET, QUIET, LOSER, QUIET, QUIET], [0, 1, 2, 3])
    assert limits == ["", "position_open", "position_open", ""]
    assert walks.exit_at.tolist() == [3, -1, -1, -1]


def test_a_position_still_open_at_the_end_blocks_the_rest():
    assert live_of([QUIET] * 4, [0, 1, 2])[0] == ["", "position_open", "position_open"]


def test_soft_daily_loss_stops_new_entries_until_the_next_day():
    bars = [LOSER] * 5
    limits, _ = live_of(bars, [0, 1, 2, 3, 4], limits=FREE._replace(loss_soft=200.0), day=[0, 0, 0, 0, 1, 1])
    # Two losses of 115 USD; the entry from bar 3 would be on the next trading day.
    assert limits == ["", "", "daily_loss_soft", "daily_loss_soft", ""]


def test_a_loss_at_the_limit_itself_counts():
    assert live_of([LOSER] * 3, [0, 1], limits=FREE._replace(loss_soft=115.0))[0] == ["", "daily_loss_soft"]
    assert live_of([LOSER] * 3, [0, 1], limits=FREE._replace(loss_soft=115.01))[0] == ["", ""]


def test_hard_daily_loss_ends_the_open_trade_and_the_day():
    limits, walks = live_of([LOSER] * 3, [0, 1, 2], limits=FREE._replace(loss_hard=200.0))
    # After -115 USD there is room for 85: 82.50 after commission is 1.65 points, less 0.25 slippage: 1.25 on the grid.
    assert [EXITS[code] for code in walks.reason[:2]] == ["SL", "EMERGENCY"]
    assert walks.gain.tolist()[:2] == [-2.25, -1.5]
    assert limits == ["", "", ""]
    net = (walks.gain * 50 - 2.5).tolist()
    assert sum(net[:2]) >= -200.0
    # With hardly any room left the stop is one tick, and then the day is over.
    assert walks.gain[2] == -0.5
    assert live_of([LOSER] * 4, [0, 1, 2, 3], limits=FREE._replace(loss_hard=200.0))[0][3] == "daily_loss_hard"


def test_consecutive_losses_stop_the_day_and_a_win_starts_anew():
    strict = FREE._replace(loss_run=2)
    assert live_of([LOSER] * 4, [0, 1, 2], limits=strict)[0] == ["", "", "consecutive_losses"]
    assert live_of([LOSER, WINNER, LOSER, LOSER, LOSER], [0, 1, 2, 3, 4], limits=strict)[0] == ["", "", "", "", "consecutive_losses"]
    assert live_of([LOSER] * 4, [0, 1, 3], limits=strict, day=[0, 0, 0, 1, 1])[0] == ["", "", ""]


def test_cool_down_after_a_stop_out_but_not_after_a_target():
    waits = FREE._replace(stopout_minutes=15.0)
    # The stop-out is known at the end of bar 1; bar 4 ends 15 minutes later.
    assert live_of([LOSER, *[QUIET] * 5], [0, 1, 2, 3, 4], limits=waits)[0] == ["", *["stopout_cooldown"] * 3, ""]
    assert live_of([WINNER, *[QUIET] * 5], [0, 1], limits=waits)[0] == ["", ""]


@pytest.mark.parametrize(("patience", "wanted"), [(0.0, ["", "", ""]), (10.0, ["", "patience", ""]), (15.0, ["", "patience", "patience"])])
def test_patience_between_two_entries(patience, wanted):
    # Entries at minutes 5, 10 and 15.
    assert live_of([WINNER] * 4, [0, 1, 2], patience=patience)[0] == wanted


def test_an_entry_that_could_not_be_filled_is_no_trade():
    limits, walks = live_of([QUIET, LOSER], [0, 1], patience=60.0, start=[0, 60, 65])
    assert (limits, walks.problem.tolist(), walks.exit_at.tolist()) == (["", ""], [3, 0], [-1, 2])
