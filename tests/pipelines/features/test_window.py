from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipelines.baseline.replay import replay
from pipelines.contracts.base import ContractError
from pipelines.contracts.signal import Signal
from pipelines.contracts.tables import SignalTable
from pipelines.features.twelve import BLOCK_ROWS
from pipelines.features.window import CHANNELS, compute_window_one, compute_windows, windows_of_bars
from pipelines.market.frame import build_market
from pipelines.market.synthetic import synthesise
from pipelines.settings import load_settings
from tests.factories import make_trades, signal_dict

Floats = np.ndarray

MOVE, POSITION, RANGE, DISTANCE, VOLUME, GAP = range(len(CHANNELS))


@pytest.fixture(scope="module")
def replayed() -> SignalTable:
    settings = load_settings(overrides=["synthetic.sessions=30"])
    return replay(build_market(synthesise(settings, 3), settings), settings).signals


@st.composite
def bar_windows(draw: st.DrawFn, rows: int = 1) -> Floats:
    """Bars on the tick grid with gaps, flat bars and bars without volume."""
    shape = (rows, 32)
    move, up, down = (draw(hnp.arrays(np.int64, shape, elements=st.integers(low, 12))) for low in (-12, 0, 0))
    jump = draw(hnp.arrays(np.int64, shape, elements=st.integers(-4, 4)))
    steps = draw(hnp.arrays(np.int64, shape, elements=st.sampled_from([1, 1, 1, 1, 2, 13, 800])))
    volume = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 3000)))
    close = 20_000 + np.cumsum(move + jump, axis=1)
    opened = close - move
    columns = 1_700_000_100 + 300 * np.cumsum(steps, axis=1), opened, np.maximum(opened, close) + up, np.minimum(opened, close) - down
    bars = np.stack([*columns, close, volume], axis=2).astype(np.float64)
    bars[:, :, 1:5] *= 0.25
    return bars


def mirrored(bars: Floats, level: float) -> Floats:
    """The same bars upside down."""
    start, opened, high, low, close, volume = bars.transpose(2, 0, 1)
    return np.stack([start, 2 * level - opened, 2 * level - low, 2 * level - high, 2 * level - close, volume], axis=2)


def window_of(record: dict[str, Any]) -> Floats:
    return compute_window_one(Signal.model_validate(record))


def long_record(**bars: Any) -> dict[str, Any]:
    """A valid long signal with these bar columns."""
    record = copy.deepcopy(signal_dict(np.random.default_rng(1), 1))
    record["bars"].update(bars)
    columns = record["bars"]
    close = columns["close"][-1]
    record["market_state"].update({name: columns[name][-1] for name in ("open", "high", "low", "close")})
    record["market_state"].update(vwap=None, vwap_sd1_up=None, vwap_sd1_down=None)
    record["battle_navale"].update(direction="LONG", signal_type="LONG_TREND")
    record["execution_context"].update(stop_loss_price=close - 5, take_profit_price=close + 10)
    record["market_structure"]["options_asof"] = None
    return record


def bits(windows: Floats) -> Any:
    return windows.view(np.int64)


@pytest.mark.parametrize("rows", [1, 2, 7, 200])
def test_one_signal_and_a_table_give_the_same_bits(rows: int) -> None:
    signals = make_trades(rows, seed=rows).signals
    ones = np.array([compute_window_one(Signal.model_validate(record)) for record in signals.to_dicts()])
    table = compute_windows(signals)
    assert table.shape == (rows, 32, len(CHANNELS))
    np.testing.assert_array_equal(bits(ones), bits(table))


def test_one_signal_and_a_table_give_the_same_bits_on_replayed_signals(replayed: SignalTable) -> None:
    assert len(replayed) > 100
    ones = np.array([compute_window_one(Signal.model_validate(record)) for record in replayed.to_dicts()])
    np.testing.assert_array_equal(bits(ones), bits(compute_windows(replayed)))


def test_rows_do_not_depend_on_the_block_they_fall_into() -> None:
    signals = make_trades(50, seed=4).signals
    positions = np.arange(BLOCK_ROWS + 77) % 50
    np.testing.assert_array_equal(bits(compute_windows(signals.take(positions))), bits(compute_windows(signals)[positions]))


def test_every_value_is_a_float32(replayed: SignalTable) -> None:
    windows = compute_windows(replayed)
    np.testing.assert_array_equal(windows.astype(np.float32).astype(np.float64), windows)


def test_no_channel_is_dead_and_few_values_are_clipped(replayed: SignalTable) -> None:
    windows = compute_windows(replayed)
    # The baseline decides in hours whose last 32 bars have no break.
    assert (windows[:, :, :GAP].reshape(-1, GAP).std(axis=0) > 0.05).all()
    assert (np.abs(windows) >= 20.0).mean() < 0.001


def test_by_hand() -> None:
    """Thirty bars of range 2 that close in the middle, then a rise of 4, then a gap of an hour and a fall of 1.

    True ranges: 30 bars of 2; bar 30 from 4999 to 5005 is 6; bar 31 from 5001.5 up to the close before, 5004, is 2.5.
    """
    opened = [5000.0] * 30 + [5000.0, 5003.5]
    high = [5001.0] * 30 + [5005.0, 5003.5]
    low = [4999.0] * 30 + [4999.0, 5001.5]
    close = [5000.0] * 30 + [5004.0, 5003.0]
    start = [1704205800 + 300 * k for k in range(31)] + [1704205800 + 300 * 30 + 3600]
    volume = [100.0] * 31 + [300.0]
    end = start[-1] + 300
    record = long_record(start=start, open=opened, high=high, low=low, close=close, volume=volume)
    record["decision_time"] = record["recorded_at"] = f"{np.datetime64(end, 's')}Z"
    unit = (30 * 2.0 + 6.0 + 2.5) / 32
    usual = (31 * 100.0 + 300.0) / 32
    expected = np.zeros((32, 6))
    expected[30:, MOVE] = 4.0 / unit, -1.0 / unit
    expected[30:, POSITION] = 2 * 5 / 6 - 1, 2 * 1.5 / 2.0 - 1
    expected[:, RANGE] = [2.0 / unit] * 30 + [6.0 / unit, 2.0 / unit]
    expected[:, DISTANCE] = [-3.0 / unit] * 30 + [1.0 / unit, 0.0]
    expected[:, VOLUME] = [math.log1p(100.0 / usual)] * 31 + [math.log1p(300.0 / usual)]
    expected[31, GAP] = math.log(12.0)
    np.testing.assert_allclose(window_of(record), expected, rtol=1e-6)


def test_the_first_bar_moves_from_its_own_open() -> None:
    record = long_record(open=[4999.0] + [5000.0] * 31, high=[5000.0] * 32, low=[4999.0] + [5000.0] * 31, close=[5000.0] * 32)
    np.testing.assert_array_equal(window_of(record)[:, MOVE], [20.0] + [0.0] * 31)  # 1 point in a unit of 1/32, clipped


@given(bar_windows(rows=3), hnp.arrays(np.float64, 3, elements=st.sampled_from([-1.0, 1.0])), st.integers(19_000, 21_000))
def test_a_short_looks_like_the_long_in_the_mirrored_market(bars: Floats, side: Floats, level: int) -> None:
    np.testing.assert_array_equal(bits(windows_of_bars(mirrored(bars, level / 4), -side)), bits(windows_of_bars(bars, side)))


@given(bar_windows(rows=2), st.floats(0.01, 100.0), st.floats(-4000.0, 1e5), st.floats(0.001, 1000.0), st.integers(-(10**8), 10**8))
def test_units_of_price_volume_and_time_do_not_matter(bars: Floats, scale: float, shift: float, lots: float, seconds: int) -> None:
    side = np.array([1.0, -1.0])
    other = bars.copy()
    other[:, :, 1:5] = (bars[:, :, 1:5] + shift) * scale
    other[:, :, 5] *= lots
    other[:, :, 0] = (bars[:, :, 0] + seconds) / 5.0
    np.testing.assert_allclose(windows_of_bars(other, side), windows_of_bars(bars, side), rtol=0, atol=1e-4)


@given(bar_windows(rows=2))
def test_values_are_finite_and_bounded(bars: Floats) -> None:
    windows = windows_of_bars(bars, np.array([1.0, -1.0]))
    assert np.isfinite(windows).all()
    assert np.abs(windows).max() <= 20.0
    assert (np.abs(windows[:, :, POSITION]) <= 1.0).all()
    for channel in (RANGE, VOLUME, GAP):
        assert (windows[:, :, channel] >= 0.0).all()


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_dead_market_gives_zeros(side: float) -> None:
    bars = np.full((1, 32, 6), 5000.0)
    bars[:, :, 0] = 1_704_205_800 + 60 * np.arange(32)
    bars[:, :, 5] = 0.0
    np.testing.assert_array_equal(bits(windows_of_bars(bars, np.array([side]))), bits(np.zeros((1, 32, 6))))


def test_only_the_bars_and_the_direction_are_read() -> None:
    """Another decision time, other levels, another confidence: what the window cannot know, it does not show."""
    records = [signal_dict(np.random.default_rng(seed), 1) for seed in (1, 2)]
    donor, other = records
    other["bars"] = donor["bars"]
    other["market_state"] |= {name: donor["market_state"][name] for name in ("open", "high", "low", "close", "vwap")}
    other["market_state"].update(vwap=None)
    other["battle_navale"].update(direction=donor["battle_navale"]["direction"])
    other["execution_context"] = donor["execution_context"]
    other["decision_time"] = other["recorded_at"] = "2024-01-03T15:30:00+00:00"
    np.testing.assert_array_equal(window_of(other), window_of(donor))


def test_each_bar_enters_the_window() -> None:
    rng = np.random.default_rng(0)
    signals = make_trades(1).signals
    side = np.array([1.0])
    base = windows_of_bars(signals.bars, side)
    for bar in range(32):
        changed = signals.bars.copy()
        changed[0, bar, 2] += 1.0 + rng.random()
        assert (windows_of_bars(changed, side)[0, bar] != base[0, bar]).any(), bar


@pytest.mark.parametrize("count", [0, 31, 33])
def test_another_number_of_bars_is_refused(count: int) -> None:
    bars = np.ones((2, count, 6))
    bars[:, :, 0] = np.arange(count)
    with pytest.raises(
        ContractError, match=rf"a window of {count} bars of 6 columns; expected 32 closed bars .*; remedy: give the last 32"
    ):
        windows_of_bars(bars, np.ones(2))


def test_bars_of_another_form_are_refused() -> None:
    with pytest.raises(ContractError, match=r"32 bars of 5 columns; expected 32 closed bars of 6 columns \(start, open, high"):
        windows_of_bars(np.ones((1, 32, 5)), np.ones(1))
    with pytest.raises(ContractError, match=r"an array of shape \(32, 6\)"):
        windows_of_bars(np.ones((32, 6)), np.ones(1))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("field", "name"), [(0, "start"), (3, "low"), (5, "volume")])
def test_bars_that_are_not_finite_are_refused(value: float, field: int, name: str) -> None:
    bars = make_trades(3).signals.bars.copy()
    bars[1, 7, field] = value
    with pytest.raises(
        ContractError, match=rf"window 1: {name} of bar 7 is {value}; 1 value\(s\) .*; expected finite numbers; remedy: mend"
    ):
        windows_of_bars(bars, np.ones(3))


def test_bars_out_of_order_are_refused() -> None:
    bars = make_trades(2).signals.bars.copy()
    bars[1, 5, 0] = bars[1, 4, 0]
    with pytest.raises(
        ContractError, match=r"window 1: bar 5 starts at 17\d+, not after .*; expected starts that strictly increase; remedy"
    ):
        windows_of_bars(bars, np.ones(2))


def test_no_signals_make_no_windows() -> None:
    assert compute_windows(SignalTable.empty()).shape == (0, 32, len(CHANNELS))
