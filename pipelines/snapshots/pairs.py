"""Whether a signal and an outcome can be of one trade, for whole tables at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.contracts.base import POINT_VALUE, TICK
from pipelines.contracts.outcome import MONEY_TOLERANCE, R_TOLERANCE, Outcome, pair_problem
from pipelines.contracts.signal import Signal
from pipelines.contracts.tables import Trades


def faulty_pairs(trades: Trades) -> NDArray[np.bool_]:
    """Mark the pairs for which `pair_problem` has an objection, shape (n,)."""
    signals, outcomes = trades.signals.frame, trades.outcomes.frame
    if not len(trades):
        return np.zeros(0, dtype=bool)
    side = np.where(signals["battle_navale.direction"].to_numpy() == "LONG", 1.0, -1.0)
    point_value = signals["symbol"].map(POINT_VALUE).to_numpy(np.float64)
    in_order = outcomes["entry_time"].to_numpy() >= signals["decision_time"].to_numpy()
    # The arithmetic of `pair_problem`, operation by operation, so that both judge alike.
    with np.errstate(over="ignore", invalid="ignore"):
        move = side * (_floats(outcomes["exit_price"]) - _floats(outcomes["entry_price"]))
        gross = move * point_value * _floats(outcomes["quantity_filled"])
        realized = _floats(outcomes["net_pnl"]) / _floats(signals["execution_context.max_risk_dollars"])
        same_ticks = np.abs(move / TICK - _floats(outcomes["pnl_ticks"])) <= R_TOLERANCE
        same_gross = np.abs(gross - _floats(outcomes["gross_pnl"])) <= MONEY_TOLERANCE
        same_r = np.abs(realized - _floats(outcomes["realized_r"])) <= R_TOLERANCE
    return np.asarray(~(in_order & same_ticks & same_gross & same_r))


def explain(trades: Trades) -> list[str]:
    """Say of each of these (faulty) pairs what is wrong with it."""
    reasons = []
    for signal, outcome in zip(trades.signals.to_dicts(), trades.outcomes.to_dicts(), strict=True):
        problem = pair_problem(Signal.model_validate(signal), Outcome.model_validate(outcome))
        reasons.append(problem or "signal and outcome contradict each other")
    return reasons


def _floats(series: object) -> NDArray[np.float64]:
    return np.asarray(series, dtype=np.float64)
