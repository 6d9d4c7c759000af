from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.baseline.replay import replay
from pipelines.errors import InputError
from pipelines.market.calendar import sessions_between, unix_seconds
from pipelines.market.frame import build_market
from pipelines.market.inputs import MarketInputs
from pipelines.market.source import read_folder, write_inputs
from pipelines.market.synthetic import DRIVER_CLIP, call_share, driver, put_call_ratio, regimes, synthesise, win_probability
from pipelines.market.table import Market
from pipelines.settings import Settings
from tests.pipelines.market.samples import settings_with


def market_settings(edge: float, sessions: int = 250) -> Settings:
    return settings_with(f"synthetic.sessions={sessions}", f"synthetic.edge={edge}")


@cache
def made(edge: float, seed: int) -> tuple[MarketInputs, Market]:
    settings = market_settings(edge)
    inputs = synthesise(settings, seed)
    return inputs, build_market(inputs, settings).validate()


def digest(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_same_seed_same_bytes_another_seed_others(tmp_path: Path) -> None:
    settings = market_settings(0.06, 5)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_inputs(synthesise(settings, seed), tmp_path / name)
    first, again, other = (digest(tmp_path / name) for name in "abc")
    assert first == again
    assert len(first) == 5
    for name in first:
        assert (first[name] == other[name]) == (name == "market.json"), name


def test_the_bars_are_valid_and_of_the_real_calendar(tmp_path: Path) -> None:
    inputs, market = made(0.06, 1)
    write_inputs(inputs, tmp_path)
    assert read_folder(tmp_path, market_settings(0.06)).notes == ()  # nothing quarantined, sorted or dropped
    frame = market.frame
    days = pd.DatetimeIndex(frame["session"].unique())
    table = sessions_between(2023, 2024)
    begin = int(np.searchsorted(table.day, np.datetime64("2023-01-03")))
    np.testing.assert_array_equal(days.to_numpy(), table.day[begin : begin + 250])
    lengths = frame.groupby("session").size()
    assert set(lengths) == {276, 231}  # 23 hours; 18:00 to 13:15 on half days
    assert pd.Timestamp("2023-11-24") in lengths.index[lengths == 231]
    assert frame.groupby("session")["is_regular"].sum().loc["2023-07-03"] == 42


def test_a_bar_opens_a_tick_or_two_beside_the_close_before_without_leaning() -> None:
    inputs, _ = made(0.0, 1)
    for bars in (inputs.bars, inputs.nq):
        steps = (bars["open"].to_numpy()[1:] - bars["close"].to_numpy()[:-1]) / 0.25
        move = np.diff(bars["close"].to_numpy())
        values, counts = np.unique(steps, return_counts=True)
        assert values.tolist() == [-2.0, -1.0, 0.0, 1.0, 2.0]
        assert (counts / len(steps)).round(2).tolist() == pytest.approx([0.01, 0.22, 0.54, 0.22, 0.01], abs=0.011)
        limit = 4.0 / np.sqrt(len(steps))
        assert abs(steps.mean()) < limit
        assert abs(np.corrcoef(steps, move)[0, 1]) < limit  # the close of the bar does not know of it
        assert abs(np.corrcoef(steps[1:], move[:-1])[0, 1]) < limit
        assert abs(np.corrcoef(steps[1:], steps[:-1])[0, 1]) < limit


def test_sierra_patterns_occur_in_both_directions() -> None:
    _, market = made(0.0, 1)
    signals = replay(market, market_settings(0.0)).signals.frame
    share = (signals["battle_navale.pattern_quality"] > 0.0).mean()
    assert 0.01 < share < 0.10
    assert set(signals["battle_navale.pattern_type"]) == {"none", "long_down_up_bar", "long_up_down_bar", "color_down_setting"}


def test_one_minute_bars() -> None:
    settings = settings_with("synthetic.sessions=3", "synthetic.bar_minutes=1")
    market = build_market(synthesise(settings, 1), settings).validate()
    assert len(market) == 3 * 1380


def test_volume_is_u_shaped_and_low_at_night() -> None:
    _, market = made(0.0, 1)
    frame = market.frame
    mean = frame[frame["is_regular"]].groupby("phase")["volume"].mean()
    assert mean["open"] > 1.3 * mean["midday"]
    assert mean["close"] > 1.3 * mean["midday"]
    night = frame[frame["phase"] == "overnight"]
    assert night["volume"].mean() < 0.2 * mean["midday"]
    spread = (frame["high"] - frame["low"]).groupby(frame["is_regular"]).mean()
    assert spread[True] > 1.8 * spread[False]


def test_aggressor_volumes_add_up_and_lean_with_the_bar() -> None:
    inputs, _ = made(0.0, 1)
    bars = inputs.bars
    assert (bars["bid_volume"] + bars["ask_volume"] == bars["volume"]).all()
    leaning = np.corrcoef((bars["ask_volume"] - bars["bid_volume"]) / bars["volume"], np.sign(bars["close"] - bars["open"]))[0, 1]
    assert 0.2 < leaning < 0.9
    assert set(bars["spread_ticks"]) == {1.0, 2.0, 3.0}
    assert (bars["spread_ticks"] == 1.0).mean() > 0.9


def test_aggressor_volumes_say_nothing_of_the_next_bar() -> None:
    inputs, _ = made(0.0, 1)
    bars = inputs.bars
    delta = ((bars["ask_volume"] - bars["bid_volume"]) / bars["volume"]).to_numpy()[:-1]
    move = np.diff(bars["close"].to_numpy())
    assert abs(np.corrcoef(delta, np.sign(move))[0, 1]) < 4 / np.sqrt(len(move))


def test_nq_is_correlated_as_asked() -> None:
    _, market = made(0.0, 1)
    regular = market.frame["is_regular"]
    assert market.frame.loc[regular, "es_nq_correlation"].mean() == pytest.approx(0.85, abs=0.02)


def test_the_vix_is_published_after_the_close_and_moves_the_next_day() -> None:
    inputs, market = made(0.0, 1)
    local = inputs.vix["known_at"].dt.tz_convert("America/New_York")
    assert set(local.dt.strftime("%H:%M")) == {"16:15"}
    frame = market.frame
    assert frame["vix_level"].notna().all()
    day = frame[frame["is_regular"]].groupby("session").agg(vix=("vix_level", "first"), atr=("atr_14", "mean"), price=("close", "mean"))
    assert np.corrcoef(day["vix"], day["atr"] / day["price"])[0, 1] > 0.5


def test_option_levels_stand_on_the_grid_around_the_price_and_are_known_at_the_bars_start() -> None:
    inputs, _ = made(0.06, 1)
    options, bars = inputs.options, inputs.bars
    pd.testing.assert_series_equal(options["asof"], bars["ts"], check_names=False)
    assert (options["call_wall"] > options["spot"]).all()
    assert (options["put_wall"] < options["spot"]).all()
    assert (options[["call_wall", "put_wall", "gamma_flip"]] % 25.0 == 0).all(axis=None)
    np.testing.assert_array_equal(options["spot"].iloc[1:], bars["close"].iloc[:-1])
    np.testing.assert_allclose(options["put_call_ratio"], options["put_oi"] / options["call_oi"], rtol=1e-5)


def flow_bias(ratio: np.ndarray, share: np.ndarray, *, bridge: bool) -> np.ndarray:
    """DOMAIN B.8, with its jumps or with straight lines instead."""
    between = 0.7 - 0.8 * (ratio - 0.75) if bridge else np.full_like(ratio, 0.5)
    low, high = 0.7 + 0.6 * (0.75 - ratio), 0.3 - np.minimum(0.4 * (ratio - 1.25), 0.3)
    by_ratio = np.where(ratio < 0.75, low, np.where(ratio > 1.25, high, between))
    return 2.0 * np.clip(0.6 * by_ratio + 0.4 * share, 0.0, 1.0) - 1.0


@pytest.mark.parametrize("bridge", [True, False])
def test_the_option_flow_publishes_the_driver_monotonically_and_symmetrically(bridge: bool) -> None:
    x = np.linspace(-DRIVER_CLIP, DRIVER_CLIP, 1000)  # an even number: neither the bends nor 0 are hit
    bias = flow_bias(put_call_ratio(x), call_share(x), bridge=bridge)
    assert (np.diff(bias) > 0).all()
    np.testing.assert_allclose(bias, -bias[::-1], atol=1e-12)
    assert flow_bias(put_call_ratio(np.zeros(1)), call_share(np.zeros(1)), bridge=bridge)[0] == pytest.approx(0.0)


def test_each_row_carries_the_flow_of_its_day() -> None:
    _, market = made(0.06, 1)
    x = market.frame["session"].map(driver(market_settings(0.06), 1)).to_numpy()
    known = market.frame["put_call_ratio"].notna().to_numpy()
    np.testing.assert_array_equal(market.column("put_call_ratio")[known], put_call_ratio(x)[known])
    assert known.all()


def test_regimes_follow_the_driver() -> None:
    assert regimes(np.array([-1.0, -0.5, 0.0, 0.5, 0.6])).tolist() == ["trend_down", "range", "range", "range", "trend_up"]


def daily(market: Market, edge: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Each day's move from its first open to its last close, in its own deviation, and its driver."""
    frame = market.frame
    day = frame.groupby("session").agg(first=("open", "first"), last=("close", "last"))
    scale = (frame["close"] - frame["open"]).groupby(frame["session"]).apply(lambda move: np.sqrt((move**2).sum()))
    move = (day["last"] - day["first"]) / scale
    return move.to_numpy(), driver(market_settings(edge), seed).to_numpy()


def test_without_edge_the_driver_says_nothing_of_the_price() -> None:
    pairs = [daily(made(0.0, seed)[1], 0.0, seed) for seed in range(1, 7)]
    moves, x = np.concatenate([move for move, _ in pairs]), np.concatenate([x for _, x in pairs])
    limit = 3.5 / np.sqrt(len(x))
    assert abs(moves.mean()) < limit
    assert abs(np.corrcoef(moves, x)[0, 1]) < limit
    assert moves.std() == pytest.approx(1.0, abs=0.06)


def test_with_an_edge_the_driver_is_the_drift() -> None:
    moves, x = daily(made(0.06, 1)[1], 0.06, 1)
    frame = made(0.06, 1)[1].frame
    bar_sd = (frame["close"] - frame["open"]).groupby(frame["bar_in_session"]).std()
    expected = 0.06 * bar_sd.sum() / np.sqrt((bar_sd**2).sum())  # drifts add up, variances add up
    assert np.polyfit(x, moves, 1)[0] == pytest.approx(expected, abs=4 / np.sqrt(len(x)))
    assert expected > 0.7


def test_the_edge_changes_prices_only() -> None:
    null, _ = made(0.0, 1)
    planted, _ = made(0.06, 1)
    pd.testing.assert_frame_equal(null.vix, planted.vix)
    np.testing.assert_array_equal(null.options["put_call_ratio"], planted.options["put_call_ratio"])
    assert not np.array_equal(null.bars["close"], planted.bars["close"])


def test_trades_win_as_often_as_the_formula_says() -> None:
    """Enter long at the first bar of the night, whose deviation stays the same for 120 bars."""
    edge, wins, expected = 0.1, [], []
    for seed in (1, 2, 3):
        inputs, market = made(edge, seed)
        bars, x = inputs.bars, driver(market_settings(edge), seed).to_numpy()
        first = np.flatnonzero(market.column("bar_in_session") == 0)
        night = np.arange(120)
        move = bars["close"].to_numpy()[first[:, None] + night] - bars["open"].to_numpy()[first[:, None] + night]
        sd = move.std(axis=1)
        for day, start in enumerate(first):
            entry = bars["open"].iloc[start]
            stop, target = 2.5 * sd[day], 5.0 * sd[day]
            low, high = bars["low"].to_numpy()[start + night], bars["high"].to_numpy()[start + night]
            lost, won = np.argmax(low <= entry - stop), np.argmax(high >= entry + target)
            was_lost, was_won = low[lost] <= entry - stop, high[won] >= entry + target
            if was_lost or was_won:
                wins.append(bool(was_won and (not was_lost or won < lost)))
                expected.append(float(win_probability(x[day], edge, 2.5, 5.0)))
    won, chance = np.array(wins), np.array(expected)
    error = 3.5 * np.sqrt((chance * (1 - chance)).mean() / len(won))
    assert len(won) > 700
    assert won.mean() == pytest.approx(chance.mean(), abs=error + 0.02)  # 0.02: ticks and coarse bars
    assert won[chance > 0.5].mean() - won[chance < 0.25].mean() == pytest.approx(
        chance[chance > 0.5].mean() - chance[chance < 0.25].mean(), abs=0.12
    )


def test_prices_that_leave_the_band_are_refused() -> None:
    with pytest.raises(InputError, match=r"the synthetic prices run from .* expected 4799 to 10000 .*remedy: take another seed"):
        synthesise(settings_with("synthetic.sessions=5", "instrument.price_min=4799.0"), 1)


def test_the_driver_is_known_by_day() -> None:
    x = driver(market_settings(0.06), 1)
    assert x.abs().max() <= DRIVER_CLIP
    assert x.index.is_monotonic_increasing
    assert abs(x.mean()) < 0.25
    assert 0.8 < x.std() < 1.2
    assert unix_seconds(x.index.tz_localize("UTC")).dtype == np.int64
