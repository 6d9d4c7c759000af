"""The fill model: by hand, and against a slow reference on random paths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines.baseline.kernel import ENTRY_PROBLEMS, EXITS, FIRST, Rules, Tape, cool_down, entry_problem, walk

TICK = 0.25
RULES = Rules(bar_minutes=5, max_gap_bars=3, slippage=TICK, through=TICK, time_exit_bars=50, reversal_exit=True)
DECISION = (100.0, 100.0, 100.0, 100.0)


def tape_of(bars, *, side=None, colour=None, flat_left=None, day=None, start=None, offset=None, entry_left=None):
    opened, high, low, close = np.array(bars, dtype=float).T.copy()
    n = len(bars)
    colour = np.sign(close - opened).astype(np.int8) if colour is None else np.array(colour, dtype=np.int8)
    return Tape(
        *(opened, high, low, close),
        np.zeros(n) if offset is None else np.array(offset, dtype=float),
        np.zeros(n, dtype=np.int64) if day is None else np.array(day),
        np.arange(n) * 5 if start is None else np.array(start),
        np.full(n, 100.0) if entry_left is None else np.array(entry_left, dtype=float),
        np.full(n, 1000.0) if flat_left is None else np.array(flat_left, dtype=float),
        colour,
        np.zeros(n, dtype=np.int8) if side is None else np.array(side, dtype=np.int8),
    )


def run(bars, side=1, stop=2.0, target=4.0, kill=np.inf, special=False, rules=RULES, **tape):
    """Walk the bars after a decision bar; entry is the first open plus a tick."""
    return walk(tape_of([DECISION, *bars], **tape), rules, 0, side, stop, target, kill, special)


def described(result):
    return EXITS[result.reason], result.exit_at, result.exit


def test_entry_pays_the_slippage_and_the_stop_stands_at_the_planned_risk():
    result = run([(100, 100.5, 99.5, 100), (100, 100, 98.0, 98.5)])
    assert result.entry == 100.25
    # Stop at 98.25, filled a tick below.
    assert described(result) == ("SL", 2, 98.0)
    assert (result.gain, result.mae, result.mfe, FIRST[result.first]) == (-2.25, 2.25, 0.25, "minus")
    short = run([(100, 100.5, 99.5, 100), (100, 102, 100, 101.5)], side=-1)
    assert (short.entry, described(short)) == (99.75, ("SL", 2, 102.0))


def test_stop_and_target_in_one_bar_is_the_stop_and_says_so():
    result = run([(100, 106, 97, 105)])
    assert (EXITS[result.reason], result.ambiguous, FIRST[result.first]) == ("SL", True, "minus")
    assert result.mfe == 0.0  # the target is not counted as reached
    assert run([(100, 104.25, 97, 105)]).ambiguous is False  # target touched, not traded through


def test_the_target_needs_a_trade_through():
    touched = run([(100, 104.25, 100, 104), (104, 104.25, 103, 103.5)])
    assert touched.exit_at == -1
    assert touched.mfe == 4.0
    filled = run([(100, 104.5, 100, 104)])
    assert described(filled) == ("TP", 1, 104.25)
    assert (filled.gain, filled.mfe, filled.mae, filled.bars_to_mfe, FIRST[filled.first]) == (4.0, 4.0, 0.25, 1, "plus")


def test_a_gap_through_the_stop_fills_at_the_open():
    result = run([(100, 100.5, 99.5, 100), (95, 96, 94, 95)])
    assert described(result) == ("SL", 2, 94.75)
    assert (result.at_open, result.ambiguous, result.mae) == (True, False, 5.5)  # 94.0 came after the exit


def test_a_gap_through_the_target_fills_at_the_limit_even_when_the_stop_lies_in_the_bar():
    result = run([(100, 100.5, 99.5, 100), (106, 107, 90, 91)])
    assert described(result) == ("TP", 2, 104.25)
    assert (result.mfe, result.mae, result.ambiguous) == (4.0, 0.75, False)


def test_reversal_fills_at_the_next_open():
    tape = tape_of([DECISION, (100, 100.5, 99.5, 100), (100.75, 103, 99, 102)], side=[1, -1, -1])
    result = walk(tape, RULES, 0, 1, 2.0, 4.0, np.inf, False)
    assert described(result) == ("SIGNAL_REVERSAL", 2, 100.5)
    assert (result.mfe, result.mae) == (0.5, 0.75)  # the open of the exit bar, nothing after it
    kept = walk(tape, RULES._replace(reversal_exit=False), 0, 1, 2.0, 4.0, np.inf, False)
    assert kept.exit_at == -1
    same = walk(tape_of([DECISION, *[(100, 100.5, 99.5, 100)] * 3], side=[1, 1, 1, 1]), RULES, 0, 1, 2.0, 4.0, np.inf, False)
    assert same.exit_at == -1


def test_special_exit_after_two_balls_against_the_trade():
    bars = [DECISION, (100, 100.5, 99.5, 100.25), (100, 100.5, 99.5, 100.25), (100, 101, 99, 100)]
    short = walk(tape_of(bars), RULES, 0, -1, 2.0, 4.0, np.inf, True)
    assert described(short) == ("SPECIAL_EXIT", 3, 100.25)
    assert walk(tape_of(bars), RULES, 0, -1, 2.0, 4.0, np.inf, False).exit_at == -1
    assert walk(tape_of(bars), RULES, 0, 1, 2.0, 4.0, np.inf, True).exit_at == -1


def test_time_exit_at_the_close_of_the_last_allowed_bar():
    result = run([(100, 100.5, 99.5, 100.25)] * 4, rules=RULES._replace(time_exit_bars=3))
    assert described(result) == ("TIME", 3, 100.0)


def test_session_exit_at_the_last_close_before_the_flat_moment():
    # The bar after the second one would end 1 minute past the flat moment.
    result = run([(100, 100.5, 99.5, 100), (100, 101, 99.5, 101), (90, 90, 90, 90)], flat_left=[14, 9, 4, -1])
    assert described(result) == ("SESSION_CLOSE", 2, 100.75)
    # It follows the clock: a reversal seen at that close comes too late.
    bars = [DECISION, (100, 100.5, 99.5, 100), (100, 101, 99.5, 101), (90, 90, 90, 90)]
    both = walk(tape_of(bars, flat_left=[14, 9, 4, -1], side=[1, 0, -1, -1]), RULES, 0, 1, 2.0, 4.0, np.inf, False)
    assert described(both) == ("SESSION_CLOSE", 2, 100.75)


def test_missing_bars_over_the_flat_moment_close_at_the_next_open_in_the_terms_of_the_entry():
    late = run([(100, 100.5, 99.5, 100), (101, 103, 99, 102)], flat_left=[100, 95, -5])
    assert described(late) == ("SESSION_CLOSE", 2, 100.75)
    rolled = run([(100, 100.5, 99.5, 100), (151, 153, 149, 152)], day=[0, 0, 1], offset=[0, 0, 50])
    assert described(rolled) == ("SESSION_CLOSE", 2, 100.75)


def test_the_daily_limit_ends_the_trade_before_its_stop():
    result = run([(100, 100.5, 98.5, 100)], kill=1.0)
    assert described(result) == ("EMERGENCY", 1, 99.0)
    assert FIRST[result.first] == "none"  # -1 R, 2 points, was not touched


def test_which_of_plus_and_minus_one_r_came_first():
    assert FIRST[run([(100, 102.25, 99, 100), (100, 100, 98, 98)]).first] == "plus"
    assert FIRST[run([(100, 102.25, 98.25, 100)]).first] == "minus"  # both in one bar
    assert FIRST[run([(100, 101, 99, 100)]).first] == "none"
    # The open beyond +1 R is known to have come before the low of its bar.
    assert FIRST[run([(100, 101, 99, 100), (102.5, 103, 98, 98)]).first] == "plus"


def test_bars_to_mfe_is_the_first_bar_that_reached_it():
    bars = [(100, 101, 99, 100), (100, 102, 99, 100), (100, 102, 99, 100), (100, 100, 97, 97)]
    assert run(bars).bars_to_mfe == 2
    assert run([(100, 100, 98, 98)]).bars_to_mfe == 0


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, ""),
        ({"day": [0, 1]}, "next_trading_day"),
        ({"start": [0, 20]}, ""),
        ({"start": [0, 25]}, "gap_before_entry"),
        ({"entry_left": [0, -5]}, ""),
        ({"entry_left": [0, -10]}, "entry_window_closed"),
        ({"flat_left": [4, -1]}, "session_over"),
    ],
)
def test_entries_that_cannot_be_filled(changes, problem):
    assert ENTRY_PROBLEMS[entry_problem(tape_of([DECISION, DECISION], **changes), RULES, 0)] == problem


def test_no_entry_without_a_next_bar():
    assert ENTRY_PROBLEMS[entry_problem(tape_of([DECISION]), RULES, 0)] == "no_next_bar"


def test_cool_down_counts_each_side_for_itself():
    at, side = np.array([0, 2, 3, 5, 6, 7, 11, 12]), np.array([1, 1, -1, 1, 1, -1, -1, 1])
    assert cool_down(at, side, 6).tolist() == [True, False, True, False, True, False, True, True]
    assert cool_down(at, side, 0).all()


def reference(bars, side, stop, target, kill, special, *, time_exit, reversal, signals, flat_left, days):
    """Slow and separate: whole ticks, always long (a short is the long of the mirrored bars), prices seen first, figures after."""
    if side < 0:
        bars = [(-o, -low, -high, -c) for o, high, low, c in bars]
        signals = [-one for one in signals]
    entry = bars[0][0] + 1
    barrier, limit = entry - min(stop, kill), entry + target
    cut = "EMERGENCY" if kill < stop else "SL"
    seen = []  # (bar, low, high) that surely traded while the position was open, in time order
    outcome = None
    due = None
    for k, (o, high, low, c) in enumerate(bars):
        if k:
            seen.append((k, o, min(o, limit) if o > limit else o))
            if o <= barrier:
                outcome = (cut, k, o - 1, True, False)
            elif o > limit:
                outcome = ("TP", k, limit, True, False)
            elif due:
                outcome = (due, k, o - 1, True, False)
            elif days[k] != days[0] or flat_left[k] < 0:
                outcome = ("SESSION_CLOSE", k, o - 1, True, False)
            if outcome:
                break
        if low <= barrier:
            seen.append((k, barrier, entry))
            outcome = (cut, k, barrier - 1, False, high > limit)
            break
        if high > limit:
            seen.append((k, low, limit))
            outcome = ("TP", k, limit, False, False)
            break
        seen.append((k, low, high))
        if k + 1 >= time_exit or flat_left[k] < 5:
            outcome = ("TIME" if k + 1 >= time_exit else "SESSION_CLOSE", k, c - 1, False, False)
            break
        against = [one_c < one_o for one_o, _, _, one_c in bars[: k + 1]]
        if special and k and against[k] and against[k - 1]:
            due = "SPECIAL_EXIT"
        elif reversal and signals[k] < 0:
            due = "SIGNAL_REVERSAL"
    if outcome is None:
        return None
    reason, k, fill, at_open, ambiguous = outcome
    seen.append((k, fill, fill))
    mfe = max(0, max(high - entry for _, _, high in seen))
    mae = max(0, max(entry - low for _, low, _ in seen))
    to_mfe = next(bar + 1 for bar, _, high in seen if high - entry == mfe) if mfe else 0
    first = "none"
    for _, low, high in seen:
        if entry - low >= stop or high - entry >= stop:
            first = "minus" if entry - low >= stop else "plus"
            break
    return reason, k, side * fill, side * entry, fill - entry, mfe, mae, to_mfe, first, at_open, ambiguous


@st.composite
def cases(draw):
    n = draw(st.integers(1, 14))
    bars = []
    price = 4000
    for _ in range(n):
        o = price + draw(st.integers(-6, 6))
        c = o + draw(st.integers(-5, 5))
        bars.append((o, max(o, c) + draw(st.integers(0, 6)), min(o, c) - draw(st.integers(0, 6)), c))
        price = c
    stop = draw(st.integers(1, 12))
    return {
        "bars": bars,
        "side": draw(st.sampled_from([1, -1])),
        "stop": stop,
        "target": draw(st.integers(1, 20)),
        "kill": draw(st.sampled_from([np.inf, np.inf, 3, 6])),
        "special": draw(st.booleans()),
        "time_exit": draw(st.integers(1, 14)),
        "reversal": draw(st.booleans()),
        "signals": draw(st.lists(st.sampled_from([0, 0, 0, 1, -1]), min_size=n, max_size=n)),
        "flat_left": [draw(st.sampled_from([1000, 20, 60])) - 5 * k for k in range(n)],
        "days": [0] * draw(st.integers(1, n)) + [1] * n,
    }


@given(cases())
@settings(max_examples=600, deadline=None)
@example(
    {
        "bars": [(4000, 4010, 3990, 4000)],
        "side": 1,
        "stop": 4,
        "target": 8,
        "kill": np.inf,
        "special": False,
        "time_exit": 9,
        "reversal": True,
    }
    | {"signals": [0], "flat_left": [100], "days": [0, 1]}
)
def test_kernel_agrees_with_the_slow_reference(case):
    wanted = reference(**case)
    n = len(case["bars"])
    bars = [(1000.0,) * 4, *(tuple(price * TICK for price in bar) for bar in case["bars"])]
    tape = tape_of(bars, side=[0, *case["signals"]], flat_left=[9999, *case["flat_left"]], day=[0, *case["days"][:n]])
    rules = RULES._replace(time_exit_bars=case["time_exit"], reversal_exit=case["reversal"])
    distances = case["stop"] * TICK, case["target"] * TICK, case["kill"] * TICK
    got = walk(tape, rules, 0, case["side"], *distances, case["special"])
    if wanted is None:
        assert got.exit_at == -1
        return
    found = (
        *(EXITS[got.reason], got.exit_at - 1, got.exit / TICK, got.entry / TICK, got.gain / TICK, got.mfe / TICK, got.mae / TICK),
        *(got.bars_to_mfe, FIRST[got.first], got.at_open, got.ambiguous),
    )
    assert found == wanted
