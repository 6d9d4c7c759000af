"""The rules of the score against bars made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.baseline.bases import Zones, find_zones
from pipelines.baseline.golden_rule import STATUS, golden_rule
from pipelines.baseline.patterns import PATTERNS, find_patterns
from pipelines.baseline.score import score
from pipelines.baseline.vikings import fight, trailing_mean
from pipelines.settings import load_settings
from tests.pipelines.baseline.markets import market_of, random_bars, random_market

TICKS = load_settings(overrides=["baseline.scale=ticks"])
RULES = TICKS.baseline
NONE = np.full(5, np.nan)


def fight_of(bars, volume=(1000.0,) * 5, sold=NONE, bought=NONE, reference=1000.0, count=5):
    opened, high, low, close = np.array(bars, dtype=float).T.copy()
    return fight(opened, high, low, close, np.array(volume), np.array(sold), np.array(bought), np.full(len(bars), reference), count)


GREEN = (100.0, 102.0, 100.0, 102.0)  # body ratio 1: 0.8 + 0.2 * volume / reference
RED = (102.0, 102.0, 100.0, 100.0)
WEAK_RED = (101.0, 102.0, 100.0, 100.0)  # body ratio 0.5: volume only
NEUTRAL = (101.0, 103.0, 100.0, 101.0)
DOT = (101.0, 101.0, 101.0, 101.0)


def test_vikings_by_hand():
    # Vikings 3 * (0.8 + 0.2), Defenders 0.2; the neutral bar belongs to nobody.
    found = fight_of([GREEN, GREEN, GREEN, WEAK_RED, NEUTRAL])
    assert found.balance[-1] == pytest.approx((3.0 - 0.2) / 3.2)
    assert found.balance[:4].tolist() == [0.0] * 4  # fewer than five bars: balanced
    assert found.colour.tolist() == [1, 1, 1, -1, 0]
    assert found.run.tolist() == [1, 2, 3, -1, 0]


def test_volume_counts_at_most_twice_the_reference():
    found = fight_of([GREEN, RED, NEUTRAL, NEUTRAL, NEUTRAL], volume=(9000.0, 500.0, 1.0, 1.0, 1.0))
    vikings, defenders = 0.8 + 0.4, 0.8 + 0.1
    assert found.balance[-1] == pytest.approx((vikings - defenders) / (vikings + defenders))


def test_order_flow_counts_once_and_on_its_own_side():
    sold, bought = np.array([*NONE[:4], 300.0]), np.array([*NONE[:4], 700.0])
    found = fight_of([GREEN, RED, NEUTRAL, NEUTRAL, NEUTRAL], sold=sold, bought=bought)
    # |delta| 400 of 1000: 0.2; bought share 0.7 > 0.6: 0.3.
    assert found.balance[-1] == pytest.approx(0.5 / 2.5)
    turned = fight_of([GREEN, RED, NEUTRAL, NEUTRAL, NEUTRAL], sold=bought, bought=sold)
    assert turned.balance[-1] == -found.balance[-1]


def test_no_delta_and_no_bodies_is_a_balanced_fight():
    assert fight_of([DOT] * 5, sold=np.full(5, 500.0), bought=np.full(5, 500.0)).balance[-1] == 0.0


def test_trailing_mean_needs_all_its_bars():
    assert trailing_mean(np.array([1.0, 2.0, 3.0, 7.0]), 3)[2:].tolist() == [2.0, 4.0]
    assert np.isnan(trailing_mean(np.array([1.0, 2.0, 3.0]), 3)[:2]).all()


def zone_bars(last_closes=(99.75, 99.75, 100.0, 100.25, 100.5), volume=(1000.0,) * 15):
    """Seven wide bars, then eight of 4 ticks; closes near 100."""
    high = np.array([104.0] * 7 + [100.5] * 8)
    low = np.array([96.0] * 7 + [99.5] * 8)
    close = np.array([100.0] * 10 + list(last_closes))
    return high, low, close, np.array(volume)


def test_base_by_hand():
    zones = find_zones(*zone_bars(), np.full(15, 0.25), RULES)
    # 0.30 * 0.8 + 0.20 * 1 (4 ticks) + 0.25 * 1 (steady volume) + 0.25 * 1 (all closes inside)
    assert zones.quality[-1] == pytest.approx(0.94)
    assert (zones.high[-1], zones.low[-1], zones.sign[-1], zones.duration[-1]) == (100.5, 99.5, 1, 8)
    assert np.isnan(zones.quality[:-1]).all()


def test_base_quality_falls_with_uneven_volume_and_closes_outside():
    high, low, close, _ = zone_bars(volume=(1000.0,) * 15)
    close[:3] = 101.0
    volume = np.array([1000.0] * 7 + [500.0, 1500.0] * 4)
    zones = find_zones(high, low, close, volume, np.full(15, 0.25), RULES)
    assert zones.quality[-1] == pytest.approx(0.24 + 0.20 + 0.25 * 0.5 + 0.25 * 12 / 15)


@pytest.mark.parametrize(
    ("closes", "sign"),
    [
        ((99.5, 99.75, 100.0, 100.25, 100.5), 1),
        ((100.5, 100.25, 100.0, 99.75, 99.5), -1),
        ((100.0,) * 5, 0),
        ((100.0, 100.25, 100.0, 100.25, 100.0), 0),
    ],
)
def test_base_colour_follows_the_drift_of_the_closes(closes, sign):
    assert find_zones(*zone_bars(closes), np.full(15, 0.25), RULES).sign[-1] == sign


def test_too_large_a_zone_is_no_base_and_the_atr_scale_measures_in_atr():
    high, low, close, volume = zone_bars()
    high[7:] = 102.25  # 11 ticks
    assert np.isnan(find_zones(high, low, close, volume, np.full(15, 0.25), RULES).quality[-1])
    atr = load_settings(overrides=["baseline.scale=atr"]).baseline
    assert find_zones(high, low, close, volume, np.full(15, 2.0), atr).quality[-1] == pytest.approx(0.94)  # 1.4 ATR
    assert np.isnan(find_zones(high, low, close, volume, np.full(15, np.nan), atr).quality[-1])


def test_scattered_closes_are_no_base():
    high, low, close, volume = zone_bars()
    close[:7] = [96.0, 104.0, 96.0, 104.0, 96.0, 104.0, 96.0]
    assert np.isnan(find_zones(high, low, close, volume, np.full(15, 0.25), RULES).quality[-1])


def rule_of(close, colour, bases, balance=None):
    """`bases`: bar -> (sign, low, high, quality)."""
    n = len(close)
    quality, high, low = np.full(n, np.nan), np.full(n, np.nan), np.full(n, np.nan)
    sign = np.zeros(n, dtype=np.int8)
    for at, (one, bottom, top, good) in bases.items():
        sign[at], low[at], high[at], quality[at] = one, bottom, top, good
    zones = Zones(quality, high, low, sign, np.full(n, 8))
    balance = np.zeros(n) if balance is None else np.array(balance)
    found = golden_rule(np.array(close, dtype=float), np.array(colour, dtype=np.int8), balance, zones, 0.25, RULES)
    return [STATUS[code] for code in found.status], found.continuation.tolist(), found.base_at.tolist()


def test_a_red_close_below_a_green_base_is_bearish():
    status, tc, base = rule_of([100, 99, 98, 99, 101], [1, 1, -1, 1, 1], {0: (1, 99.0, 101.0, 0.8)})
    assert status == ["weak_bullish", "weak_bullish", *["violation_confirmed"] * 3]
    assert tc == [0.2, 0.2, -0.6, -0.6, -0.6]
    assert base == [0] * 5


def test_a_green_close_above_a_red_base_is_bullish():
    status, tc, _ = rule_of([100, 101, 102], [-1, 1, 1], {0: (-1, 99.0, 101.0, 0.8)})
    assert status == ["weak_bearish", "weak_bearish", "violation_confirmed"]
    assert tc == [-0.2, -0.2, 0.6]


def test_the_rule_tolerates_half_a_tick_and_the_wrong_colour():
    # 98.875 is the edge; only a red bar may break a green base.
    assert rule_of([100, 98.875], [1, -1], {0: (1, 99.0, 101.0, 0.8)})[1] == [0.2, 0.2]
    assert rule_of([100, 90.0], [1, 1], {0: (1, 99.0, 101.0, 0.8)})[1] == [0.2, 0.2]
    assert rule_of([100, 98.75], [1, -1], {0: (1, 99.0, 101.0, 0.8)})[1] == [0.2, -0.6]


def test_the_newest_base_wins_whatever_its_colour():
    status, tc, base = rule_of([100, 100, 90], [0, 0, -1], {0: (-1, 99.0, 101.0, 0.8), 1: (1, 99.0, 101.0, 0.8)})
    assert (status[1], tc, base) == ("weak_bullish", [-0.2, 0.2, -0.6], [0, 1, 1])


def test_strong_needs_the_fight_on_the_same_side():
    bases = {0: (1, 99.0, 101.0, 0.8)}
    assert rule_of([100] * 4, [0] * 4, bases, [0.41, 0.39, -0.9, 0.5])[1] == [0.6, 0.2, 0.2, 0.6]
    assert rule_of([100] * 2, [0] * 2, {0: (-1, 99.0, 101.0, 0.8)}, [-0.41, 0.9])[1] == [-0.6, -0.2]


def test_a_poor_a_neutral_and_an_old_base_say_nothing():
    assert rule_of([100] * 2, [0] * 2, {0: (1, 99.0, 101.0, 0.5)})[2] == [-1, -1]
    assert rule_of([100] * 2, [0] * 2, {0: (0, 99.0, 101.0, 0.8)})[0] == ["unclear", "unclear"]
    _, tc, base = rule_of([100] * 23, [0] * 23, {1: (1, 99.0, 101.0, 0.8)})
    assert (tc[21], base[21], tc[22], base[22]) == (0.2, 1, 0.0, -1)


def pattern_of(bars, volume=1000.0):
    """Bars -2, -1, 0, +1; the pattern is read at the last."""
    opened, high, low, close = np.array(bars, dtype=float).T.copy()
    found = find_patterns(opened, high, low, close, np.full(4, volume), np.full(4, 1000.0), np.full(4, 0.25), RULES)
    assert found.strength[:3].max() == 0.0
    return PATTERNS[found.kind[-1]], found.strength[-1]


FLAT = (100.0, 100.0, 100.0, 100.0)


def test_long_down_up_bar():
    # H-1 - L0 = 3 points = 12 of 16 ticks; volume half the reference.
    kind, strength = pattern_of([FLAT, (101, 102, 100.5, 101), (100.75, 100.75, 99, 99.25), (99.5, 102.25, 99.5, 102)], 500.0)
    assert (kind, strength) == ("long_down_up_bar", pytest.approx(0.7 * 0.75 + 0.3 * 0.5))


@pytest.mark.parametrize("spoil", ["next open", "next high", "reach"])
def test_long_down_up_bar_needs_each_condition(spoil):
    bars = [FLAT, [101, 102, 100.5, 101], [100.75, 100.75, 99, 99.25], [99.5, 102.25, 99.5, 102]]
    match spoil:
        case "next open":
            bars[3][0] = 99.25
        case "next high":
            bars[3][1] = 102.0
        case "reach":
            bars[2][2] = 100.0
    assert pattern_of(bars) == ("none", 0.0)


def test_long_up_down_bar_is_the_mirror_image():
    bars = np.array([FLAT, (101, 102, 100.5, 101), (100.75, 100.75, 99, 99.25), (99.5, 102.25, 99.5, 102)])
    mirrored = 200.0 - bars[:, [0, 2, 1, 3]]
    assert pattern_of(mirrored, 500.0) == ("long_up_down_bar", pattern_of(bars, 500.0)[1])


def test_color_down_setting():
    # H-2 - L-1 = 4 points = 16 of 24 ticks.
    bars = [(103, 104, 102, 103), (102, 103.5, 100, 102.5), (102, 103, 99.5, 100), (99.75, 100, 99.25, 99.5)]
    assert pattern_of(bars) == ("color_down_setting", pytest.approx(0.8 * 16 / 24))


def test_score_adds_the_three_parts_and_is_odd_under_a_mirror():
    market = random_market(600, 3)
    found = score(market, TICKS)
    q = np.where(found.base_sign != 0, found.base_quality, 0.0)
    assert np.allclose(found.s, 0.4 * found.fight.balance + 0.35 * found.rule.continuation + 0.25 * found.base_sign * q)
    assert (found.side == 1).sum() > 20
    assert (found.side == -1).sum() > 20
    assert (np.sign(found.s) * (np.abs(found.s) > 0.25) == found.side).all()

    opened, high, low, close, volume = random_bars(600, 3)
    frame = market.frame
    turned = market_of(
        *(10000.0 - opened, 10000.0 - low, 10000.0 - high, 10000.0 - close, volume),
        bid_volume=frame["ask_volume"],
        ask_volume=frame["bid_volume"],
    )
    assert (score(turned, TICKS).s == -found.s).all()


def test_a_roll_changes_nothing_in_the_score():
    market = random_market(600, 4)
    jumped = market.frame.copy()
    later = np.arange(600) >= 300
    for name in ("open", "high", "low", "close"):
        jumped[name] += 62.5 * later
    jumped["offset"] = 62.5 * later
    rolled = score(type(market)(jumped, market.clusters, 5, "simulated"), TICKS)
    plain = score(market, TICKS)
    assert (rolled.s == plain.s).all()
    based = plain.rule.base_at >= 0
    assert (rolled.base_high[based] == (plain.base_high + 62.5 * later)[based]).all()
