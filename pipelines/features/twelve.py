"""The twelve model features (DOMAIN B): functions of the `Signal` alone.

Every feature is side-aligned: a higher value of `vwap_trend_signal`, `options_flow_bias` and
`recent_momentum` favours the trade, long or short. A missing input gives NaN; the model's
pipeline imputes it with the median of the training fold and adds a missing flag.

Distances and slopes are measured in ticks or in ATR14 (`features.scale`): the domain's tick
figures were set for quick bars, on which the ATR is about eight ticks.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipelines.contracts.base import TICK
from pipelines.contracts.signal import Signal
from pipelines.contracts.tables import BAR_FIELDS, SignalTable
from pipelines.features.inputs import FeatureInputs
from pipelines.new_york import new_york_minutes
from pipelines.settings import Features

Floats = NDArray[np.float64]

TREND_BARS = 20
"""Bars of the Dow regime (DOMAIN B.3)."""

CLOSE_BARS = 10
"""Closes of the consistency part of the VWAP trend (DOMAIN B.1)."""

BLOCK_ROWS = 4096
"""Rows computed at a time: their intermediate arrays stay in the processor's cache, so time grows with the rows only."""

_START, _OPEN, _HIGH, _LOW, _CLOSE, _VOLUME = range(len(BAR_FIELDS))


def compute(signals: SignalTable, settings: Features) -> Floats:
    """Compute the features of a table of signals.

    Parameters
    ----------
    signals
        n signals.
    settings
        Section `features` of the settings.

    Returns
    -------
    ndarray
        Shape (n, 12), columns `FEATURES`, NaN where an input is missing.
    """
    inputs = FeatureInputs.of_table(signals)
    matrix = np.empty((len(inputs), len(FEATURES)))
    for begin in range(0, len(inputs), BLOCK_ROWS):
        rows = slice(begin, begin + BLOCK_ROWS)
        matrix[rows] = _compute(inputs.rows(rows), settings)
    return matrix


def compute_one(signal: Signal, settings: Features) -> Floats:
    """Compute the features of one signal, by the same code; shape (12,)."""
    row: Floats = _compute(FeatureInputs.of_signal(signal), settings)[0]
    return row


def _compute(inputs: FeatureInputs, settings: Features) -> Floats:
    fresh = inputs.options_age_s <= settings.options_stale_s
    matrix = np.empty((len(inputs), len(_FORMULAS)))
    for column, formula in enumerate(_FORMULAS.values()):
        matrix[:, column] = formula(inputs, settings, fresh)
    return matrix


def _vwap_trend_signal(x: FeatureInputs, settings: Features, _: NDArray[np.bool_]) -> Floats:
    unit = _unit(x, settings, settings.distances.slope)
    slope = x["market_state.vwap_slope"] / unit
    strength = np.select([slope > 2.0, slope > 0.8, slope > -0.8, slope > -2.0], [0.30, 0.25, 0.15, 0.10], 0.0)
    drift = _slope(x.bars[:, -CLOSE_BARS:, _CLOSE]) / unit
    steady = np.minimum(np.abs(drift), 1.0)
    consistency = np.select([(drift > 0) & (slope > 0), (drift < 0) & (slope < 0)], [0.25 * steady, 0.25 * (1.0 - steady)], 0.125)
    highs, lows = _trend_slopes(x, unit)
    width = np.minimum(np.abs(highs + lows) / 2.0, 1.0)
    dow = np.select([(highs > 0) & (lows > 0), (highs < 0) & (lows < 0)], [0.1 + 0.1 * width, 0.1 - 0.1 * width], 0.1)
    value = np.clip(strength + _band_position(x) + consistency + dow, 0.0, 1.0)
    value = np.where(np.isnan(slope), np.nan, value)
    return np.where(x.side > 0, value, 1.0 - value)


def _band_position(x: FeatureInputs) -> Floats:
    """Place the close between the bands: 0 at the lower band, 0.125 at the VWAP, 0.25 at the upper band."""
    above = x["market_state.close"] - x["market_state.vwap"]
    up = x["market_state.vwap_sd1_up"] - x["market_state.vwap"]
    down = x["market_state.vwap"] - x["market_state.vwap_sd1_down"]
    width = np.where(above > 0, up, down)
    share = np.divide(above, width, out=np.where(np.isnan(width), np.nan, 0.0), where=width > 0)
    return 0.125 + 0.125 * np.clip(share, -1.0, 1.0)


def _sierra_pattern_strength(x: FeatureInputs, _s: Features, _f: NDArray[np.bool_]) -> Floats:
    score = 0.40 * np.abs(x["battle_navale.bn_signal"])
    base = 0.25 * _or_zero(x["battle_navale.base.quality"])
    trend = 0.20 * np.abs(_or_zero(x["battle_navale.trend_continuation"]))
    return score + base + trend + 0.15 * _or_zero(x["battle_navale.pattern_quality"])


def _dow_trend_regime(x: FeatureInputs, settings: Features, _: NDArray[np.bool_]) -> Floats:
    highs, lows = _trend_slopes(x, _unit(x, settings, settings.distances.slope))
    agree = np.sign(highs) * np.sign(lows) > 0
    value = np.where(agree, np.minimum((np.abs(highs) + np.abs(lows)) / 2.0, 1.0), 0.0)
    return np.where(np.isnan(highs), np.nan, value)


def _gamma_levels_proximity(x: FeatureInputs, settings: Features, fresh: NDArray[np.bool_]) -> Floats:
    close, call, put = x["market_state.close"], x["market_structure.call_wall"], x["market_structure.put_wall"]
    wall = _unit(x, settings, settings.distances.gamma_wall)
    nearest = np.fmax(_proximity(close - call, wall), _proximity(close - put, wall))
    flip = _or_zero(_proximity(close - x["market_structure.gamma_flip"], _unit(x, settings, settings.distances.gamma_flip)))
    value = 0.65 * nearest + 0.10 * flip
    if settings.include_gamma_regime:
        gamma = _or_zero(x["market_structure.net_gamma"])
        positive = np.select([close > call, close < put], [0.25, 0.75], 0.65)
        negative = 0.5 + 0.35 * np.minimum(np.abs(gamma) / 10.0, 1.0)
        value = value + 0.25 * np.select([gamma > 0, gamma < 0], [positive, negative], 0.0)
    return np.where(fresh, np.clip(value, 0.0, 1.0), np.nan)


def _level_proximity(x: FeatureInputs, settings: Features, _: NDArray[np.bool_]) -> Floats:
    names = ("poc", "vah", "val", "ppoc", "pvah", "pval")
    levels = np.column_stack([*(x[f"market_structure.{name}"] for name in names), x.clusters])
    distance = np.abs(levels - x["market_state.close"][:, np.newaxis])
    nearest = np.fmin.reduce(distance, axis=1)
    return _proximity(nearest, _unit(x, settings, settings.distances.level))


def _es_nq_correlation(x: FeatureInputs, _s: Features, _f: NDArray[np.bool_]) -> Floats:
    return x["market_structure.es_nq_correlation"]


def _volume_confirmation(x: FeatureInputs, _s: Features, _f: NDArray[np.bool_]) -> Floats:
    volume, close = x.bars[:, :, _VOLUME], x.bars[:, :, _CLOSE]
    usual = volume[:, -11:-1].mean(axis=1)
    burst = np.divide(volume[:, -1], usual, out=np.zeros_like(usual), where=usual > 0)
    sold, bought = x["market_state.order_flow.bid_volume"], x["market_state.order_flow.ask_volume"]
    traded = _or_zero(sold + bought)
    delta = x["market_state.order_flow.net_delta"]
    delta = np.abs(_or_zero(np.where(np.isnan(delta), bought - sold, delta)))
    aggressive = _or_zero(x["market_state.order_flow.aggressive_buys"] + x["market_state.order_flow.aggressive_sells"])
    imbalance = np.divide(delta, traded, out=np.zeros_like(traded), where=traded > 0)
    aggression = np.divide(aggressive, traded, out=np.zeros_like(traded), where=traded > 0)
    agreement = (np.abs(_correlation(volume[:, -5:], close[:, -5:])) + 1.0) / 2.0
    return (
        0.45 * np.minimum(burst / 1.8, 1.0)
        + 0.25 * np.minimum(2.2 * imbalance, 1.0)
        + 0.10 * np.minimum(8.0 * aggression, 1.0)
        + 0.20 * agreement
    )


def _options_flow_bias(x: FeatureInputs, _s: Features, fresh: NDArray[np.bool_]) -> Floats:
    ratio = x["market_structure.put_call_ratio"]
    low, high = 0.7 + 0.6 * (0.75 - ratio), 0.3 - np.minimum(0.4 * (ratio - 1.25), 0.3)
    # The domain's formula jumps by 0.2 at 0.75 and at 1.25; a straight line joins the two ends.
    between = 0.7 - 0.8 * (ratio - 0.75)
    by_ratio = np.select([ratio < 0.75, ratio > 1.25], [low, high], between)
    calls, puts = x["market_structure.call_volume"], x["market_structure.put_volume"]
    traded = _or_zero(calls + puts)
    by_volume = np.divide(_or_zero(calls), traded, out=np.full_like(traded, 0.5), where=traded > 0)
    value = 2.0 * np.clip(0.6 * by_ratio + 0.4 * by_volume, 0.0, 1.0) - 1.0
    return np.where(fresh, x.side * value, np.nan)


def _market_volatility(x: FeatureInputs, settings: Features, _: NDArray[np.bool_]) -> Floats:
    vix = np.clip((x["market_structure.vix_level"] - settings.vix_low) / settings.vix_span, 0.0, 1.0)
    rank = x["market_state.atr_rank"]
    both = 0.5 * vix + 0.5 * rank
    return np.where(np.isnan(vix), rank, np.where(np.isnan(rank), vix, both))


def _session_time(x: FeatureInputs, _s: Features, _f: NDArray[np.bool_]) -> Floats:
    return _PHASE_CODES[np.searchsorted(_PHASE_STARTS, new_york_minutes(x.seconds), side="right") - 1]


# New York minutes at which a phase begins: overnight, pre-market 04:00, open 09:30, midday 10:30,
# afternoon 14:00, close 15:30, after hours 16:00, overnight again 18:00 (DOMAIN B.10).
_PHASE_STARTS = np.array([0, 240, 570, 630, 840, 930, 960, 1080])
_PHASE_CODES = np.array([0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 0.1, 0.0])


def _bid_ask_spread(x: FeatureInputs, settings: Features, _: NDArray[np.bool_]) -> Floats:
    return np.clip(x["market_state.spread_ticks"] / settings.spread_full_ticks, 0.0, 1.0)


def _recent_momentum(x: FeatureInputs, _s: Features, _f: NDArray[np.bool_]) -> Floats:
    starts, close = x.bars[:, :, _START], x.bars[:, :, _CLOSE]
    bar_minutes = np.diff(starts, axis=1).min(axis=1) / 60.0
    bars = np.clip(np.rint(5.0 / bar_minutes), 1, starts.shape[1] - 1).astype(np.int64)
    before = close[np.arange(len(close)), -1 - bars]
    return x.side * np.tanh((close[:, -1] - before) / (x["market_state.atr_14"] * np.sqrt(bars)))


Formula = Callable[[FeatureInputs, Features, NDArray[np.bool_]], Floats]

_FORMULAS: dict[str, Formula] = {
    "vwap_trend_signal": _vwap_trend_signal,
    "sierra_pattern_strength": _sierra_pattern_strength,
    "dow_trend_regime": _dow_trend_regime,
    "gamma_levels_proximity": _gamma_levels_proximity,
    "level_proximity": _level_proximity,
    "es_nq_correlation": _es_nq_correlation,
    "volume_confirmation": _volume_confirmation,
    "options_flow_bias": _options_flow_bias,
    "market_volatility": _market_volatility,
    "session_time": _session_time,
    "bid_ask_spread": _bid_ask_spread,
    "recent_momentum": _recent_momentum,
}

FEATURES = tuple(_FORMULAS)
"""Names of the features, in the order of the matrix."""

SIGNED_FEATURES = frozenset(("es_nq_correlation", "options_flow_bias", "recent_momentum"))
"""Features whose range is [-1, 1]; the others lie in [0, 1]."""

FEATURE_VERSION = "1"
"""Version of the formulas; a model is served only by the version that it was trained with."""


def _unit(x: FeatureInputs, settings: Features, distance: float) -> Floats:
    """Express a distance of the settings in index points, per signal."""
    if settings.scale == "ticks":
        return np.full(len(x), distance * TICK)
    return distance * x["market_state.atr_14"]


def _trend_slopes(x: FeatureInputs, unit: Floats) -> tuple[Floats, Floats]:
    recent = x.bars[:, -TREND_BARS:]
    return _slope(recent[:, :, _HIGH]) / unit, _slope(recent[:, :, _LOW]) / unit


def _slope(series: Floats) -> Floats:
    """Fit a least-squares line through each row; returns its slope per bar, shape (n,)."""
    length = series.shape[1]
    weights = np.arange(length) - (length - 1) / 2.0
    # Prices are first taken relative to the row's start: a sum of large numbers would lose digits.
    return (series - series[:, :1]) @ weights / (weights @ weights)


def _proximity(distance: Floats, reach: Floats) -> Floats:
    return np.maximum(0.0, 1.0 - np.abs(distance) / reach)


def _correlation(left: Floats, right: Floats) -> Floats:
    """Correlate the rows of two arrays (Pearson); 0 where a row is constant."""
    a, b = left - left.mean(axis=1, keepdims=True), right - right.mean(axis=1, keepdims=True)
    scale = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return np.clip(np.divide((a * b).sum(axis=1), scale, out=np.zeros(len(a)), where=scale > 0), -1.0, 1.0)


def _or_zero(values: Floats) -> Floats:
    return np.where(np.isnan(values), 0.0, values)
