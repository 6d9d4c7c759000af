"""Small markets for the tests of the baseline: real columns, no calendar, no indicators beyond need."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipelines.contracts.base import MAX_CLUSTERS
from pipelines.market.table import _FLOAT, MARKET_SCHEMA, Market

OPEN_UTC = 14 * 60 + 30  # 09:30 in New York, winter
BEFORE = 40  # bars of the trading day before the regular open
DAY_BARS = BEFORE + 78


def market_of(
    opened, high, low, close, volume=None, *, atr=4.0, half_days=(), start="2024-01-08", bars_per_day=DAY_BARS, before=BEFORE, **columns
) -> Market:
    """Lay bars out over trading days of `bars_per_day` five-minute bars, `before` of them before 09:30."""
    n = len(close)
    day = np.arange(n) // bars_per_day
    slot = np.arange(n) % bars_per_day
    dates = pd.bdate_range(start, periods=int(day[-1]) + 1)
    minute = (slot - before) * 5
    ts = dates[day] + pd.to_timedelta(OPEN_UTC + minute, unit="min")
    ts = pd.DatetimeIndex(ts).tz_localize("UTC").as_unit("ns")
    half = np.isin(day, half_days)
    length = np.where(half, 210.0, 390.0)
    since = minute + 5.0
    frame = pd.DataFrame({name: np.full(n, np.nan) for name in _FLOAT})
    frame = frame.assign(open=opened, high=high, low=low, close=close, volume=1000.0 if volume is None else volume)
    frame = frame.assign(offset=0.0, minutes_since_open=since, minutes_to_close=length - since, atr_14=atr, trend_strength=0.3)
    frame["ts"] = ts
    frame["end"] = ts + pd.Timedelta(minutes=5)
    frame["session"] = pd.DatetimeIndex(dates[day]).as_unit("ns")
    frame["bar_in_session"] = slot.astype(np.int64)
    frame["is_regular"] = (minute >= 0) & (since <= length)
    frame["half_day"] = half
    frame["phase"] = np.where(minute >= 0, "midday", "pre_market")
    frame["trend_direction"] = np.int64(0)
    frame["options_asof"] = pd.Series(pd.NaT, index=frame.index, dtype="datetime64[ns, UTC]")
    frame = frame.assign(**columns)[list(MARKET_SCHEMA.columns)]
    return Market(frame, np.full((n, MAX_CLUSTERS), np.nan), 5, "simulated").validate()


def random_bars(n: int, seed: int, sd_ticks: float = 8.0) -> tuple[np.ndarray, ...]:
    """A random walk on the tick grid: open, high, low, close, volume."""
    rng = np.random.default_rng(seed)
    move = np.rint(rng.normal(0, sd_ticks, n))
    close = 20000 + np.cumsum(move)
    opened = np.concatenate([[20000.0], close[:-1]]) + rng.integers(-1, 2, n)
    high = np.maximum(opened, close) + rng.integers(0, max(2, int(sd_ticks)), n)
    low = np.minimum(opened, close) - rng.integers(0, max(2, int(sd_ticks)), n)
    return opened / 4, high / 4, low / 4, close / 4, rng.integers(200, 3000, n).astype(float)


def random_market(n: int, seed: int, **changes) -> Market:
    """A random market with bid and ask volumes, a spread, a VIX, a trend and levels that vary."""
    opened, high, low, close, volume = random_bars(n, seed)
    rng = np.random.default_rng(seed + 1000)
    share = rng.uniform(0.3, 0.7, n)
    extra = dict(  # noqa: C408
        bid_volume=np.rint(volume * share),
        ask_volume=np.rint(volume * (1 - share)),
        spread_ticks=rng.integers(1, 4, n).astype(float),
        vix_level=rng.uniform(10, 40, n),
        trend_strength=rng.uniform(0, 1, n),
        trend_direction=rng.integers(-1, 2, n),
        vwap=close - 1.0,
        vwap_sd1_up=close + 3.0,
        vwap_sd1_down=close - 5.0,
        vwap_slope=rng.normal(0, 0.5, n),
        es_nq_correlation=rng.uniform(-1, 1, n),
        atr_rank=rng.uniform(0, 1, n),
        poc=close + 1.0,
        vah=close + 2.0,
        val=close - 2.0,
        atr=rng.uniform(3, 5, n),
    )
    return market_of(opened, high, low, close, volume, **(extra | changes))
