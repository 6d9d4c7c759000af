from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.market.calendar import unix_seconds
from pipelines.market.frame import build_market, contract_number, roll_offset
from pipelines.market.inputs import MarketInputs
from pipelines.market.table import Market
from tests.pipelines.market.samples import ROLL_GAP, bars_at, inputs_of, new_york_range, rolling_inputs, settings_with

SETTINGS = settings_with("synthetic.sessions=16", "market.atr_rank_sessions=6", "market.atr_rank_min_sessions=3")


@cache
def whole() -> tuple[MarketInputs, Market]:
    inputs = rolling_inputs(SETTINGS, 5)
    return inputs, build_market(inputs, SETTINGS)


def until(inputs: MarketInputs, t: int) -> MarketInputs:
    """What was known when bar t closed."""
    start = inputs.bars["ts"].iloc[t]
    end = start + pd.Timedelta(minutes=inputs.bar_minutes)
    return dataclasses.replace(
        inputs,
        bars=inputs.bars.iloc[: t + 1],
        nq=inputs.nq[inputs.nq["ts"] <= start].reset_index(drop=True),
        vix=inputs.vix[inputs.vix["known_at"] <= end],
        options=inputs.options[inputs.options["asof"] <= end].reset_index(drop=True),
    )


def poisoned(inputs: MarketInputs, t: int) -> MarketInputs:
    """The same past, another future: wild bars, another roll, another VIX, other options."""
    start = inputs.bars["ts"].iloc[t]
    end = start + pd.Timedelta(minutes=inputs.bar_minutes)
    bars = inputs.bars.copy()
    later = np.arange(len(bars)) > t
    for name in ("open", "high", "low", "close"):
        bars[name] = np.where(later, 4000.0 - bars[name] / 2.0, bars[name])
    bars["high"], bars["low"] = bars["high"] + np.where(later, 300.0, 0.0), bars["low"] - np.where(later, 300.0, 0.0)
    bars["volume"] = np.where(later, 1e9, bars["volume"])
    # A later roll moves the back-adjustment of all earlier bars.
    bars["adj"] = bars["adj"] + np.where(later, 0.0, 77.5)
    nq = inputs.nq.copy()
    nq.loc[nq["ts"] > start, ["open", "high", "low", "close"]] *= 1.7
    vix, options = inputs.vix.copy(), inputs.options.copy()
    vix.loc[vix["known_at"] > end, "close"] = 99.0
    levels = [name for name in options if name != "asof"]
    options.loc[options["asof"] > end, levels] = 1.0
    return dataclasses.replace(inputs, bars=bars, nq=nq, vix=vix, options=options)


def assert_same_rows(found: Market, expected: Market, rows: int) -> None:
    left, right = found.frame.iloc[:rows], expected.frame.iloc[:rows]
    for name in left:
        if left[name].dtype == np.float64:
            np.testing.assert_array_equal(left[name].to_numpy(), right[name].to_numpy(), err_msg=name)
        else:
            pd.testing.assert_series_equal(left[name], right[name], check_freq=False)
    np.testing.assert_array_equal(found.clusters[:rows], expected.clusters[:rows])


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_the_past_does_not_depend_on_the_future(data: st.DataObject) -> None:
    inputs, market = whole()
    roll = int(np.flatnonzero(inputs.bars["roll"])[0])
    t = data.draw(st.one_of(st.integers(1, len(market) - 2), st.integers(roll - 3, roll + 3)), label="t")
    assert_same_rows(build_market(until(inputs, t), SETTINGS), market, t + 1)
    assert_same_rows(build_market(poisoned(inputs, t), SETTINGS), market, t + 1)


def test_poison_reaches_later_rows() -> None:
    inputs, market = whole()
    t = len(market) // 2
    other = build_market(poisoned(inputs, t), SETTINGS)
    for name in ("atr_14", "vwap", "poc", "es_nq_correlation", "vix_level", "call_wall", "prev_session_high", "session_volume", "offset"):
        assert not np.array_equal(market.column(name)[t + 1 :], other.column(name)[t + 1 :], equal_nan=True), name


def test_the_table_holds_its_schema_and_every_column_is_filled() -> None:
    _, market = whole()
    market.validate()
    assert (market.source, market.bar_minutes) == ("simulated", 5)
    late = market.frame[market.frame["is_regular"] & (market.frame["session"] == market.frame["session"].max())]
    missing = late.isna().mean()
    assert missing[missing > 0].index.tolist() in ([], ["nq_close"])  # bars of NQ were taken out


def test_a_roll_shifts_levels_and_nothing_else() -> None:
    """The rolled market is the unrolled one plus the gap: levels of before the roll follow the contract."""
    inputs, market = whole()
    flat = inputs.bars.drop(columns=["adj", "roll"])
    offset = roll_offset(inputs.bars)
    assert set(offset) == {0.0, ROLL_GAP}
    for name in ("open", "high", "low", "close"):
        flat[name] -= offset
    unrolled = build_market(dataclasses.replace(inputs, bars=flat), SETTINGS)
    for name in ("atr_14", "atr_rank", "trend_strength", "vwap_slope", "session_volume", "trend_direction"):
        np.testing.assert_array_equal(market.column(name), unrolled.column(name), err_msg=name)
    shifted = ["prev_session_high", "overnight_low", "vwap", "vwap_sd1_up", "poc", "pval", "session_low"]
    for name in shifted:
        np.testing.assert_array_equal(market.column(name), unrolled.column(name) + offset, err_msg=name)
    np.testing.assert_array_equal(market.clusters, unrolled.clusters + offset[:, None])


def test_the_return_over_a_roll_is_not_correlated() -> None:
    inputs, _ = whole()
    numbers = contract_number(inputs.bars)
    roll = int(np.flatnonzero(inputs.bars["roll"])[0])
    assert numbers[roll] - numbers[roll - 1] == 1
    assert numbers[-1] == 1
    assert contract_number(inputs.bars.drop(columns="roll")).tolist() == numbers.tolist()
    named = inputs.bars.drop(columns=["roll", "adj"]).assign(contract=np.where(numbers == 0, "ESH4", "ESM4"))
    assert contract_number(named).tolist() == numbers.tolist()


def test_correlation_uses_returns_of_one_bar_on_common_times() -> None:
    ts = new_york_range("2024-01-09 18:00", "2024-01-10 02:00")
    bars, nq = bars_at(ts, 1), bars_at(ts, 2, level=17000.0)
    nq["close"] = 17000.0 + 3 * (bars["close"] - 5000.0) + np.rint(np.random.default_rng(3).normal(0, 20, len(ts))) / 4
    keep = np.arange(len(ts)) != 70
    nq = nq[keep].reset_index(drop=True)
    market = build_market(inputs_of(bars, nq=nq), SETTINGS)
    found = market.column("es_nq_correlation")
    returns = np.log(bars["close"]).diff().to_numpy()
    others = np.log(bars["ts"].map(nq.set_index("ts")["close"])).diff().to_numpy()  # no return into or out of the hole
    for t in (9, 10, 49, 50, 71, 90):
        window = slice(max(0, t - 49), t + 1)
        pair = ~np.isnan(returns[window]) & ~np.isnan(others[window])
        expected = np.corrcoef(returns[window][pair], others[window][pair])[0, 1] if pair.sum() >= 10 else np.nan
        assert found[t] == pytest.approx(expected, abs=1e-9, nan_ok=True), t
    assert np.isnan(found[9])  # nine returns
    assert not np.isnan(found[10])
    assert np.isnan(market.column("nq_close")[70])


def test_returns_over_a_pause_are_left_out() -> None:
    ts = new_york_range("2024-01-09 16:00", "2024-01-09 17:00").append(new_york_range("2024-01-09 18:00", "2024-01-09 19:00"))
    bars, nq = bars_at(ts, 1), bars_at(ts, 2)
    jump = np.where(np.arange(24) >= 12, 400.0, 0.0)
    for frame in (bars, nq):
        for name in ("open", "high", "low", "close"):
            frame[name] += jump
    assert abs(build_market(inputs_of(bars, nq=nq), SETTINGS).column("es_nq_correlation")[-1]) < 0.7


def test_previous_day_and_overnight_levels_by_hand() -> None:
    ts = new_york_range("2024-01-09 15:50", "2024-01-09 17:00").append(new_york_range("2024-01-10 09:20", "2024-01-10 09:45"))
    bars = bars_at(ts, 4)
    row = build_market(inputs_of(bars), SETTINGS).frame
    first, today = bars.iloc[:14], bars.iloc[14:]
    assert row["prev_session_high"].iloc[:14].isna().all()
    assert (row["prev_session_high"].iloc[14:] == first["high"].max()).all()
    assert (row["prev_session_low"].iloc[14:] == first["low"].min()).all()
    assert row["overnight_high"].iloc[14] == today["high"].iloc[0]
    assert (row["overnight_high"].iloc[15:] == today["high"].iloc[:2].max()).all()
    assert row["session_low"].iloc[-1] == today["low"].min()
    assert row["session_volume"].iloc[-1] == today["volume"].sum()
    gap = 100 * (today["open"].iloc[2] / first["close"].iloc[1] - 1)  # regular close at 16:00, open at 09:30
    assert row["overnight_gap_percent"].iloc[14:16].isna().all()
    np.testing.assert_allclose(row["overnight_gap_percent"].iloc[16:], gap)


def test_what_is_not_given_is_missing() -> None:
    bars = bars_at(new_york_range("2024-07-02 18:00", "2024-07-03 13:00"), 6)
    frame = build_market(inputs_of(bars), SETTINGS).validate().frame
    for name in ("nq_close", "es_nq_correlation", "vix_level", "call_wall", "put_call_ratio", "bid_volume", "spread_ticks", "ppoc"):
        assert frame[name].isna().all(), name
    assert frame["options_asof"].isna().all()
    assert (frame["offset"] == 0.0).all()
    assert frame["half_day"].all()


def test_levels_are_ordered() -> None:
    _, market = whole()
    frame = market.frame.dropna(subset=["vwap", "poc", "ppoc"])
    for low, middle, high in (("val", "poc", "vah"), ("pval", "ppoc", "pvah"), ("vwap_sd1_down", "vwap", "vwap_sd1_up")):
        assert ((frame[low] <= frame[middle]) & (frame[middle] <= frame[high])).all()
    assert (frame["session_low"] <= frame["low"]).all()
    assert (frame["session_high"] >= frame["high"]).all()
    assert frame["atr_rank"].dropna().between(0, 1).all()


def test_option_levels_are_never_from_later() -> None:
    _, market = whole()
    age = unix_seconds(market.frame["end"]) - unix_seconds(market.frame["options_asof"])
    assert set(age) == {0, 300}  # levels are published as each bar starts: with the close before it, or one bar ago
    assert market.frame["call_wall"].notna().all()
