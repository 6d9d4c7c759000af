"""The whole replay: honest about time, true to its contracts, the same bytes every time."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipelines.baseline.replay import replay
from pipelines.baseline.rules import FILTERS, confidence, confluence
from pipelines.contracts.outcome import Outcome, TradeSnapshot
from pipelines.contracts.signal import Signal
from pipelines.contracts.tables import OutcomeTable, SignalTable, join
from pipelines.features.twelve import FEATURES
from pipelines.market.table import Market
from pipelines.settings import load_settings
from tests.pipelines.baseline.markets import BEFORE, DAY_BARS, market_of, random_bars, random_market

BARS = 8 * DAY_BARS
COLLECT = load_settings(overrides=["replay.cooldown_bars=3"])
LIVE = load_settings(
    overrides=[
        *("replay.mode=live", "baseline.confluence_gate=0.30", "baseline.confidence_gate=0.20", "replay.patience_minutes=[5, 5, 5, 5]"),
        *("replay.daily_loss_soft=900", "replay.daily_loss_hard=1200"),
    ]
)


@pytest.fixture(scope="module")
def market() -> Market:
    return random_market(BARS, 7)


@pytest.fixture(scope="module")
def collected(market):
    return replay(market, COLLECT)


def head(market: Market, bars: int) -> Market:
    return Market(market.frame.iloc[:bars].reset_index(drop=True), market.clusters[:bars], market.bar_minutes, market.source)


def content(signals: SignalTable, outcomes: OutcomeTable) -> str:
    return join(signals, outcomes).content_hash()


def same_signals(left: SignalTable, right: SignalTable) -> None:
    pd.testing.assert_frame_equal(left.frame, right.frame, check_exact=True)
    np.testing.assert_array_equal(left.bars, right.bars)
    np.testing.assert_array_equal(left.clusters, right.clusters)


@pytest.mark.parametrize("settings", [COLLECT, LIVE], ids=["collect", "live"])
@pytest.mark.parametrize("cut", [DAY_BARS * 3 + 60, DAY_BARS * 5 + 97, DAY_BARS * 7 + 3])
def test_prefix_invariance(market, settings, cut):
    whole, part = replay(market, settings), replay(head(market, cut), settings)
    now = market.frame["end"].iloc[cut - 1]
    assert len(part.outcomes) > 5
    same_signals(whole.signals.take((whole.signals.frame["decision_time"] <= now).to_numpy()), part.signals)
    known = whole.outcomes.take((whole.outcomes.frame["exit_time"] <= now).to_numpy())
    pd.testing.assert_frame_equal(known.frame, part.outcomes.frame, check_exact=True)


@pytest.mark.parametrize("settings", [COLLECT, LIVE], ids=["collect", "live"])
def test_a_poisoned_future_changes_nothing_before_it(market, settings):
    cut = DAY_BARS * 4 + BEFORE + 30
    poisoned = market.frame.copy()
    later = np.arange(len(market)) >= cut
    for name in ("open", "high", "low", "close", "vwap", "poc", "vah", "val", "volume", "vix_level", "atr_14", "spread_ticks"):
        poisoned.loc[later, name] = poisoned.loc[later, name].to_numpy()[::-1] * 1.0
    whole, other = replay(market, settings), replay(Market(poisoned, market.clusters, 5, market.source), settings)
    now = market.frame["end"].iloc[cut - 1]
    before = [r.signals.take((r.signals.frame["decision_time"] <= now).to_numpy()) for r in (whole, other)]
    same_signals(*before)
    closed = [r.outcomes.frame.loc[r.outcomes.frame["exit_time"] <= now] for r in (whole, other)]
    pd.testing.assert_frame_equal(*closed, check_exact=True)
    assert len(closed[0]) > 5
    assert not whole.outcomes.frame.equals(other.outcomes.frame)  # the poison was real


def test_same_market_same_bytes(market, collected):
    again = replay(random_market(BARS, 7), COLLECT)
    assert content(again.signals, again.outcomes) == content(collected.signals, collected.outcomes)
    assert again.report == collected.report
    other = replay(random_market(BARS, 8), COLLECT)
    assert content(other.signals, other.outcomes) != content(collected.signals, collected.outcomes)


def test_every_row_is_a_valid_record_and_comes_back_the_same(collected):
    signals = [Signal.model_validate(record) for record in collected.signals.to_dicts()]
    outcomes = [Outcome.model_validate(record) for record in collected.outcomes.to_dicts()]
    assert len(signals) == collected.report.signals > 100
    by_id = {signal.trade_id: signal for signal in signals}
    for outcome in outcomes:
        TradeSnapshot(signal=by_id[outcome.trade_id], outcome=outcome)
    assert content(SignalTable.from_records(signals), OutcomeTable.from_records(outcomes)) == content(collected.signals, collected.outcomes)


def test_money_adds_up(market, collected):
    trades = join(collected.signals, collected.outcomes)
    plan, done = trades.signals.frame, trades.outcomes.frame
    side = np.where(plan["battle_navale.direction"] == "LONG", 1.0, -1.0)
    gross = side * (done["exit_price"] - done["entry_price"]) * 50.0
    assert np.allclose(done["gross_pnl"], gross)
    assert np.allclose(done["net_pnl"], gross - 2.5)
    assert np.allclose(done["realized_r"], done["net_pnl"] / plan["execution_context.max_risk_dollars"])
    assert np.allclose(plan["execution_context.max_risk_dollars"], plan["execution_context.stop_ticks"] * 12.5)
    assert (done["max_favorable_excursion"] >= done["pnl_ticks"]).all()
    assert (done["max_adverse_excursion"] >= -done["pnl_ticks"]).all()
    stopped = (done["exit_reason"] == "SL").to_numpy()
    at_stop = np.isclose(done["pnl_ticks"], -plan["execution_context.stop_ticks"] - 1)
    assert (at_stop | (done["pnl_ticks"] < -plan["execution_context.stop_ticks"]))[stopped].all()
    won = (done["exit_reason"] == "TP").to_numpy()
    assert (done["pnl_ticks"] == plan["execution_context.target_ticks"])[won].all()
    assert won.any()
    assert stopped.any()

    starts = market.frame.set_index("ts")["open"]
    assert np.allclose(done["entry_price"], starts.loc[done["entry_time"]].to_numpy() + side * 0.25)
    assert (done["entry_time"].to_numpy() == plan["decision_time"].to_numpy()).all()


def test_two_contracts_double_the_dollars_and_leave_r_alone(market, collected):
    double = replay(market, load_settings(overrides=["replay.cooldown_bars=3", "replay.size=2"])).outcomes.frame
    one = collected.outcomes.frame
    assert np.allclose(double["net_pnl"], 2 * one["net_pnl"])
    assert np.allclose(double["commission"], 5.0)
    assert np.allclose(double["realized_r"], one["realized_r"])
    assert (double["max_adverse_excursion"] == one["max_adverse_excursion"]).all()


def test_a_mirrored_market_swaps_longs_and_shorts_for_the_same_money(market, collected):
    frame = market.frame.copy()
    for name, source in (("open", "open"), ("high", "low"), ("low", "high"), ("close", "close")):
        frame[name] = 10000.0 - market.frame[source]
    frame[["bid_volume", "ask_volume"]] = market.frame[["ask_volume", "bid_volume"]].to_numpy()
    turned = replay(Market(frame, market.clusters, 5, market.source), COLLECT)
    swap = {"LONG": "SHORT", "SHORT": "LONG"}
    assert turned.signals.frame["battle_navale.direction"].map(swap).tolist() == collected.signals.frame["battle_navale.direction"].tolist()
    for name in ("net_pnl", "max_favorable_excursion", "max_adverse_excursion", "bars_to_mfe", "exit_reason", "one_r_first", "exit_time"):
        assert turned.outcomes.frame[name].tolist() == collected.outcomes.frame[name].tolist(), name
    assert 0 < collected.report.longs < collected.report.trades


def test_a_roll_shifts_the_window_and_not_the_result(market, collected):
    jumped = market.frame.copy()
    later = np.arange(BARS) >= 4 * DAY_BARS
    for name in ("open", "high", "low", "close"):
        jumped[name] += 62.5 * later
    jumped["offset"] = 62.5 * later
    rolled = replay(Market(jumped, market.clusters, 5, market.source), COLLECT)
    assert rolled.outcomes.frame["net_pnl"].tolist() == collected.outcomes.frame["net_pnl"].tolist()
    shift = np.where(rolled.signals.frame["decision_time"] >= market.frame["ts"].iloc[4 * DAY_BARS], 62.5, 0.0)
    assert (rolled.signals.bars[:, :, 1:5] - collected.signals.bars[:, :, 1:5] == shift[:, None, None]).all()


def test_each_candidate_is_a_trade_or_has_a_reason(market, collected):
    for result in (collected, replay(market, LIVE), replay(market, load_settings(overrides=["replay.mode=live"]))):
        report = result.report
        assert report.candidates == report.trades + sum(report.skipped.values())
        assert len(result.outcomes) == report.trades == sum(report.exits.values())
        assert report.to_dict()["mode"] == report.mode
    assert set(replay(market, LIVE).report.skipped) >= {"position_open", "confluence"}


def test_live_trades_one_at_a_time_behind_every_filter(market):
    result = replay(market, LIVE)
    trades = result.outcomes.frame
    assert len(trades) > 10
    assert (trades["entry_time"].to_numpy()[1:] >= trades["exit_time"].to_numpy()[:-1]).all()
    assert result.signals.frame["battle_navale.filters_failed"].isna().all()
    assert (result.signals.frame["market_state.spread_ticks"] <= 2).all()


def test_entries_and_exits_keep_to_the_clock(collected):
    trades = join(collected.signals, collected.outcomes)
    decided = trades.signals.frame["decision_time"].dt.tz_convert("America/New_York")
    closed = trades.outcomes.frame["exit_time"].dt.tz_convert("America/New_York")
    clock = decided.dt.strftime("%H:%M")
    assert (clock.min(), clock.max()) >= ("09:40", "15:40")
    assert clock.max() <= "15:45"
    assert closed.dt.strftime("%H:%M").max() == "15:55"
    assert (decided.dt.date.to_numpy() == closed.dt.date.to_numpy()).all()


def test_time_in_trade_ends_with_the_fill_and_the_label_with_the_bar(collected):
    closed = collected.outcomes.frame
    assert (closed["time_in_trade_minutes"] == 5.0 * closed["bars_in_trade"]).all()
    assert (closed["bars_to_mfe"] <= closed["bars_in_trade"]).all()
    held = (closed["exit_time"] - closed["entry_time"]).dt.total_seconds() / 60
    at_open = held - closed["time_in_trade_minutes"]
    assert set(at_open) == {0.0, 5.0}


def test_half_day_is_flat_before_its_own_close():
    opened, high, low, close, volume = random_bars(BARS, 7)
    result = replay(market_of(opened, high, low, close, volume, half_days=range(8)), COLLECT)
    closed = result.outcomes.frame["exit_time"].dt.tz_convert("America/New_York").dt.strftime("%H:%M")
    assert closed.max() == "12:55"
    assert result.report.exits["SESSION_CLOSE"] > 0


def test_nothing_is_a_placeholder(collected):
    frame = collected.signals.frame
    varied = ["bn_signal", "signal_strength", "confidence", "confluence_score", "pattern_quality", "trend_continuation", "base.quality"]
    varied += ["base.type", "base.high", "base.size_ticks", "base.duration_bars", "golden_rule_status", "pattern_type", "trend_regime"]
    varied += ["boules_state.colours", "boules_state.green_run", "boules_state.vikings_strength", "boules_state.battle_status", "direction"]
    varied += ["rouge_sous_verte_valid", "signal_type", "decision_reasoning", "filters_failed", "confluence_components"]
    for name in varied:
        assert frame[f"battle_navale.{name}"].nunique() > 1, name
    for name in ("market_state.order_flow.cumulative_delta", "execution_context.volatility_regime", "execution_context.stop_ticks"):
        assert frame[name].nunique() > 1, name


def test_cumulative_delta_starts_anew_each_day(market, collected):
    delta = (market.frame["ask_volume"] - market.frame["bid_volume"]).to_numpy()
    row = collected.signals.frame.iloc[40]
    at = int(np.flatnonzero(market.frame["end"] == row["decision_time"])[0])
    start = at // DAY_BARS * DAY_BARS
    assert row["market_state.order_flow.cumulative_delta"] == delta[start : at + 1].sum()


def test_stop_follows_the_scale(market):
    ticks = replay(market, load_settings(overrides=["baseline.scale=ticks"])).signals.frame
    assert set(ticks["execution_context.stop_ticks"]) == {8.0}
    assert set(ticks["execution_context.target_ticks"]) == {16.0}
    atr = replay(market, COLLECT).signals.frame
    assert (atr["execution_context.stop_ticks"] == np.maximum(np.rint(1.5 * atr["market_state.atr_14"] / 0.25), 1)).all()


def test_without_order_flow_options_vix_and_nq_there_are_still_trades():
    opened, high, low, close, volume = random_bars(BARS, 9)
    result = replay(market_of(opened, high, low, close, volume), COLLECT)
    assert result.report.trades > 50
    assert (result.report.with_options, result.report.with_vix, result.report.with_nq) == (0, 0, 0)
    assert result.signals.frame["market_state.order_flow.net_delta"].isna().all()
    assert not result.signals.frame["battle_navale.filters_passed"].str.contains("spread").any()
    for record in result.signals.to_dicts():
        Signal.model_validate(record)


def test_a_market_that_is_too_short_gives_an_empty_and_valid_result():
    opened, high, low, close, volume = random_bars(30, 9)
    result = replay(market_of(opened, high, low, close, volume), COLLECT)
    assert (len(result.signals), len(result.outcomes), result.report.win_rate) == (0, 0, None)


def test_progress_names_the_steps(market):
    steps: list[str] = []
    replay(head(market, 300), COLLECT, progress=steps.append)
    assert steps == ["scoring the bars", "writing down the signals", "walking the trades", "checking the tables"]


def test_confluence_by_hand():
    row = np.full((3, 12), np.nan)
    given = {"gamma_levels_proximity": 0.5, "volume_confirmation": 1.0, "vwap_trend_signal": 0.2, "sierra_pattern_strength": 0.4}
    given |= {"dow_trend_regime": 1.0, "options_flow_bias": -1.0, "level_proximity": 0.5, "es_nq_correlation": 1.0}
    for name, value in given.items():
        row[0, FEATURES.index(name)] = value
    row[1, FEATURES.index("gamma_levels_proximity")] = 0.5
    row[1, FEATURES.index("es_nq_correlation")] = 0.0
    total, parts = confluence(row, COLLECT.baseline.confluence_weights)
    by_hand = 0.231 * 0.5 + 0.165 + 0.133 * 0.2 + 0.133 * 0.4 + 0.114 + 0.108 * 0.0 + 0.058 * 0.5 + 0.058
    # What is missing has no vote: two features at the middle of their range give the middle, none gives 0.
    assert total == pytest.approx([by_hand, 0.5, 0.0])
    np.testing.assert_array_equal(parts["options_flow_bias"], [0.0, np.nan, np.nan])


def test_confidence_reaches_its_gate():
    s = np.array([0.25, -0.5, 0.75, -0.845])
    assert confidence(s, np.array([0.5, 0.5, 1.0, 1.0]), 0.25) == pytest.approx([0.2, 0.5, 1.0, 1.0])


def test_filters_say_why(market):
    strict = load_settings(overrides=["baseline.require_base=true", "baseline.max_spread_ticks=1"])
    frame = replay(market, strict).signals.frame
    failed = frame["battle_navale.filters_failed"].fillna("[]")
    wide = frame["market_state.spread_ticks"] > 1
    assert (failed.str.contains('"spread"') == wide).all()
    weak = ~(frame["battle_navale.base.quality"] >= 0.6)
    assert (failed.str.contains('"base"') == weak).all()
    assert (failed.str.contains('"confidence"') == (frame["battle_navale.confidence"] < 0.75)).all()
    side = np.where(frame["battle_navale.direction"] == "LONG", 1, -1)
    against = (frame["battle_navale.golden_rule_status"] == "violation_confirmed") & (
        np.sign(frame["battle_navale.trend_continuation"]) == -side
    )
    assert (failed.str.contains('"golden_rule"') == against).all()
    passed = frame["battle_navale.filters_passed"].str.count('"') / 2 + failed.str.count('"') / 2
    assert (passed == len(FILTERS)).all()
