"""Bars in, market table out: every value of a row is known at the end of its bar.

Real bars are of the front contract, unadjusted, and jump where the contract rolls. What spans
trading days is computed on roll-free prices (price - offset, where offset is the sum of the roll
gaps so far), and price-like results get the row's own offset back, so that a level of yesterday
stands in today's contract. Prices are multiples of 0.25, so this is exact.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.contracts.base import MAX_CLUSTERS
from pipelines.market import indicators
from pipelines.market.calendar import TradingDays, trading_days, unix_seconds
from pipelines.market.inputs import MarketInputs
from pipelines.market.options import levels_asof
from pipelines.market.table import MARKET_SCHEMA, PHASES, Market
from pipelines.market.value_area import value_areas, volume_clusters
from pipelines.market.vix import vix_asof
from pipelines.settings import Settings

Floats = NDArray[np.float64]


def build_market(inputs: MarketInputs, settings: Settings) -> Market:
    """Compute the market table.

    Parameters
    ----------
    inputs
        Bars, and the other index, VIX and options where there are any; what is absent is missing
        in the table.
    settings
        The sections instrument and market are read.

    Returns
    -------
    Market
        One row per bar of `inputs.bars`. Option levels are carried however old they are;
        `options_asof` says since when they were known.

    Raises
    ------
    InputError
        The bars are of years that the calendar does not cover.
    """
    bars, market, tick = inputs.bars, settings.market, settings.instrument.tick_size
    start = unix_seconds(bars["ts"])
    end = start + 60 * inputs.bar_minutes
    days = trading_days(start, inputs.bar_minutes)
    offset = roll_offset(bars)
    raw = {name: bars[name].to_numpy(np.float64) for name in ("open", "high", "low", "close", "volume")}
    flat = {name: raw[name] - offset for name in ("open", "high", "low", "close")} | {"volume": raw["volume"]}

    columns: dict[str, object] = {
        **_time_columns(start, end, days),
        **raw,
        "offset": offset,
        **{name: _optional(bars, name) for name in ("bid_volume", "ask_volume", "spread_ticks")},
        **_session_so_far(flat, offset, days),
        **_vwap(flat, offset, days, market.slope_bars),
        **_volatility_and_trend(raw, flat, offset, days, settings, inputs.bar_minutes),
        **_value_areas(flat, offset, days, tick, market.value_area_share),
        **_other_index(inputs, raw["close"], start, market.correlation_bars, market.correlation_min_pairs),
        "vix_level": vix_asof(inputs.vix, end, market.vix_max_age_days),
        **levels_asof(inputs.options, end, raw["close"], offset),
    }
    frame = pd.DataFrame({name: columns[name] for name in MARKET_SCHEMA.columns}, copy=False)
    return Market(frame, _clusters(flat, offset, days, settings), inputs.bar_minutes, inputs.source)


def roll_offset(bars: pd.DataFrame) -> Floats:
    """Sum of the roll gaps from the first bar to each bar, points; price - offset is continuous.

    `adj` itself knows later rolls; its difference to the first bar's knows only past ones.
    """
    if "adj" not in bars:
        return np.zeros(len(bars))
    adj = bars["adj"].to_numpy(np.float64)
    return adj[0] - adj


def _optional(bars: pd.DataFrame, name: str) -> Floats:
    return bars[name].to_numpy(np.float64) if name in bars else np.full(len(bars), np.nan)


def _time_columns(start: NDArray[np.int64], end: NDArray[np.int64], days: TradingDays) -> dict[str, object]:
    return {
        "ts": pd.DatetimeIndex(pd.to_datetime(start, unit="s", utc=True)).as_unit("ns"),
        "end": pd.DatetimeIndex(pd.to_datetime(end, unit="s", utc=True)).as_unit("ns"),
        "session": days.session,
        "bar_in_session": days.bar_in_session,
        "is_regular": days.is_regular,
        "half_day": days.half_day,
        "phase": pd.array(np.array(PHASES, dtype=object)[days.phase], dtype="str"),
        "minutes_since_open": days.since_open,
        "minutes_to_close": days.to_close,
    }


def _session_so_far(flat: dict[str, Floats], offset: Floats, days: TradingDays) -> dict[str, object]:
    high, low, volume = flat["high"], flat["low"], flat["volume"]
    everything = np.ones(len(high), dtype=np.bool_)
    top, bottom = indicators.running_extremes(high, low, days.number, everything)
    # A bar that straddles the open would bring regular prices in; it counts as neither.
    before_open = days.since_open <= 0.0
    night_top, night_bottom = indicators.running_extremes(high, low, days.number, before_open)
    return {
        "session_high": top + offset,
        "session_low": bottom + offset,
        "session_volume": pd.Series(volume).groupby(days.number).cumsum().to_numpy(),
        "overnight_high": night_top + offset,
        "overnight_low": night_bottom + offset,
        "overnight_gap_percent": indicators.overnight_gap(flat["open"], flat["close"], offset, days.number, days.is_regular),
        "prev_session_high": previous_day(top, days) + offset,
        "prev_session_low": previous_day(bottom, days) + offset,
    }


def previous_day(values: Floats, days: TradingDays) -> Floats:
    """The value at the last bar of the trading day before; NaN on the first."""
    last_bar = np.flatnonzero(np.diff(days.number, append=days.number[-1] + 1))
    return np.concatenate([[np.nan], values[last_bar]])[days.number]


def _vwap(flat: dict[str, Floats], offset: Floats, days: TradingDays, slope_bars: int) -> dict[str, object]:
    vwap, sd = indicators.vwap_bands(flat["high"], flat["low"], flat["close"], flat["volume"], days.number)
    day_start = np.arange(len(vwap)) - days.bar_in_session
    return {
        "vwap": vwap + offset,
        "vwap_sd1_up": vwap + sd + offset,
        "vwap_sd1_down": vwap - sd + offset,
        "vwap_slope": indicators.slope(vwap, slope_bars, day_start),
    }


def _volatility_and_trend(
    raw: dict[str, Floats], flat: dict[str, Floats], offset: Floats, days: TradingDays, settings: Settings, bar_minutes: int
) -> dict[str, object]:
    market = settings.market
    atr = indicators.wilder_atr(flat["high"], flat["low"], flat["close"], market.atr_period)
    bars_per_year = indicators.TRADING_DAYS_PER_YEAR * indicators.TRADING_MINUTES_PER_DAY / bar_minutes
    direction, strength = indicators.trend(flat["high"], flat["low"], market.trend_bars, settings.instrument.tick_size)
    return {
        "atr_14": atr,
        "atr_rank": indicators.trailing_rank(atr, days.number, market.atr_rank_sessions, market.atr_rank_min_sessions),
        "realized_volatility": indicators.realized_volatility(log_returns(raw["close"], offset), market.volatility_bars, bars_per_year),
        "trend_direction": direction,
        "trend_strength": strength,
    }


def log_returns(close: Floats, offset: Floats) -> Floats:
    """Log returns bar to bar, the price before a roll brought to the new contract; the first is NaN."""
    before = close[:-1] + np.diff(offset)
    return np.concatenate([[np.nan], np.log(close[1:] / before)])


def _value_areas(flat: dict[str, Floats], offset: Floats, days: TradingDays, tick: float, share: float) -> dict[str, object]:
    poc, vah, val = value_areas(flat["high"], flat["low"], flat["volume"], days.number, tick, share)
    return {
        **{"poc": poc + offset, "vah": vah + offset, "val": val + offset},
        "ppoc": previous_day(poc, days) + offset,
        "pvah": previous_day(vah, days) + offset,
        "pval": previous_day(val, days) + offset,
    }


def _clusters(flat: dict[str, Floats], offset: Floats, days: TradingDays, settings: Settings) -> Floats:
    market = settings.market
    nodes = volume_clusters(
        *(flat["high"], flat["low"], flat["volume"], days.number),
        tick=settings.instrument.tick_size,
        reach=market.cluster_reach_ticks,
        count=market.volume_clusters,
    )
    result = np.full((len(offset), MAX_CLUSTERS), np.nan)
    later = days.number > 0
    result[later, : market.volume_clusters] = nodes[days.number[later] - 1] + offset[later, None]
    return result


def _other_index(inputs: MarketInputs, close: Floats, start: NDArray[np.int64], bars: int, min_pairs: int) -> dict[str, object]:
    missing = np.full(len(close), np.nan)
    if inputs.nq is None or inputs.nq.empty:
        return {"nq_close": missing, "es_nq_correlation": missing.copy()}
    nq_start = unix_seconds(inputs.nq["ts"])
    row = np.minimum(np.searchsorted(nq_start, start), len(nq_start) - 1)
    common = nq_start[row] == start
    nq_close = np.where(common, inputs.nq["close"].to_numpy(np.float64)[row], np.nan)
    # Only returns over exactly one bar within one contract are compared: a weekend's move or a
    # roll's jump would decide the correlation alone.
    contract, nq_contract = contract_number(inputs.bars), contract_number(inputs.nq)[row]
    one_bar = np.diff(start) == 60 * inputs.bar_minutes
    same = (np.diff(contract) == 0) & (np.diff(nq_contract) == 0)
    usable = np.concatenate([[False], one_bar & same])
    with np.errstate(invalid="ignore"):
        x = np.where(usable, np.concatenate([[np.nan], np.diff(np.log(close))]), np.nan)
        y = np.where(usable, np.concatenate([[np.nan], np.diff(np.log(nq_close))]), np.nan)
    return {"nq_close": nq_close, "es_nq_correlation": indicators.correlation(x, y, bars, min_pairs)}


def contract_number(bars: pd.DataFrame) -> NDArray[np.int64]:
    """0 for the first contract, 1 after the first roll, and so on, from `adj`, `roll` and `contract` where present."""
    changed = np.zeros(len(bars), dtype=np.bool_)
    if "adj" in bars:
        changed[1:] |= np.diff(bars["adj"].to_numpy(np.float64)) != 0.0
    if "contract" in bars:
        names = bars["contract"].to_numpy()
        changed[1:] |= names[1:] != names[:-1]
    if "roll" in bars:
        changed |= bars["roll"].to_numpy(np.bool_)
    return np.cumsum(changed)
