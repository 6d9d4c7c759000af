"""What the models learn (DOMAIN D): functions of the outcome and of the planned risk, never features.

One R is the distance to the planned stop. A label is known from the trade's exit on, which is
why the splits purge by exit time.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.contracts.tables import Trades
from pipelines.settings import Targets

Bools = NDArray[np.bool_]

BINARY_TARGETS = ("signal_quality", "profitability", "strong_signal")
"""Columns that are 0 or 1."""

TARGETS = (*BINARY_TARGETS, "net_pnl", "realized_r", "signal_strength", "exit_timing")
"""Columns of `compute`, in order."""


def compute(trades: Trades, settings: Targets) -> pd.DataFrame:
    """Compute every target of closed trades.

    Parameters
    ----------
    trades
        n closed trades.
    settings
        Section `targets` of the settings.

    Returns
    -------
    DataFrame
        Row i is of trade i; float64 columns:

        - `signal_quality`: 1 when +1 R was touched before -1 R, 0 for the reverse; the sign of
          the net PnL where neither was touched or the order is unknown.
        - `profitability`: 1 when the net PnL is positive; break-even counts as 0.
        - `strong_signal`: 1 from `strong_r` realised R on.
        - `net_pnl`: USD per contract, after commission.
        - `realized_r`: net PnL in units of the planned risk.
        - `signal_strength`: (realised R + 1) / 3, clipped to [0, 1].
        - `exit_timing`: bars from entry to the best price, clipped; NaN where it was not recorded.
    """
    outcomes = trades.outcomes.frame
    net_pnl = outcomes["net_pnl"].to_numpy(np.float64)
    realized_r = outcomes["realized_r"].to_numpy(np.float64)
    return pd.DataFrame(
        {
            "signal_quality": _signal_quality(trades).astype(np.float64),
            "profitability": (net_pnl > 0.0).astype(np.float64),
            "strong_signal": (realized_r >= settings.strong_r).astype(np.float64),
            "net_pnl": net_pnl / outcomes["quantity_filled"].to_numpy(np.float64),
            "realized_r": realized_r,
            "signal_strength": np.clip((realized_r + 1.0) / 3.0, 0.0, 1.0),
            "exit_timing": np.minimum(outcomes["bars_to_mfe"].to_numpy(np.float64), float(settings.exit_clip_bars)),
        },
        columns=list(TARGETS),
    )


def _signal_quality(trades: Trades) -> Bools:
    outcomes = trades.outcomes.frame
    recorded = outcomes["one_r_first"]
    plus = (recorded == "plus").to_numpy(bool, na_value=False)
    minus = (recorded == "minus").to_numpy(bool, na_value=False)
    derived_plus, derived_minus = _one_r_from_excursions(trades)
    unknown = recorded.isna().to_numpy()
    plus = plus | (unknown & derived_plus)
    minus = minus | (unknown & derived_minus)
    profitable = outcomes["net_pnl"].to_numpy(np.float64) > 0.0
    quality: Bools = np.where(plus | minus, plus, profitable)
    return quality


def _one_r_from_excursions(trades: Trades) -> tuple[Bools, Bools]:
    """Say which side was touched first, as far as the excursions leave no doubt.

    Where both were touched, a stop ends the trade at -1 R, so a best price on an earlier bar than
    the exit proves that +1 R came first. Any other double touch stays open.
    """
    outcomes = trades.outcomes.frame
    one_r = trades.signals.frame["execution_context.stop_ticks"].to_numpy(np.float64)
    up = outcomes["max_favorable_excursion"].to_numpy(np.float64) >= one_r
    down = outcomes["max_adverse_excursion"].to_numpy(np.float64) >= one_r
    stopped = (outcomes["exit_reason"] == "SL").to_numpy(bool, na_value=False)
    best_before_exit = outcomes["bars_to_mfe"].to_numpy(np.float64) < outcomes["bars_in_trade"].to_numpy(np.float64)
    plus: Bools = up & (~down | (stopped & best_before_exit))
    minus: Bools = down & ~up
    return plus, minus
