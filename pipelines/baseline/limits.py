"""Which candidates become trades: all of them (collect), or one at a time within the day's limits (live); compiled.

A limit looks at trades that were closed by the decision bar, never at one that is still open.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipelines.baseline.kernel import EMERGENCY, ENTERED, OPEN_AT_END, STOP, entry_problem, walk

Floats = NDArray[np.float64]

LIMITS = ("", "position_open", "daily_loss_hard", "daily_loss_soft", "consecutive_losses", "stopout_cooldown", "patience")
FREE, POSITION_OPEN, LOSS_HARD, LOSS_SOFT, LOSS_RUN, STOPOUT, PATIENCE = range(len(LIMITS))


class Plan(NamedTuple):
    """Candidate signals; every array has shape (m,).

    `at` is the decision bar, `side` +1 or -1, `stop` and `target` are distances in points,
    `special` says whether two balls in a row against the trade end it, `patience` are the
    minutes that must lie between two entries.
    """

    at: NDArray[np.int64]
    side: NDArray[np.int64]
    stop: Floats
    target: Floats
    special: NDArray[np.bool_]
    patience: Floats


class Limits(NamedTuple):
    """The live limits: USD, minutes and counts."""

    loss_soft: float
    loss_hard: float
    loss_run: int
    stopout_minutes: float
    point_value: float
    commission: float
    tick: float


class Walks(NamedTuple):
    """What became of each candidate; every array has shape (m,), fields as in `kernel.Walk`.

    `limit` and `problem` say why there is no trade: index into `LIMITS` and `ENTRY_PROBLEMS`.
    """

    limit: NDArray[np.int8]
    problem: NDArray[np.int8]
    exit_at: NDArray[np.int64]
    reason: NDArray[np.int8]
    entry: Floats
    exit: Floats
    gain: Floats
    mfe: Floats
    mae: Floats
    bars_to_mfe: NDArray[np.int64]
    first: NDArray[np.int8]
    ambiguous: NDArray[np.bool_]
    at_open: NDArray[np.bool_]


@njit(cache=True)
def collect(tape, rules, plan):  # type: ignore[no-untyped-def]
    """Walk every candidate; trades may overlap."""
    walks = _blank(plan.at.size)
    for i in range(plan.at.size):
        walks.problem[i] = entry_problem(tape, rules, plan.at[i])
        if walks.problem[i] == ENTERED:
            _store(walks, i, walk(tape, rules, plan.at[i], plan.side[i], plan.stop[i], plan.target[i], np.inf, plan.special[i]))
    return walks


@njit(cache=True)
def live(tape, rules, plan, limits):  # type: ignore[no-untyped-def]
    """Walk the candidates with one position at a time and the day's limits."""
    walks = _blank(plan.at.size)
    last = -1
    last_entry = -np.inf
    last_stopout = -np.inf
    day = np.int64(-1)
    pnl = 0.0
    losses = 0
    for i in range(plan.at.size):
        at = plan.at[i]
        now = tape.start[at] + rules.bar_minutes
        if last >= 0:
            closed = walks.exit_at[last]
            if closed == OPEN_AT_END or closed > at:
                walks.limit[i] = POSITION_OPEN
                continue
            if tape.day[closed] != day:
                day, pnl, losses = tape.day[closed], 0.0, 0
            net = walks.gain[last] * limits.point_value - limits.commission
            pnl += net
            losses = losses + 1 if net < 0.0 else 0
            if walks.reason[last] == STOP or walks.reason[last] == EMERGENCY:
                last_stopout = tape.start[closed] + rules.bar_minutes
            last = -1
        if tape.day[at] != day:
            day, pnl, losses = tape.day[at], 0.0, 0
        walks.limit[i] = _limit(limits, pnl, losses, now - last_stopout, now - last_entry, plan.patience[i])
        if walks.limit[i] != FREE:
            continue
        walks.problem[i] = entry_problem(tape, rules, at)
        if walks.problem[i] == ENTERED:
            kill = _kill_distance(limits, pnl, rules.slippage)
            _store(walks, i, walk(tape, rules, at, plan.side[i], plan.stop[i], plan.target[i], kill, plan.special[i]))
            last = i
            last_entry = tape.start[at + 1]
    return walks


@njit(cache=True)
def _limit(limits, pnl, losses, since_stopout, since_entry, patience):  # type: ignore[no-untyped-def]
    if pnl <= -limits.loss_hard:
        return LOSS_HARD
    if pnl <= -limits.loss_soft:
        return LOSS_SOFT
    if losses >= limits.loss_run:
        return LOSS_RUN
    if since_stopout < limits.stopout_minutes:
        return STOPOUT
    if since_entry < patience:
        return PATIENCE
    return FREE


@njit(cache=True)
def _kill_distance(limits, pnl, slippage):  # type: ignore[no-untyped-def]
    """Points against the trade at which closing it, slippage and commission included, just keeps the day within the hard limit."""
    room = (limits.loss_hard + pnl - limits.commission) / limits.point_value - slippage
    return max(np.floor(room / limits.tick), 1.0) * limits.tick


@njit(cache=True)
def _blank(size):  # type: ignore[no-untyped-def]
    return Walks(
        np.zeros(size, np.int8),
        np.zeros(size, np.int8),
        np.full(size, OPEN_AT_END),
        np.full(size, -1, np.int8),
        np.full(size, np.nan),
        np.full(size, np.nan),
        np.full(size, np.nan),
        np.zeros(size),
        np.zeros(size),
        np.zeros(size, np.int64),
        np.zeros(size, np.int8),
        np.zeros(size, np.bool_),
        np.zeros(size, np.bool_),
    )


@njit(cache=True)
def _store(walks, i, one):  # type: ignore[no-untyped-def]
    walks.exit_at[i] = one.exit_at
    walks.reason[i] = one.reason
    walks.entry[i] = one.entry
    walks.exit[i] = one.exit
    walks.gain[i] = one.gain
    walks.mfe[i] = one.mfe
    walks.mae[i] = one.mae
    walks.bars_to_mfe[i] = one.bars_to_mfe
    walks.first[i] = one.first
    walks.ambiguous[i] = one.ambiguous
    walks.at_open[i] = one.at_open
