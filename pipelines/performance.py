"""Trading figures of a sequence of closed trades.

All of them come from net PnL per trade, in the order of the trades; a trade that was skipped
counts as 0 USD in the equity curve and is left out of the win rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.settings import Performance as PerformanceSettings

Floats = NDArray[np.float64]

SECONDS_PER_YEAR = 365.25 * 86_400


@dataclass(frozen=True)
class Performance:
    """How a sequence of trades went.

    Attributes
    ----------
    trades
        Trades taken (PnL counted, also when it is zero).
    total
        USD.
    expectancy
        USD per trade taken; NaN without trades.
    win_rate
        Share of trades with PnL > 0; break-even is not a win; NaN without trades.
    profit_factor
        Gross profit / gross loss, capped at `performance.profit_factor_cap` (so also without
        any loss); 0 without any profit; NaN without trades.
    sharpe
        Mean / standard deviation (n - 1) of the PnL per trade; NaN with fewer than two trades, 0 when
        the mean is 0 or when the PnL does not vary.
    sharpe_annual
        `sharpe` times the square root of trades per year; it takes the trades as independent.
    max_drawdown
        USD, largest fall of the equity below its earlier peak (0 at the start), >= 0; never
        smaller than the largest single loss.
    """

    trades: int
    total: float
    expectancy: float
    win_rate: float
    profit_factor: float
    sharpe: float
    sharpe_annual: float
    max_drawdown: float


def measure(net_pnl: Floats, taken: NDArray[np.bool_], span_seconds: float, settings: PerformanceSettings) -> Performance:
    """Measure a sequence of trades.

    Parameters
    ----------
    net_pnl
        Shape (n,), USD, in time order.
    taken
        Shape (n,); False where a trade was skipped (its PnL is then not counted).
    span_seconds
        Time from the first decision to the last exit, for the annualisation.
    settings
        Section `performance` of the settings.
    """
    if not np.isfinite(net_pnl).all():
        raise ValueError(f"{int((~np.isfinite(net_pnl)).sum())} of {len(net_pnl)} PnL values are NaN or infinite")
    counted = net_pnl[taken]
    count = len(counted)
    sharpe = _sharpe(counted)
    per_year = count / (span_seconds / SECONDS_PER_YEAR) if span_seconds > 0 else float("nan")
    return Performance(
        trades=count,
        total=float(counted.sum()),
        expectancy=float(counted.mean()) if count else float("nan"),
        win_rate=float((counted > 0).mean()) if count else float("nan"),
        profit_factor=_profit_factor(counted, settings.profit_factor_cap),
        sharpe=sharpe,
        sharpe_annual=sharpe * float(np.sqrt(per_year)),
        max_drawdown=float(drawdown(counted).max(initial=0.0)),
    )


def equity(net_pnl: Floats) -> Floats:
    """Cumulated PnL after each trade, USD; shape (n,)."""
    return np.cumsum(net_pnl)


def drawdown(net_pnl: Floats) -> Floats:
    """Fall of the equity below its highest value so far (0 before the first trade), USD, >= 0; shape (n,).

    Examples
    --------
    >>> drawdown(np.array([-50.0, 100.0, -30.0, -40.0, 200.0])).tolist()
    [50.0, 0.0, 30.0, 70.0, 0.0]
    """
    curve = equity(net_pnl)
    peak = np.maximum(np.maximum.accumulate(curve), 0.0) if len(curve) else curve
    return peak - curve


def _profit_factor(net_pnl: Floats, cap: float) -> float:
    if not len(net_pnl):
        return float("nan")
    profit = float(net_pnl[net_pnl > 0].sum())
    loss = -float(net_pnl[net_pnl < 0].sum())
    if profit == 0.0:
        return 0.0
    return min(profit / loss, cap) if loss > 0.0 else cap


def _sharpe(net_pnl: Floats) -> float:
    if len(net_pnl) < 2:
        return float("nan")
    mean, deviation = float(net_pnl.mean()), float(net_pnl.std(ddof=1))
    # Equal values leave a deviation of rounding size; dividing by it would give an absurd ratio.
    return mean / deviation if deviation > 1e-9 * max(abs(mean), 1.0) else 0.0
