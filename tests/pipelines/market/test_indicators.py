from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.market import indicators


def floats(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)


def test_wilder_atr_by_hand() -> None:
    atr = indicators.wilder_atr(floats(10, 11, 12, 15), floats(8, 9, 9, 12), floats(9, 10, 11, 14), 3)
    # True ranges 2, 2, 3, and 4 (the gap from 11 to the high of 15).
    np.testing.assert_allclose(atr, [np.nan, np.nan, 7 / 3, (7 / 3 * 2 + 4) / 3], rtol=1e-14)


def test_vwap_bands_by_hand_and_anchored_at_the_day() -> None:
    price, volume = floats(10, 13, 20, 20), floats(1, 2, 0, 5)
    vwap, sd = indicators.vwap_bands(price, price, price, volume, np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(vwap, [10, 12, np.nan, 20], rtol=1e-14)
    np.testing.assert_allclose(sd, [0, np.sqrt(2), np.nan, 0], rtol=1e-14)


def test_vwap_deviation_keeps_its_digits_far_from_zero() -> None:
    rng = np.random.default_rng(0)
    price, volume = rng.normal(0, 1e-3, 5000), rng.integers(1, 100, 5000).astype(np.float64)
    day = np.zeros(5000, dtype=np.int64)
    _, sd = indicators.vwap_bands(price + 1e6, price + 1e6, price + 1e6, volume, day)
    shifted = price + 1e6 - 1e6
    mean = np.average(shifted, weights=volume)
    assert sd[-1] == pytest.approx(np.sqrt(np.average((shifted - mean) ** 2, weights=volume)), rel=1e-5)


def test_slope_is_the_least_squares_slope_and_respects_the_start() -> None:
    values = np.random.default_rng(1).normal(0, 1, 40).cumsum()
    start = np.where(np.arange(40) < 20, 0, 20)
    result = indicators.slope(values, 8, start)
    for t in range(40):
        if t - 7 < start[t]:
            assert np.isnan(result[t])
        else:
            assert result[t] == pytest.approx(np.polyfit(np.arange(8), values[t - 7 : t + 1], 1)[0], abs=1e-12)


def test_trend_agrees_or_is_flat() -> None:
    up = np.arange(10, dtype=np.float64) * 0.125
    direction, strength = indicators.trend(up + 1, up, 5, 0.25)
    assert direction.tolist() == [0] * 4 + [1] * 6
    assert np.isnan(strength[:4]).all()
    np.testing.assert_allclose(strength[4:], 0.5)  # slopes 0.125 each, over 2 ticks = 0.5
    direction, strength = indicators.trend(up + 1, -up, 5, 0.25)
    assert not direction.any()
    assert (strength[4:] == 0).all()


def test_realized_volatility_by_hand() -> None:
    result = indicators.realized_volatility(floats(np.nan, 0.03, -0.04, 0.0), 2, 50.0)
    np.testing.assert_allclose(result, [np.nan, np.nan, np.sqrt(0.0025 / 2 * 50), np.sqrt(0.0016 / 2 * 50)])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 30), st.floats(0, 0.6))
def test_correlation_against_numpy(seed: int, bars: int, holes: float) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(0, 1e-3, (2, 80))
    y = 0.7 * x + 0.5 * y
    x[rng.random(80) < holes] = np.nan
    y[rng.random(80) < holes] = np.nan
    result = indicators.correlation(x, y, bars, 3)
    for t in range(80):
        window = slice(max(0, t - bars + 1), t + 1)
        both = ~np.isnan(x[window]) & ~np.isnan(y[window])
        if both.sum() < 3:
            assert np.isnan(result[t])
        else:
            assert result[t] == pytest.approx(np.corrcoef(x[window][both], y[window][both])[0, 1], abs=1e-9)


def test_correlation_of_a_constant_side_is_missing() -> None:
    x = np.random.default_rng(0).normal(0, 1e-3, 30)
    assert np.isnan(indicators.correlation(x, np.full(30, 1e-4), 20, 10)).all()
    assert np.isnan(indicators.correlation(x, np.zeros(30), 20, 10)).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 4))
def test_trailing_rank_against_counting(seed: int, days: int, min_days: int) -> None:
    rng = np.random.default_rng(seed)
    day = np.sort(rng.integers(0, 10, 120))
    day = np.unique(day, return_inverse=True)[1].astype(np.int64)
    values = rng.integers(0, 15, 120).astype(np.float64)
    values[:5] = np.nan
    result = indicators.trailing_rank(values, day, days, min_days)
    for t in range(120):
        earlier = values[:t][day[:t] >= day[t] - days]
        earlier = earlier[~np.isnan(earlier)]
        if np.isnan(values[t]) or day[t] - day[5] < min_days or not len(earlier):
            assert np.isnan(result[t])
        else:
            assert result[t] == np.mean(earlier <= values[t])


def test_overnight_gap_by_hand() -> None:
    day = np.array([0, 0, 1, 1, 1, 2, 4])
    regular = np.array([False, True, False, True, True, False, True])
    opened = floats(99, 100, 101, 102, 103, 104, 105)
    close = opened + 0.5
    gap = indicators.overnight_gap(opened, close, np.full(7, 10.0), day, regular)
    # Day 1 opens at 102 after a regular close of 100.5 (110.5 in the contract's own prices).
    np.testing.assert_allclose(gap, [np.nan, np.nan, np.nan, 150 / 110.5, 150 / 110.5, np.nan, np.nan])


def test_running_extremes_skip_what_does_not_count() -> None:
    use = np.array([False, True, True, False, False, True])
    top, bottom = indicators.running_extremes(floats(9, 2, 3, 9, 9, 1), floats(0, 1, 2, 0, 0, 1), np.array([0, 0, 0, 0, 1, 1]), use)
    np.testing.assert_array_equal(top, [np.nan, 2, 3, 3, np.nan, 1])
    np.testing.assert_array_equal(bottom, [np.nan, 1, 1, 1, np.nan, 1])
