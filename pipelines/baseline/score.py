"""The signed Battle Navale score of every bar (DOMAIN C.4).

    s = 0.40 * b + 0.35 * tc + 0.25 * sign(base) * q

b is the Vikings/Defenders balance, tc the golden rule's continuation, q the quality of the
newest base that counts. s is odd: a market turned upside down gives -s, so shorts are as
reachable as longs. Row t depends on bars up to t only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.baseline.bases import Zones, find_zones
from pipelines.baseline.golden_rule import GoldenRule, golden_rule
from pipelines.baseline.patterns import Patterns, find_patterns
from pipelines.baseline.vikings import Fight, fight, trailing_mean
from pipelines.market.table import Market
from pipelines.settings import Baseline, Settings

Floats = NDArray[np.float64]

BALANCE_WEIGHT = 0.40
CONTINUATION_WEIGHT = 0.35
BASE_WEIGHT = 0.25


@dataclass(frozen=True)
class Score:
    """What the rules see at each bar; every array has shape (n,).

    Attributes
    ----------
    s
        Signed score in [-0.845, 0.845]; positive favours a long.
    side
        +1 where s > threshold, -1 where s < -threshold, else 0.
    fight, zones, rule, patterns
        The parts.
    base_sign, base_quality, base_high, base_low, base_duration
        The newest base that counts: 0 and NaN where there is none. Edges in points of the bar's
        own contract.
    unit
        Points of one unit of the rules' distances: the tick, or ATR14.
    """

    s: Floats
    side: NDArray[np.int8]
    fight: Fight
    zones: Zones
    rule: GoldenRule
    patterns: Patterns
    base_sign: NDArray[np.int8]
    base_quality: Floats
    base_high: Floats
    base_low: Floats
    base_duration: Floats
    unit: Floats


def score(market: Market, settings: Settings) -> Score:
    """Score every bar of a market."""
    rules = settings.baseline
    tick = settings.instrument.tick_size
    offset = market.column("offset")
    opened, high, low, close = (market.column(name) - offset for name in ("open", "high", "low", "close"))
    volume = market.column("volume")
    reference = trailing_mean(volume, rules.volume_ref_bars)
    unit = unit_points(market, rules, tick)

    battle = fight(
        opened, high, low, close, volume, market.column("bid_volume"), market.column("ask_volume"), reference, rules.vikings_bars
    )
    zones = find_zones(high, low, close, volume, unit, rules)
    rule = golden_rule(close, battle.colour, battle.balance, zones, tick, rules)
    patterns = find_patterns(opened, high, low, close, volume, reference, unit, rules)

    known = rule.base_at >= 0
    base = np.maximum(rule.base_at, 0)
    sign = np.where(known, zones.sign[base], 0).astype(np.int8)
    quality = np.where(known, zones.quality[base], np.nan)
    pull = np.where(known, sign * np.where(known, quality, 0.0), 0.0)
    s = BALANCE_WEIGHT * battle.balance + CONTINUATION_WEIGHT * rule.continuation + BASE_WEIGHT * pull
    side = np.where(np.abs(s) > rules.signal_threshold, np.sign(s), 0.0).astype(np.int8)
    return Score(
        *(s, side, battle, zones, rule, patterns, sign, quality),
        base_high=np.where(known, zones.high[base] + offset, np.nan),
        base_low=np.where(known, zones.low[base] + offset, np.nan),
        base_duration=np.where(known, zones.duration[base], np.nan),
        unit=unit,
    )


def unit_points(market: Market, rules: Baseline, tick: float) -> Floats:
    """Index points of one unit of `rules.distances` at each bar; NaN where ATR14 is missing."""
    return np.full(len(market), tick) if rules.scale == "ticks" else market.column("atr_14").astype(np.float64)
