from __future__ import annotations

import numpy as np
import pytest

from pipelines.contracts.tables import OutcomeTable, SignalTable, Trades
from pipelines.settings import load_settings
from pipelines.targets import TARGETS, compute
from tests.factories import make_trades

SETTINGS = load_settings().targets


def one_trade(**changes: object) -> Trades:
    """One trade, 24 ticks of stop (one R), with these outcome columns."""
    trades = make_trades(1)
    signals = trades.signals.frame.assign(**{"execution_context.stop_ticks": 24.0})
    outcomes = trades.outcomes.frame.assign(**changes)
    return Trades(
        SignalTable(signals, trades.signals.bars, trades.signals.clusters), OutcomeTable(outcomes.astype(trades.outcomes.frame.dtypes))
    )


def target(name: str, **changes: object) -> float:
    return float(compute(one_trade(**changes), SETTINGS)[name].iloc[0])


def test_a_full_winner_by_hand() -> None:
    # Two contracts, +48 ticks each of 12.50 USD, 5 USD commission: 1195 USD; risk 24 ticks x 2 contracts = 600 USD.
    row = compute(
        one_trade(net_pnl=1195.0, quantity_filled=2.0, realized_r=1195.0 / 600.0, one_r_first="plus", bars_to_mfe=7.0), SETTINGS
    ).iloc[0]
    assert list(row.index) == list(TARGETS)
    assert row["signal_quality"] == 1.0
    assert row["profitability"] == 1.0
    assert row["strong_signal"] == 1.0
    assert row["net_pnl"] == 597.5
    assert row["realized_r"] == pytest.approx(1.9916667)
    assert row["signal_strength"] == pytest.approx(0.9972222)
    assert row["exit_timing"] == 7.0


@pytest.mark.parametrize(("net_pnl", "expected"), [(0.01, 1.0), (0.0, 0.0), (-0.01, 0.0)])
def test_break_even_is_not_profitable(net_pnl: float, expected: float) -> None:
    assert target("profitability", net_pnl=net_pnl) == expected


@pytest.mark.parametrize(
    ("realized_r", "strength", "strong"), [(-1.5, 0.0, 0.0), (-1.0, 0.0, 0.0), (0.5, 0.5, 0.0), (1.0, 2 / 3, 1.0), (9.0, 1.0, 1.0)]
)
def test_strength_is_clipped_and_strong_from_one_r(realized_r: float, strength: float, strong: float) -> None:
    assert target("signal_strength", realized_r=realized_r) == pytest.approx(strength)
    assert target("strong_signal", realized_r=realized_r) == strong


@pytest.mark.parametrize(
    ("first", "net_pnl", "expected"),
    [("plus", -300.0, 1.0), ("minus", 300.0, 0.0), ("none", 12.5, 1.0), ("none", 0.0, 0.0), ("none", -12.5, 0.0)],
)
def test_quality_follows_the_recorded_first_touch(first: str, net_pnl: float, expected: float) -> None:
    assert target("signal_quality", one_r_first=first, net_pnl=net_pnl) == expected


@pytest.mark.parametrize(
    ("best", "worst", "reason", "bars_to_best", "net_pnl", "expected"),
    [
        (24.0, 23.0, "TIME", 3.0, -50.0, 1.0),  # only +1 R was touched, although the trade lost
        (23.0, 24.0, "SL", 3.0, -300.0, 0.0),  # only -1 R
        (23.0, 24.0, "SIGNAL_REVERSAL", 3.0, 80.0, 0.0),  # only -1 R, although the trade won
        (30.0, 24.0, "SL", 3.0, -300.0, 1.0),  # +1 R came on an earlier bar than the stop that ended the trade
        (30.0, 24.0, "SL", 9.0, -300.0, 0.0),  # both on the exit bar: the sign decides
        (30.0, 24.0, "SL", np.nan, -300.0, 0.0),  # unknown bar: the sign decides
        (30.0, 24.0, "TIME", 3.0, 40.0, 1.0),  # both, order unknown: the sign decides
        (10.0, 10.0, "TIME", 3.0, -10.0, 0.0),  # neither: the sign decides
    ],
)
def test_quality_without_a_recorded_touch(
    best: float, worst: float, reason: str, bars_to_best: float, net_pnl: float, expected: float
) -> None:
    excursions = {"max_favorable_excursion": best, "max_adverse_excursion": worst, "bars_to_mfe": bars_to_best, "bars_in_trade": 9.0}
    assert target("signal_quality", one_r_first=None, exit_reason=reason, net_pnl=net_pnl, **excursions) == expected


def test_exit_timing_is_clipped_and_may_be_missing() -> None:
    assert target("exit_timing", bars_to_mfe=400.0) == SETTINGS.exit_clip_bars
    assert np.isnan(target("exit_timing", bars_to_mfe=np.nan))


def test_every_trade_gets_a_label_in_its_own_row() -> None:
    trades = make_trades(50, seed=3)
    table = compute(trades, SETTINGS)
    assert len(table) == 50
    assert table.drop(columns="exit_timing").notna().all(axis=None)
    order = np.random.default_rng(0).permutation(50)
    shuffled = compute(trades.take(order), SETTINGS)
    assert shuffled.equals(table.iloc[order].reset_index(drop=True))
