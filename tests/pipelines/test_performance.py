from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.performance import SECONDS_PER_YEAR, drawdown, equity, measure
from pipelines.settings import load_settings

SETTINGS = load_settings().performance

pnl_lists = st.lists(st.floats(-5000, 5000).map(lambda value: round(value, 2)), min_size=1, max_size=60)


def of(values: list[float], taken: list[bool] | None = None, years: float = 1.0):
    pnl = np.array(values)
    return measure(pnl, np.ones(len(pnl), bool) if taken is None else np.array(taken), years * SECONDS_PER_YEAR, SETTINGS)


def test_by_hand() -> None:
    result = of([100.0, -50.0, -50.0, 200.0, 0.0], years=0.5)
    assert (result.trades, result.total, result.expectancy) == (5, 200.0, 40.0)
    assert result.win_rate == 0.4  # break-even is no win
    assert result.profit_factor == 3.0
    # Deviations 60, -90, -90, 160, -40: squares sum to 47000, /4 = 11750.
    assert result.sharpe == pytest.approx(40.0 / math.sqrt(11750.0))
    assert result.sharpe_annual == pytest.approx(40.0 / math.sqrt(11750.0) * math.sqrt(10.0))
    assert result.max_drawdown == 100.0


def test_the_first_loss_is_a_drawdown_already() -> None:
    assert of([-70.0, 10.0]).max_drawdown == 70.0
    assert drawdown(np.array([10.0, -30.0])).tolist() == [0.0, 30.0]


def test_skipped_trades_do_not_count() -> None:
    assert of([100.0, -500.0, 50.0], [True, False, True]) == of([100.0, 50.0])


def test_edges() -> None:
    assert of([50.0, 50.0]).profit_factor == SETTINGS.profit_factor_cap
    assert of([50.0, 50.0]).sharpe == 0.0
    assert of([-50.0]).profit_factor == 0.0
    assert math.isnan(of([-50.0]).sharpe)
    none = of([10.0], [False])
    assert (none.trades, none.total, none.max_drawdown) == (0, 0.0, 0.0)
    assert math.isnan(none.expectancy)
    assert math.isnan(none.win_rate)
    with pytest.raises(ValueError, match="1 of 2 PnL values are NaN or infinite"):
        of([1.0, float("nan")])


@given(pnl_lists)
def test_drawdown_covers_the_largest_loss_and_the_whole_loss(values: list[float]) -> None:
    result = of(values)
    assert result.max_drawdown >= max(0.0, -min(values)) - 1e-6
    assert result.max_drawdown >= -result.total - 1e-6
    assert 0.0 <= result.profit_factor <= SETTINGS.profit_factor_cap
    assert result.total == pytest.approx(equity(np.array(values))[-1])


@given(pnl_lists, st.floats(0.1, 10.0))
def test_scaling_the_contracts_scales_money_and_leaves_ratios(values: list[float], factor: float) -> None:
    one, scaled = of(values), of([factor * value for value in values])
    assert scaled.total == pytest.approx(factor * one.total, abs=1e-6)
    assert scaled.max_drawdown == pytest.approx(factor * one.max_drawdown, abs=1e-6)
    assert scaled.win_rate == one.win_rate
    assert scaled.profit_factor == pytest.approx(one.profit_factor, rel=1e-6)
