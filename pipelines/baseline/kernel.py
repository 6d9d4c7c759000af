"""One trade, bar by bar: the fill model (DOMAIN C.8, C.9), compiled.

Stop and target stand at fixed distances from the entry fill, so that 1 R is the planned risk
whatever the gap between decision and fill.

At the open of a bar, in this order: a stop that the open has jumped fills at the open; a target
that the open has traded through fills at its limit, never better (a limit order may fill better
in truth; a replay must not count on it); a special or reversal exit decided at the previous close
fills; a position that should already be flat (bars were missing) is closed.
Inside a bar: the stop before the target, when both lie in it.
At the close: time, then session. They follow the clock and need nothing of the bar, so they fill
at its close; a reversal or special exit is known only from that close, so it fills at the next
open and comes too late when the clock has ended the trade.
Every market order (entry, stop, special, reversal, time, session) pays the adverse slippage.

Prices are held in index points; all of them are multiples of 0.25 and exact in float64.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EXITS = ("TP", "SL", "SPECIAL_EXIT", "SIGNAL_REVERSAL", "TIME", "SESSION_CLOSE", "EMERGENCY")
TARGET, STOP, SPECIAL, REVERSAL, TIME, SESSION, EMERGENCY = range(len(EXITS))
OPEN_AT_END = -1

FIRST = ("none", "plus", "minus")
NEITHER, PLUS, MINUS = range(len(FIRST))

ENTRY_PROBLEMS = ("", "no_next_bar", "next_trading_day", "gap_before_entry", "entry_window_closed", "session_over")
ENTERED, NO_NEXT_BAR, NEXT_DAY, GAP, WINDOW_CLOSED, SESSION_OVER = range(len(ENTRY_PROBLEMS))


class Tape(NamedTuple):
    """The bars as the kernel walks them; every array has shape (n,).

    `offset` is the cumulative roll gap, `day` numbers the trading day, `start` is the bar's start
    in minutes since the epoch, `entry_left` and `flat_left` are the minutes from the bar's end to
    the last entry and to the moment at which positions must be flat, `colour` is +1, -1 or 0,
    `side` the sign of the signal at the bar's close.
    """

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    offset: Floats
    day: NDArray[np.int64]
    start: NDArray[np.int64]
    entry_left: Floats
    flat_left: Floats
    colour: NDArray[np.int8]
    side: NDArray[np.int8]


class Rules(NamedTuple):
    """What the kernel needs of the settings; distances in points, times in minutes."""

    bar_minutes: int
    max_gap_bars: int
    slippage: float
    through: float
    time_exit_bars: int
    reversal_exit: bool


class Walk(NamedTuple):
    """How one trade went. Excursions and `gain` are points per contract; `exit_at` -1 means still open."""

    exit_at: int
    reason: int
    at_open: bool
    entry: float
    exit: float
    gain: float
    mfe: float
    mae: float
    bars_to_mfe: int
    first: int
    ambiguous: bool


@njit(cache=True)
def entry_problem(tape, rules, at):  # type: ignore[no-untyped-def]
    """Say why the signal of bar `at` cannot be filled at the next bar's open; 0 when it can."""
    following = at + 1
    if following >= tape.open.size:
        return NO_NEXT_BAR
    if tape.day[following] != tape.day[at]:
        return NEXT_DAY
    if tape.start[following] - tape.start[at] > (rules.max_gap_bars + 1) * rules.bar_minutes:
        return GAP
    if tape.entry_left[following] + rules.bar_minutes < 0.0:
        return WINDOW_CLOSED
    if tape.flat_left[following] < 0.0:
        return SESSION_OVER
    return ENTERED


@njit(cache=True)
def walk(tape, rules, at, side, stop, target, kill, special):  # type: ignore[no-untyped-def]
    """Fill the signal of bar `at` at the next open and follow the trade to its exit.

    Parameters
    ----------
    tape, rules
        Bars and settings.
    at
        Bar of the decision; `entry_problem` must be 0 there.
    side
        +1 long, -1 short.
    stop, target
        Distances from the entry fill, points.
    kill
        Loss in points at which the daily hard limit ends the trade; infinity for none.
    special
        Whether two closed bars in a row against the trade end it.
    """
    e = at + 1
    entry = tape.open[e] + side * rules.slippage
    distance = min(stop, kill)
    mfe = 0.0
    mae = 0.0
    best_at = -1
    first = NEITHER
    pending = -1
    for j in range(e, tape.open.size):
        shift = tape.offset[e] - tape.offset[j]
        if j > e:
            move = side * (tape.open[j] + shift - entry)
            reason = -1
            gain = move - rules.slippage
            if move <= -distance:
                reason = EMERGENCY if kill < stop else STOP
            elif move >= target + rules.through:
                reason = TARGET
                gain = target
            elif pending >= 0:
                reason = pending
            elif tape.day[j] != tape.day[e] or tape.flat_left[j] < 0.0:
                reason = SESSION
            mfe, mae, best_at, first = _touch(mfe, mae, best_at, first, min(move, target) if reason == TARGET else move, -move, stop, j)
            if reason >= 0:
                return _ended(e, j, reason, True, side, entry, gain, mfe, mae, best_at, first, stop, False)
        up = side * ((tape.high[j] if side > 0 else tape.low[j]) + shift - entry)
        down = -side * ((tape.low[j] if side > 0 else tape.high[j]) + shift - entry)
        if down >= distance:
            # What the bar did on the good side may have come after the stop: it is not counted.
            gain = -distance - rules.slippage
            mfe, mae, best_at, first = _touch(mfe, mae, best_at, first, 0.0, distance, stop, j)
            reason = EMERGENCY if kill < stop else STOP
            return _ended(e, j, reason, False, side, entry, gain, mfe, mae, best_at, first, stop, up >= target + rules.through)
        if up >= target + rules.through:
            mfe, mae, best_at, first = _touch(mfe, mae, best_at, first, target, down, stop, j)
            return _ended(e, j, TARGET, False, side, entry, target, mfe, mae, best_at, first, stop, False)
        mfe, mae, best_at, first = _touch(mfe, mae, best_at, first, up, down, stop, j)
        reason = -1
        if j - e + 1 >= rules.time_exit_bars:
            reason = TIME
        elif tape.flat_left[j] < rules.bar_minutes:
            reason = SESSION
        if reason >= 0:
            gain = side * (tape.close[j] + shift - entry) - rules.slippage
            return _ended(e, j, reason, False, side, entry, gain, mfe, mae, best_at, first, stop, False)
        if special and j > e and tape.colour[j] == -side and tape.colour[j - 1] == -side:
            pending = SPECIAL
        elif rules.reversal_exit and tape.side[j] == -side:
            pending = REVERSAL
    return Walk(OPEN_AT_END, -1, False, entry, np.nan, np.nan, mfe, mae, 0, first, False)


@njit(cache=True)
def _touch(mfe, mae, best_at, first, up, down, risk, j):  # type: ignore[no-untyped-def]
    """Take the reach of a bar, or of a part of it, into the excursions; -1 R in the same part comes first."""
    if up > mfe:
        mfe = up
        best_at = j
    if down > mae:
        mae = down
    if first == NEITHER:
        if mae >= risk:
            first = MINUS
        elif mfe >= risk:
            first = PLUS
    return mfe, mae, best_at, first


@njit(cache=True)
def _ended(e, j, reason, at_open, side, entry, gain, mfe, mae, best_at, first, risk, ambiguous):  # type: ignore[no-untyped-def]
    # Slippage takes the fill beyond the prices seen: the excursion includes the fill.
    mfe, mae, best_at, first = _touch(mfe, mae, best_at, first, gain, -gain, risk, j)
    bars_to_mfe = best_at - e + 1 if best_at >= 0 else 0
    # Beyond a roll the price is stated in the terms of the entry's contract.
    return Walk(j, reason, at_open, entry, entry + side * gain, gain, mfe, mae, bars_to_mfe, first, ambiguous)


@njit(cache=True)
def cool_down(candidates, sides, bars):  # type: ignore[no-untyped-def]
    """Keep each candidate that comes at least `bars` bars after the last kept one of its side."""
    kept = np.zeros(candidates.size, dtype=np.bool_)
    last_long = -(bars + 1)
    last_short = -(bars + 1)
    for i in range(candidates.size):
        if sides[i] > 0:
            if candidates[i] - last_long >= bars:
                kept[i] = True
                last_long = candidates[i]
        elif candidates[i] - last_short >= bars:
            kept[i] = True
            last_short = candidates[i]
    return kept
