from __future__ import annotations

import copy
import datetime as dt
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.contracts.outcome import Outcome
from pipelines.contracts.signal import Signal
from pipelines.contracts.tables import SignalTable
from pipelines.features.inputs import SCALARS
from pipelines.features.twelve import BLOCK_ROWS, FEATURES, SIGNED_FEATURES, compute, compute_one
from pipelines.settings import Features, load_settings
from tests.factories import make_trades, signal_dict

SETTINGS = load_settings().features
TICKS = load_settings(overrides=["features.scale=ticks"]).features


def features_of(record: dict[str, Any], settings: Features = SETTINGS) -> dict[str, float]:
    return dict(zip(FEATURES, compute_one(Signal.model_validate(record), settings).tolist(), strict=True))


@pytest.fixture
def record() -> dict[str, Any]:
    return signal_dict(np.random.default_rng(1), 1)


def with_values(record: dict[str, Any], part: str, **values: Any) -> dict[str, Any]:
    changed = copy.deepcopy(record)
    changed[part].update(values)
    return changed


def with_bars(record: dict[str, Any], **columns: Any) -> dict[str, Any]:
    """Replace bar columns and keep the record consistent."""
    changed = copy.deepcopy(record)
    changed["bars"].update(columns)
    bars = changed["bars"]
    close = bars["close"][-1]
    changed["market_state"].update(open=bars["open"][-1], high=bars["high"][-1], low=bars["low"][-1], close=close)
    side = 1 if changed["battle_navale"]["direction"] == "LONG" else -1
    changed["execution_context"].update(stop_loss_price=close - side * 5, take_profit_price=close + side * 10)
    return changed


def flat_bars(price: float = 5000.0) -> dict[str, list[float]]:
    return {"open": [price] * 32, "high": [price + 1] * 32, "low": [price - 1] * 32, "close": [price] * 32}


def test_twelve_features_in_the_domains_order() -> None:
    assert len(FEATURES) == 12
    assert FEATURES[0] == "vwap_trend_signal"
    assert FEATURES[-1] == "recent_momentum"


def test_one_row_and_batch_agree() -> None:
    signals = make_trades(200, seed=3).signals
    batch = compute(signals, SETTINGS)
    rows = np.array([compute_one(Signal.model_validate(record), SETTINGS) for record in signals.to_dicts()])
    np.testing.assert_allclose(rows, batch, rtol=0, atol=1e-12, equal_nan=True)


def test_rows_do_not_depend_on_the_block_they_fall_into() -> None:
    signals = make_trades(50, seed=4).signals
    repeated = signals.take(np.arange(BLOCK_ROWS + 77) % 50)
    once = compute(signals, SETTINGS)
    np.testing.assert_allclose(compute(repeated, SETTINGS), once[np.arange(BLOCK_ROWS + 77) % 50], rtol=0, atol=1e-12, equal_nan=True)


@given(st.integers(0, 10_000), st.lists(st.sampled_from(SCALARS), max_size=12), st.booleans())
def test_parity_ranges_and_missing_inputs(seed: int, removed: list[str], stale: bool) -> None:
    record = signal_dict(np.random.default_rng(seed), seed)
    for path in removed:
        *parents, leaf = path.split(".")
        node = record
        for parent in parents:
            node = node.get(parent, {})
        if path not in ("market_state.close", "battle_navale.bn_signal"):
            node.pop(leaf, None)
    if stale:
        record["market_structure"]["options_asof"] = (
            dt.datetime.fromisoformat(record["decision_time"]) - dt.timedelta(hours=1)
        ).isoformat()
    signal = Signal.model_validate(record)
    one = compute_one(signal, SETTINGS)
    batch = compute(SignalTable.from_records([signal, signal]), SETTINGS)
    np.testing.assert_allclose(batch, np.array([one, one]), rtol=0, atol=1e-12, equal_nan=True)
    for name, value in zip(FEATURES, one, strict=True):
        if not math.isnan(value):
            assert (-1.0 if name in SIGNED_FEATURES else 0.0) <= value <= 1.0, name
    if stale:
        assert math.isnan(one[FEATURES.index("gamma_levels_proximity")])
        assert math.isnan(one[FEATURES.index("options_flow_bias")])


def test_no_field_of_an_outcome_can_be_read() -> None:
    assert not {path.split(".")[-1] for path in SCALARS} & set(Outcome.model_fields)


def test_direction_features_turn_with_the_side(record: dict[str, Any]) -> None:
    base = with_bars(record, **flat_bars())
    base["market_state"].update(vwap=4999.0, vwap_sd1_up=5003.0, vwap_sd1_down=4995.0, vwap_slope=0.9, atr_14=4.0)
    long = with_values(base, "battle_navale", direction="LONG", signal_type="LONG_TREND")
    long["execution_context"].update(stop_loss_price=4995, take_profit_price=5010)
    short = with_values(base, "battle_navale", direction="SHORT", signal_type="SHORT_TREND")
    short["execution_context"].update(stop_loss_price=5005, take_profit_price=4990)
    a, b = features_of(long), features_of(short)
    assert a["vwap_trend_signal"] == pytest.approx(1 - b["vwap_trend_signal"])
    assert a["options_flow_bias"] == pytest.approx(-b["options_flow_bias"])
    assert a["recent_momentum"] == pytest.approx(-b["recent_momentum"])
    same = set(FEATURES) - {"vwap_trend_signal", "options_flow_bias", "recent_momentum"}
    assert {name: a[name] for name in same} == pytest.approx({name: b[name] for name in same})


def test_vwap_trend_signal_by_hand(record: dict[str, Any]) -> None:
    """Slope 0.6 points = 2.4 ticks: .30; close a quarter of the way to the band: .125 + .125/4; flat bars: .125 and .1."""
    changed = with_values(with_bars(record, **flat_bars()), "battle_navale", direction="LONG", signal_type="LONG_TREND")
    changed["execution_context"].update(stop_loss_price=4995, take_profit_price=5010)
    changed["market_state"].update(vwap=4999.0, vwap_sd1_up=5003.0, vwap_sd1_down=4995.0, vwap_slope=0.6)
    assert features_of(changed, TICKS)["vwap_trend_signal"] == pytest.approx(0.30 + 0.125 + 0.125 / 4 + 0.125 + 0.1)


@pytest.mark.parametrize("gone", ["vwap", "vwap_slope", "vwap_sd1_up"])
def test_half_a_vwap_is_no_vwap(record: dict[str, Any], gone: str) -> None:
    """The close lies above the VWAP: the upper band is needed, the lower one is not."""
    state = record["market_state"]
    whole = {"vwap": state["close"] - 1, "vwap_sd1_up": state["close"] + 3, "vwap_sd1_down": state["close"] - 5, "vwap_slope": 0.6}
    assert math.isnan(features_of(with_values(record, "market_state", **whole | {gone: None}))["vwap_trend_signal"])
    assert not math.isnan(features_of(with_values(record, "market_state", **whole | {"vwap_sd1_down": None}))["vwap_trend_signal"])


def test_dow_regime_of_a_steady_rise(record: dict[str, Any]) -> None:
    """Highs and lows rise 0.25 points, one tick, a bar: w = (1 + 1) / 2 = 1; in ATR (4 points, unit 0.5): 0.5."""
    prices = [5000 + 0.25 * k for k in range(32)]
    rise = {"open": prices, "high": [p + 1 for p in prices], "low": [p - 1 for p in prices], "close": prices}
    changed = with_values(with_bars(record, **rise), "market_state", atr_14=4.0, vwap=None, vwap_sd1_up=None, vwap_sd1_down=None)
    assert features_of(changed, TICKS)["dow_trend_regime"] == pytest.approx(1.0)
    assert features_of(changed, SETTINGS)["dow_trend_regime"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("gamma", "close_to_wall", "expected"),
    [
        (0.0, 0.0, 0.65 * 1.0 + 0.10 * (1 - 1 / 3)),
        (0.0, 1.0, 0.65 * 0.5 + 0.10 * (1 - 1 / 3)),
        (-5.0, 0.0, 0.65 + 0.25 * (0.5 + 0.35 * 0.5) + 0.10 * (1 - 1 / 3)),
        (2.0, 0.0, 0.65 + 0.25 * 0.65 + 0.10 * (1 - 1 / 3)),
    ],
)
def test_gamma_proximity_by_hand(record: dict[str, Any], gamma: float, close_to_wall: float, expected: float) -> None:
    """Eight ticks are two points, twelve are three; the flip lies one point away."""
    close = record["market_state"]["close"]
    levels = {"call_wall": close + close_to_wall, "put_wall": close - 50, "gamma_flip": close - 1, "net_gamma": gamma}
    assert features_of(with_values(record, "market_structure", **levels), TICKS)["gamma_levels_proximity"] == pytest.approx(expected)


def test_level_proximity_takes_the_nearest_level(record: dict[str, Any]) -> None:
    close = record["market_state"]["close"]
    far = {"poc": close + 9, "vah": close + 9, "val": close - 9, "ppoc": None, "pvah": None, "pval": None}
    near_cluster = with_values(record, "market_structure", **far, volume_clusters=[close + 0.5, close + 40])
    assert features_of(near_cluster, TICKS)["level_proximity"] == pytest.approx(1 - 0.5 / 0.75)
    none_near = with_values(record, "market_structure", **far, volume_clusters=[])
    assert features_of(none_near, TICKS)["level_proximity"] == 0.0
    nothing = with_values(record, "market_structure", **dict.fromkeys(far), volume_clusters=[])
    assert math.isnan(features_of(nothing, TICKS)["level_proximity"])


@pytest.mark.parametrize(("ratio", "expected"), [(0.75, 0.4), (1.0, 0.16), (1.25, -0.08), (3.0, -0.44), (0.0, 0.94)])
def test_options_flow_by_hand(record: dict[str, Any], ratio: float, expected: float) -> None:
    """Calls are 70 % of the volume: 2 * (.6 pc + .4 * .7) - 1, pc = .7, .5, .3, 0 and 1.15."""
    flow = with_values(record, "market_structure", put_call_ratio=ratio, call_volume=700.0, put_volume=300.0)
    side = 1 if record["battle_navale"]["direction"] == "LONG" else -1
    assert features_of(flow)["options_flow_bias"] * side == pytest.approx(expected)


@pytest.mark.parametrize(("vix", "rank", "expected"), [(25.0, 0.8, 0.65), (None, 0.8, 0.8), (25.0, None, 0.5), (55.0, 1.0, 1.0)])
def test_market_volatility_falls_back(record: dict[str, Any], vix: float | None, rank: float | None, expected: float) -> None:
    changed = with_values(with_values(record, "market_structure", vix_level=vix), "market_state", atr_rank=rank)
    assert features_of(changed)["market_volatility"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("utc", "code"),
    [
        ("2024-07-01T13:30:00Z", 0.4),  # 09:30 in summer
        ("2024-01-02T13:30:00Z", 0.2),  # 08:30 in winter: the same UTC time, another phase
        ("2024-01-02T14:29:00Z", 0.2),
        ("2024-01-02T14:30:00Z", 0.4),
        ("2024-01-02T15:30:00Z", 0.6),
        ("2024-01-02T19:00:00Z", 0.8),
        ("2024-01-02T20:30:00Z", 1.0),
        ("2024-01-02T21:00:00Z", 0.1),
        ("2024-01-02T23:00:00Z", 0.0),
        ("2024-01-03T05:00:00Z", 0.0),
        ("2024-03-08T14:30:00Z", 0.4),  # Friday before the clocks change
        ("2024-03-11T13:30:00Z", 0.4),  # Monday after
    ],
)
def test_session_time_follows_new_york(record: dict[str, Any], utc: str, code: float) -> None:
    end = int(dt.datetime.fromisoformat(utc).timestamp())
    record["bars"]["start"] = [end - 300 * (32 - k) for k in range(32)]
    record["market_structure"]["options_asof"] = None
    assert features_of(record | {"decision_time": utc, "recorded_at": utc})["session_time"] == code


def test_momentum_means_five_minutes_on_any_bar(record: dict[str, Any]) -> None:
    prices = [5000.0] * 26 + [5001.0, 5002.0, 5003.0, 5004.0, 5005.0, 5006.0]
    bars = {"open": prices, "high": [p + 1 for p in prices], "low": [p - 1 for p in prices], "close": prices}
    changed = with_values(with_bars(record, **bars), "market_state", atr_14=2.0, vwap=None, vwap_sd1_up=None, vwap_sd1_down=None)
    side = 1 if changed["battle_navale"]["direction"] == "LONG" else -1
    assert features_of(changed)["recent_momentum"] * side == pytest.approx(math.tanh(1.0 / 2.0))
    end = changed["bars"]["start"][-1] + 60
    changed["bars"]["start"] = [end - 60 * (32 - k) for k in range(32)]
    assert features_of(changed)["recent_momentum"] * side == pytest.approx(math.tanh(5.0 / (2.0 * math.sqrt(5))))


def test_volume_confirmation_leaves_the_current_bar_out_of_the_mean(record: dict[str, Any]) -> None:
    """Volume is 1.8 times the ten bars before: .45; delta 100 of 200: .25; no aggressor detail; flat closes: .10."""
    changed = with_bars(record, **flat_bars(), volume=[100.0] * 31 + [180.0])
    changed["market_state"].update(order_flow={"bid_volume": 50.0, "ask_volume": 150.0})
    assert features_of(changed)["volume_confirmation"] == pytest.approx(0.45 + 0.25 + 0.20 * 0.5)


def test_sierra_strength_is_about_strength_not_direction(record: dict[str, Any]) -> None:
    parts = {"bn_signal": -0.5, "trend_continuation": -0.6, "pattern_quality": 0.4, "base": {"type": "red", "quality": 0.8}}
    value = features_of(with_values(record, "battle_navale", **parts))["sierra_pattern_strength"]
    assert value == pytest.approx(0.4 * 0.5 + 0.25 * 0.8 + 0.2 * 0.6 + 0.15 * 0.4)
